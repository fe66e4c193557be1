"""Hand-written guides for DirichletProcessGMM: Beta sticks, the components as those of BayesianGMM."""

from dataclasses import dataclass

import pyro
import pyro.distributions as dist
from torch import Tensor
from torch.distributions import constraints

from ..display.objects import described
from ..models import DirichletProcessGMM
from ..models.gaussians.moments import as_matrix
from .assignments import AmortizedAssignments, RowAssignments
from .bayesian_gmm import Start, mean_field_components, start_of, structured_components

__all__ = ["Amortized", "FullMeanField", "MeanField", "Structured"]


@dataclass(frozen=True)
class Structured:
    """q = Gamma(alpha) prod_t Beta(sticks_t) Normal(loc_t | m_t, (beta_t precision_t)^-1) Wishart(precision_t).

    Params: those of `_sample_sticks`, and of `guides.bayesian_gmm.Structured` but for the weights.
    """

    _repr_html_ = described

    model: DirichletProcessGMM

    def __call__(self, x: Tensor) -> None:
        """Run the guide on x, (N, D) or (N,)."""
        x = as_matrix(x)
        start = start_of(self.model, x)
        _sample_sticks(self.model, x, start)
        structured_components(self.model, x, start)


@dataclass(frozen=True)
class MeanField:
    """q = Gamma(alpha) prod_t Beta(sticks_t) Normal(loc_t | m_t, S_t) Wishart(precision_t): every factor independent.

    Params: those of `_sample_sticks`, and of `guides.bayesian_gmm.MeanField` but for the weights.
    """

    _repr_html_ = described

    model: DirichletProcessGMM

    def __call__(self, x: Tensor) -> None:
        """Run the guide on x, (N, D) or (N,)."""
        x = as_matrix(x)
        start = start_of(self.model, x)
        _sample_sticks(self.model, x, start)
        mean_field_components(self.model, x, start)


@dataclass(frozen=True)
class FullMeanField:
    """`Structured` times an enumerated q(z_n) with parameters for each row: the family of CAVI (the paper's eq. 16)."""

    _repr_html_ = described

    model: DirichletProcessGMM

    def __call__(self, x: Tensor) -> None:
        """Run the guide on x, (N, D) or (N,)."""
        Structured(self.model)(x)
        RowAssignments(self.model)(x)


@dataclass(frozen=True)
class Amortized:
    """`Structured` times an enumerated q(z_n | x_n) from a small network."""

    _repr_html_ = described

    model: DirichletProcessGMM

    def __call__(self, x: Tensor) -> None:
        """Run the guide on x, (N, D) or (N,)."""
        Structured(self.model)(x)
        AmortizedAssignments(self.model)(x)


def _sample_sticks(model: DirichletProcessGMM, x: Tensor, start: Start) -> None:
    """q of the sticks, and of alpha where it is random.

    Params: sticks_concentration1 and sticks_concentration0 (T - 1,), the counts of a stick's own rows and of those
    behind it, as torch's Beta names them; concentration_shape and concentration_rate ().
    """
    alpha = model.mean_concentration
    counts = lambda: len(x) * start().weights  # noqa: E731
    own = pyro.param("sticks_concentration1", lambda: 1 + counts()[:-1], constraint=constraints.positive)
    behind = lambda: alpha + counts().flip(0).cumsum(0).flip(0)[1:]  # noqa: E731
    rest = pyro.param("sticks_concentration0", behind, constraint=constraints.positive)
    if model.concentration_prior is not None:
        first = x.new_tensor(model.concentration_prior[0] + model.components - 1)
        shape = pyro.param("concentration_shape", lambda: first, constraint=constraints.positive)
        rate = pyro.param("concentration_rate", lambda: first / alpha, constraint=constraints.positive)
        pyro.sample("concentration", dist.Gamma(shape, rate))
    pyro.sample("sticks", dist.Beta(own, rest).to_event(1))
