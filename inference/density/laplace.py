"""Laplace's approximation: a Gaussian with a density's own curvature at its mode (MacKay 2003, chapter 27)."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

NEWTON_STEPS, HALVINGS = 30, 20
ARRIVED = 1e-3  # nats: twice what one more step would gain by the curvature


def row_modes(
    log_joint: Callable[[Tensor], Tensor], start: Tensor, widen: float = 1.0
) -> tuple[MultivariateNormal, Tensor]:
    """Laplace's approximation of each row's z by Newton's method with halved steps, all rows at once.

    log_joint: (M, L) -> (M,), rows apart from one another. start: (M, L). widen: factor of the covariances. Returns the
    approximation, batch (M,), event (L,), and whether each row has a mode, (M,).
    """
    z = start.detach()
    value, gradient, precision = _derivatives(log_joint, z)
    for _ in range(NEWTON_STEPS):
        step = _newton(gradient, precision)
        for _ in range(HALVINGS):
            with torch.no_grad():
                better = (log_joint(z + step) >= value - 1e-10 * value.abs()).unsqueeze(-1)
            if better.all():
                break
            step = torch.where(better, step, step / 2)
        step = torch.where(better, step, 0.0)
        z = z + step
        value, gradient, precision = _derivatives(log_joint, z)
        if (gradient * step).sum(-1).abs().max() < 1e-10:
            break
    found = (torch.linalg.cholesky_ex(precision).info == 0) & _sound(precision).all(-1).all(-1)
    found = found & ((gradient * _newton(gradient, precision)).sum(-1) < ARRIVED)
    return MultivariateNormal(z, precision_matrix=positive_definite(precision) / widen, validate_args=False), found


def _derivatives(log_joint: Callable[[Tensor], Tensor], z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Value (M,), gradient (M, L) and minus the Hessian (M, L, L) of each row."""
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        value = log_joint(z)
        (gradient,) = torch.autograd.grad(value.sum(), z, create_graph=True)
        columns = [
            torch.autograd.grad(column.sum(), z, retain_graph=True)[0] if column.requires_grad else torch.zeros_like(z)
            for column in gradient.unbind(-1)
        ]
    return value.detach(), gradient.detach(), -torch.stack(columns, -1).detach()


def positive_definite(precision: Tensor) -> Tensor:
    """The nearest matrix whose eigenvalues are all positive: negative ones turned over, small ones lifted.

    Small is in units of the diagonal, so that it does not matter in which units z is.
    """
    precision = torch.where(_sound(precision), (precision + precision.mT) / 2, 0.0)
    units = precision.diagonal(dim1=-2, dim2=-1).abs().sqrt()
    units = torch.where(units > 0, units, 1.0)
    values, vectors = torch.linalg.eigh(precision / (units.unsqueeze(-1) * units.unsqueeze(-2)))
    values = values.abs()
    values = values.maximum((1e-12 * values.amax(-1, keepdim=True)).clamp(min=1e-6))  # which a factorization bears
    roots = units.unsqueeze(-1) * vectors
    return (roots * values.unsqueeze(-2)) @ roots.mT


def _sound(precision: Tensor) -> Tensor:
    """Which entries, and those across from them, can be squared: NaN cannot either."""
    small = precision.abs() < torch.finfo(precision.dtype).max ** 0.5
    return small & small.mT


def _newton(gradient: Tensor, precision: Tensor) -> Tensor:
    """The step towards the mode, (M, L)."""
    return torch.linalg.solve(positive_definite(precision), gradient.unsqueeze(-1)).squeeze(-1)
