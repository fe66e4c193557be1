"""Supports that know the data's units, so that unconstrained space is the same whatever the data are measured in.

A site with such a support keeps its value in the units of the data. Its bijection, which AutoGuides, NUTS and
`pyro.param` look up by the support, measures in standard deviations: one step size then suits seconds and light years.
"""

from __future__ import annotations

import math

import torch
from torch import Size, Tensor
from torch.distributions import biject_to, constraints, transform_to
from torch.distributions.transforms import AffineTransform, Transform

__all__ = ["CholeskyIn", "PackedCholesky", "RealVectorIn"]


class RealVectorIn(constraints.Constraint):
    """Real vectors measured from `loc` in units of `scale`: both (D,)."""

    event_dim = 1

    def __init__(self, loc: Tensor, scale: Tensor) -> None:
        self.loc = loc
        self.scale = scale

    def check(self, value: Tensor) -> Tensor:
        """Whether each vector is real: (..., D) -> (...)."""
        return constraints.real_vector.check(value)


class CholeskyIn(constraints.Constraint):
    """Lower-triangular matrices with a positive diagonal, row i measured in units of scale_i: scale (D,)."""

    event_dim = 2

    def __init__(self, scale: Tensor) -> None:
        self.scale = scale

    def check(self, value: Tensor) -> Tensor:
        """Whether each matrix is such a factor: (..., D, D) -> (...)."""
        return constraints.lower_cholesky.check(value)


class PackedCholesky(Transform):
    """Bijection from D(D+1)/2 reals to lower-triangular matrices with a positive diagonal.

    The first D reals are the logarithms of the diagonal, the rest fill the strict lower triangle row by row; then row
    i is multiplied by scale_i. (..., D(D+1)/2) <-> (..., D, D). scale: (D,).
    """

    domain = constraints.real_vector
    bijective = True

    def __init__(self, scale: Tensor, cache_size: int = 0) -> None:
        super().__init__(cache_size=cache_size)
        self.scale = scale
        self.codomain = CholeskyIn(scale)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PackedCholesky) and torch.equal(self.scale, other.scale)

    def with_cache(self, cache_size: int = 1) -> PackedCholesky:
        """The same bijection with a cache of that size."""
        return PackedCholesky(self.scale, cache_size)

    def _call(self, x: Tensor) -> Tensor:
        size = len(self.scale)
        rows, columns = torch.tril_indices(size, size, -1, device=x.device)
        places = torch.cat([torch.arange(size, device=x.device) * (size + 1), rows * size + columns])
        values = torch.cat([x[..., :size].exp(), x[..., size:]], -1)
        flat = torch.zeros(*x.shape[:-1], size * size, dtype=x.dtype, device=x.device)
        return flat.index_add(-1, places, values).unflatten(-1, (size, size)) * self.scale.unsqueeze(-1)

    def _inverse(self, y: Tensor) -> Tensor:
        standard = y / self.scale.unsqueeze(-1)
        size = len(self.scale)
        rows, columns = torch.tril_indices(size, size, -1, device=y.device)
        return torch.cat([standard.diagonal(dim1=-2, dim2=-1).log(), standard[..., rows, columns]], -1)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """log |d y / d x|, over the entries on and below the diagonal: (...)."""
        size = len(self.scale)
        entries = torch.arange(1, size + 1, dtype=x.dtype, device=x.device)
        return x[..., :size].sum(-1) + (entries * self.scale.log()).sum()

    def forward_shape(self, shape: Size) -> Size:
        """(..., D(D+1)/2) -> (..., D, D)."""
        size = (math.isqrt(1 + 8 * shape[-1]) - 1) // 2
        return Size((*shape[:-1], size, size))

    def inverse_shape(self, shape: Size) -> Size:
        """(..., D, D) -> (..., D(D+1)/2)."""
        return Size((*shape[:-2], shape[-1] * (shape[-1] + 1) // 2))


@biject_to.register(CholeskyIn)
@transform_to.register(CholeskyIn)
def _packed_cholesky(constraint: CholeskyIn) -> PackedCholesky:
    return PackedCholesky(constraint.scale)


@biject_to.register(RealVectorIn)
@transform_to.register(RealVectorIn)
def _affine(constraint: RealVectorIn) -> AffineTransform:
    return AffineTransform(constraint.loc, constraint.scale, event_dim=1)
