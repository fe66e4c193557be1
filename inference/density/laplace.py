"""Laplace's approximation: a Gaussian with the posterior's own curvature at its mode."""

from collections.abc import Callable

import torch
from torch import Tensor

from ...errors import InputError
from ..compilation.graph import graph_of
from .log_density import Density, Sites

NEWTON_STEPS = 20


def laplace(density: Density, near: Sites) -> torch.distributions.MultivariateNormal:
    """Normal(mode, H^-1) in unconstrained space, H the Hessian of -log density there (MacKay 2003, chapter 27).

    near: sites close to the mode, which Newton's method then finds. Discrete sites are summed out.
    Raises InputError where the curvature is not that of a mode.
    """
    flat = density.unconstrain(near).detach()
    potential = lambda u: -density.log_density(u)  # noqa: E731
    graph = graph_of(potential, (flat,), (flat + 0.1,)) or potential
    for _ in range(NEWTON_STEPS):
        gradient = torch.autograd.functional.jacobian(graph, flat)
        step = torch.cholesky_solve(gradient.unsqueeze(-1), _hessian_factor(graph, flat)).squeeze(-1)
        size = 1.0
        while size > 1e-3 and not graph(flat - size * step) <= graph(flat):
            size /= 2
        flat = flat - size * step
        if gradient @ step < 1e-12:
            break
    covariance = torch.cholesky_inverse(_hessian_factor(graph, flat))
    return torch.distributions.MultivariateNormal(flat, covariance, validate_args=False)


def _hessian_factor(potential: Callable[[Tensor], Tensor], flat: Tensor) -> Tensor:
    """The Cholesky factor of the Hessian."""
    hessian = torch.autograd.functional.hessian(potential, flat)
    factor, failed = torch.linalg.cholesky_ex((hessian + hessian.mT) / 2)
    if failed or not hessian.isfinite().all():
        raise InputError("the posterior has no mode where the optimizer stopped: train longer, or use auto_mvn")
    return factor
