"""The mean of a correlated Gaussian: where mean field is seen to fail, and by how much."""

import math
from dataclasses import dataclass

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from ..display.objects import described
from ..errors import InputError
from .gaussians.moments import as_matrix, check_table, rows_of

__all__ = ["CorrelatedGaussian"]


@dataclass(frozen=True)
class CorrelatedGaussian:
    """Unknown mean, known correlated covariance: the posterior is a correlated Gaussian (Bishop 2006, section 10.1.2).

    loc ~ Normal(0, prior_scale^2 I),   x_n ~ Normal(loc, covariance)
    covariance = [[scales_1^2, c], [c, scales_2^2]],   c = correlation scales_1 scales_2

    x: (N, 2). Sites: loc (2,), x (N, 2).

    Parameters
    ----------
    correlation : of the two columns, between -1 and 1; that of the posterior nears it as prior_scale grows.
    scales : the columns' standard deviations.
    prior_scale : of loc.
    batch_size : rows a minibatch; None takes all of them.
    """

    _repr_html_ = described

    correlation: float = 0.9
    scales: tuple[float, float] = (1.0, 1.0)
    prior_scale: float = 100.0
    batch_size: int | None = None

    def __post_init__(self) -> None:
        if not -1 < self.correlation < 1:
            raise InputError(f"correlation={self.correlation} must lie between -1 and 1")
        if len(self.scales) != 2 or not all(0 < scale < math.inf for scale in (*self.scales, self.prior_scale)):
            raise InputError(
                f"scales={self.scales}, prior_scale={self.prior_scale} must be two and one positive numbers"
            )

    def __call__(self, x: Tensor) -> None:
        """Run the program on x, (N, 2)."""
        x = _two_columns(x)
        prior = dist.MultivariateNormal(
            x.new_zeros(2), self.prior_scale**2 * torch.eye(2, dtype=x.dtype, device=x.device)
        )
        loc = pyro.sample("loc", prior, infer={"event_dims": ["features"]})
        with pyro.plate("data", len(x), subsample_size=self.batch_size, dim=-1) as rows:
            normal = dist.MultivariateNormal(loc, self.covariance(x))
            pyro.sample("x", normal, obs=rows_of(x, rows), infer={"event_dims": ["features"]})

    def covariance(self, like: Tensor) -> Tensor:
        """The known covariance of a row, in the dtype of `like`: (2, 2)."""
        scales = torch.as_tensor(self.scales, dtype=like.dtype, device=like.device)
        correlations = torch.full((2, 2), self.correlation, dtype=like.dtype, device=like.device)
        return scales.outer(scales) * correlations.fill_diagonal_(1.0)

    def posterior(self, x: Tensor) -> dist.MultivariateNormal:
        """The exact p(loc | x): Normal(m, P^-1), P m = covariance^-1 sum x_n.

        P = I / prior_scale^2 + N covariance^-1.
        """
        precision = torch.linalg.inv(self.covariance(x))
        whole = len(x) * precision + torch.eye(2, dtype=x.dtype, device=x.device) / self.prior_scale**2
        return dist.MultivariateNormal(torch.linalg.solve(whole, precision @ x.sum(0)), precision_matrix=whole)

    def prepare(self, values: Tensor, columns: tuple[str, ...]) -> Tensor:
        """The rows, (N, 2), if there are two or more and no column is constant."""
        return _two_columns(check_table(values, columns))

    def init(self, x: Tensor, seed: int | None = None) -> dict[str, Tensor]:
        """The mean of each column; seed is not needed."""
        return {"loc": x.mean(0)}


def _two_columns(x: Tensor) -> Tensor:
    """x as it is, (N, 2); another number of columns is refused."""
    x = as_matrix(x)
    if x.shape[1] != 2:
        raise InputError(f"CorrelatedGaussian is a model of two columns, and x has {x.shape[1]}: choose two of them")
    return x
