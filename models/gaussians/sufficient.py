"""Gaussian log densities of N rows under K components, and their weighted moments, by sufficient statistics.

With phi(x) = [1, x_i, x_i x_j for i <= j] every log Normal(x | k) is a scalar product eta_k . phi(x), so that all N x K
of them are one matrix product, and the moments an M-step needs are the transposed product. phi is only ever held for
some rows at a time.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["ByComponent", "ByFeatures", "Components", "Kernel", "Sums", "Tally", "Units", "expected_terms", "kernel_of"]

WIDEST = 64  # columns of x beyond which phi, quadratic in them, no longer pays
AMPLIFICATION = 1e6  # of rounding errors, by cancellation in eta . phi, beyond which it is left aside

Tally = tuple[Tensor, Tensor, Tensor]


class Components(NamedTuple):
    """K terms offset_k - |whitener_k (x - loc_k)|^2 / 2. offsets (K,), locs (K, D), whiteners (K, D, D).

    The log density of Normal(loc, C C^T) has the whitener C^-1.
    """

    offsets: Tensor
    locs: Tensor
    whiteners: Tensor


class Sums(NamedTuple):
    """Weighted moments: counts (K,), means (K, D), scatters about those means (K, D, D).

    Of an empty component the mean is finite and arbitrary. Where only squares were summed, scatters are diagonal.
    """

    counts: Tensor
    means: Tensor
    scatters: Tensor


@dataclass(frozen=True, eq=False)
class Units:
    """Where phi measures x from, and in what: loc (D,), scale (D,). squares: leave the products with i < j out."""

    loc: Tensor
    scale: Tensor
    squares: bool = False

    @property
    def size(self) -> int:
        """How many entries phi has: F = 1 + D (D + 3) / 2, or 1 + 2 D."""
        d = len(self.loc)
        return 1 + 2 * d if self.squares else 1 + d * (d + 3) // 2


@dataclass(frozen=True, eq=False)
class ByFeatures:
    """Terms and moments as products with phi. coefficients: eta, (K, F)."""

    coefficients: Tensor
    units: Units

    @property
    def width(self) -> int:
        """Numbers held for each row, F + K."""
        return self.units.size + len(self.coefficients)

    def rows(self, x: Tensor, out: Tensor) -> Tensor:
        """phi of each row: (n, D) -> (F, n), written into the front of `out`."""
        n, d = x.shape
        phi = out[: self.units.size * n].view(self.units.size, n)
        phi[0] = 1.0
        y = phi[1 : 1 + d]
        torch.sub(x.mT, self.units.loc.unsqueeze(-1), out=y)
        y.div_(self.units.scale.unsqueeze(-1))
        if self.units.squares:
            torch.mul(y, y, out=phi[1 + d :])
            return phi
        place = 1 + d
        for i in range(d):
            torch.mul(y[i], y[i:], out=phi[place : place + d - i])
            place += d - i
        return phi

    def terms(self, phi: Tensor) -> Tensor:
        """The terms of each row: (K, n)."""
        return self.coefficients @ phi

    def tally(self, phi: Tensor, responsibilities: Tensor) -> Tally:
        """Counts, first and second moments in the units of phi: (K,), (K, D), (K, D, D) or (K, D) if squares."""
        total, d = responsibilities @ phi.mT, len(self.units.loc)
        return total[:, 0], total[:, 1 : 1 + d], total[:, 1 + d :]

    def sums(self, tally: Tally) -> Sums:
        """The moments in the units of x."""
        counts, first, packed = tally
        y_means = first / counts.clamp(min=torch.finfo(counts.dtype).tiny).unsqueeze(-1)
        outer = counts[:, None, None] * y_means.unsqueeze(-1) * y_means.unsqueeze(-2)
        second = torch.diag_embed(packed) if self.units.squares else _unpacked(packed, len(self.units.loc))
        outer = torch.diag_embed(outer.diagonal(dim1=-2, dim2=-1)) if self.units.squares else outer
        scale = self.units.scale
        return Sums(counts, self.units.loc + scale * y_means, (second - outer) * scale * scale.unsqueeze(-1))

    def about(self, locs: Tensor, counts: Tensor, first: Tensor, packed: Tensor) -> tuple[Tensor, Tensor]:
        """First and second moments about locs (K, D), in the units of x: (K, D), (K, D, D). Weights may be negative."""
        y, scale = (locs - self.units.loc) / self.units.scale, self.units.scale
        away = first - counts.unsqueeze(-1) * y
        cross = first.unsqueeze(-1) * y.unsqueeze(-2)
        second = _unpacked(packed, len(scale)) - cross - y.unsqueeze(-1) * away.unsqueeze(-2)
        return away * scale, second * scale * scale.unsqueeze(-1)


@dataclass(frozen=True, eq=False)
class ByComponent:
    """Terms and moments one component after another, about its own location: slower, and free of cancellation."""

    components: Components

    @property
    def width(self) -> int:
        """Numbers held for each row, 3 D + K."""
        return 3 * self.components.locs.shape[-1] + len(self.components.offsets)

    def rows(self, x: Tensor, out: Tensor) -> Tensor:
        """The rows as they are: (n, D)."""
        return x

    def terms(self, x: Tensor) -> Tensor:
        """The terms of each row: (K, n)."""
        each = zip(*self.components, strict=True)
        return torch.stack([offset - ((x - loc) @ m.mT).square().sum(-1) / 2 for offset, loc, m in each])

    def tally(self, x: Tensor, responsibilities: Tensor) -> Tally:
        """Counts, first and second moments about each location: (K,), (K, D), (K, D, D)."""
        first, second = torch.zeros_like(self.components.locs), torch.zeros_like(self.components.whiteners)
        for k, (loc, r) in enumerate(zip(self.components.locs, responsibilities, strict=True)):
            centred = x - loc
            weighted = centred * r.unsqueeze(-1)
            first[k], second[k] = weighted.sum(0), weighted.mT @ centred
        return responsibilities.sum(-1), first, second

    def sums(self, tally: Tally) -> Sums:
        """The moments in the units of x."""
        counts, first, second = tally
        shift = first / counts.clamp(min=torch.finfo(counts.dtype).tiny).unsqueeze(-1)
        outer = counts[:, None, None] * shift.unsqueeze(-1) * shift.unsqueeze(-2)
        return Sums(counts, self.components.locs + shift, second - outer)


Kernel = ByFeatures | ByComponent


def kernel_of(components: Components, units: Units) -> Kernel:
    """By features where that is cheaper and as accurate, by component elsewhere."""
    d = len(units.loc)
    if d > WIDEST and not units.squares:
        return ByComponent(components)
    whiteners = components.whiteners * units.scale
    locs = (components.locs - units.loc) / units.scale
    shifted = (whiteners @ locs.unsqueeze(-1)).squeeze(-1)
    if not (shifted.square().sum(-1) < AMPLIFICATION).all():
        return ByComponent(components)
    precisions = whiteners.mT @ whiteners
    linear = (whiteners.mT @ shifted.unsqueeze(-1)).squeeze(-1)
    constant = components.offsets - shifted.square().sum(-1) / 2
    coefficients = torch.cat([constant.unsqueeze(-1), linear, _packed(precisions, units.squares)], -1)
    return ByFeatures(coefficients, units)


def expected_terms(components: Components, sums: Sums) -> Tensor:
    """sum_n r_nk term_nk of each component, from the moments alone: (..., K).

    The components may bear further dims in front, draws for example.
    """
    spread = (components.whiteners @ sums.scatters * components.whiteners).sum((-2, -1))
    away = (components.whiteners @ (sums.means - components.locs).unsqueeze(-1)).squeeze(-1)
    return sums.counts * (components.offsets - away.square().sum(-1) / 2) - spread / 2


def _packed(precisions: Tensor, squares: bool) -> Tensor:
    """The coefficients of x_i x_j, i <= j, in -x^T P x / 2: (K, D, D) -> (K, D (D + 1) / 2), or (K, D) if squares."""
    half = -precisions.diagonal(dim1=-2, dim2=-1) / 2
    if squares:
        return half
    rows, columns = torch.triu_indices(*precisions.shape[-2:], device=precisions.device)
    both = torch.where(rows == columns, 0.5, 1.0).to(precisions)
    return -precisions[:, rows, columns] * both


def _unpacked(packed: Tensor, d: int) -> Tensor:
    """The symmetric matrices whose upper triangles those are: (K, D (D + 1) / 2) -> (K, D, D)."""
    rows, columns = torch.triu_indices(d, d, device=packed.device)
    full = packed.new_empty(len(packed), d, d)
    full[:, rows, columns] = packed
    full[:, columns, rows] = packed
    return full
