"""A proposal in unconstrained space: a mixture of Student t's, fitted to draws; its density over the model's sites."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping

import torch
from pyro.distributions import MultivariateStudentT
from sklearn.covariance import LedoitWolf
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from torch import Tensor
from torch.distributions import Categorical, Distribution, MixtureSameFamily

from ..density.log_density import Density

NUMBERS = (1, 2, 3, 4, 6, 8)  # of components that are tried
MIN_DRAWS_A_NUMBER = 2  # draws a number of a covariance, at least
DF = 7.0  # tails heavier than a posterior's commonly are


def fitted(flat: Tensor) -> Distribution:
    """A mixture of Student t's, event (dim,), about draws (S, dim): a Gaussian mixture by BIC, its tails widened.

    Where draws are few for their dimensions it is one t, with a shrunk covariance (Ledoit and Wolf 2004).
    """
    draws, dim = flat.shape
    loc, scale = flat.mean(0), flat.std(0)
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    points = ((flat - loc) / scale).cpu().double().numpy()
    most = draws // (MIN_DRAWS_A_NUMBER * (dim + dim * (dim + 1) // 2))
    if most < 1:
        shrunk = LedoitWolf().fit(points)
        weights, means, covariances = [1.0], [shrunk.location_], [shrunk.covariance_]
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # any mixture will do
            tried = [GaussianMixture(number, random_state=0).fit(points) for number in NUMBERS if number <= most]
        best = min(tried, key=lambda mixture: mixture.bic(points))
        weights, means, covariances = best.weights_, best.means_, best.covariances_
    tensor = lambda parts: torch.stack([torch.as_tensor(part) for part in parts]).to(flat)  # noqa: E731
    trils = torch.linalg.cholesky(tensor(covariances)) * scale.unsqueeze(-1)
    t = MultivariateStudentT(torch.tensor(DF).to(flat), loc + tensor(means) * scale, trils)
    return MixtureSameFamily(Categorical(tensor(weights)), t, validate_args=False)


def of_unconstrained(density: Density, log_prob: Callable[[Tensor], Tensor], sites: Mapping[str, Tensor]) -> Tensor:
    """A density of flat unconstrained vectors (S, dim) as one over the sites: (S,)."""
    flat = density.unconstrain(sites)
    return log_prob(flat) - density.constrain(flat)[1]
