"""The distributions that Pyro lacks."""

from __future__ import annotations

import math

import pyro.distributions as dist
import torch
from torch import Size, Tensor
from torch.distributions import constraints

from .mixture_density import FEATURES_HELD, mixture_log_density
from .units import CholeskyIn, RealVectorIn

__all__ = ["GaussianMixture", "NormalPrecisionCholesky", "WishartCholesky", "quadratic_features"]

FEW = 20_000  # numbers, rows times features times components: fewer are done by plain operations, which fuse


class WishartCholesky(dist.TorchDistribution):
    """The Cholesky factor L of a Wishart matrix: L L^T ~ Wishart(df, scale_tril scale_tril^T).

    Sampled by Bartlett's decomposition (Bartlett 1933), so draws are differentiable in both parameters.
    df: (...), above D - 1. scale_tril: (..., D, D). Event: (D, D). units: (D,), what row i of L is measured in where
    it is unconstrained; ones by default.
    """

    arg_constraints = {"df": constraints.positive, "scale_tril": constraints.lower_cholesky}
    has_rsample = True

    def __init__(
        self, df: Tensor, scale_tril: Tensor, units: Tensor | None = None, validate_args: bool | None = None
    ) -> None:
        batch_shape = torch.broadcast_shapes(df.shape, scale_tril.shape[:-2])
        self.df = df.expand(batch_shape)
        self.scale_tril = scale_tril.expand(batch_shape + scale_tril.shape[-2:])
        self.units = scale_tril.new_ones(scale_tril.shape[-1]) if units is None else units
        super().__init__(batch_shape, scale_tril.shape[-2:], validate_args=validate_args)

    def expand(self, batch_shape: Size, _instance: object = None) -> WishartCholesky:
        batch_shape = Size(batch_shape)
        scale_tril = self.scale_tril.expand(batch_shape + self.event_shape)
        return WishartCholesky(self.df.expand(batch_shape), scale_tril, self.units, validate_args=False)

    @property
    def support(self) -> CholeskyIn:
        """Cholesky factors in the units given."""
        return CholeskyIn(self.units)

    def _row_dfs(self) -> Tensor:
        """Degrees of freedom of the chi-square under each diagonal entry: df, df - 1, ... (..., D)."""
        return self.df.unsqueeze(-1) - torch.arange(self.event_shape[-1], dtype=self.df.dtype, device=self.df.device)

    def rsample(self, sample_shape: Size = torch.Size()) -> Tensor:
        shape = self._extended_shape(Size(sample_shape))
        diagonal = torch._standard_gamma(self._row_dfs().expand(shape[:-1]) / 2).mul(2).sqrt()
        below = torch.randn(shape, dtype=self.df.dtype, device=self.df.device).tril(-1)
        return self.scale_tril @ (below + torch.diag_embed(diagonal))

    def log_prob(self, value: Tensor) -> Tensor:
        size = self.event_shape[-1]
        identity = torch.eye(size, dtype=value.dtype, device=value.device)
        standard = torch.linalg.solve_triangular(self.scale_tril, identity, upper=False) @ value
        log_diagonal = value.diagonal(dim1=-2, dim2=-1).log()
        # Wishart density of L L^T times the Jacobian of L -> L L^T, 2^D prod_i l_ii^(D - i + 1): powers df - i.
        powers = self._row_dfs() - 1
        quadratic = standard.square().sum((-2, -1)) / 2
        return (powers * log_diagonal).sum(-1) - quadratic - self._log_normalizer() + size * math.log(2)

    def expected_log_det(self) -> Tensor:
        """E[log |L L^T|] (Bishop 2006, eq. 10.65): (...)."""
        log_det = 2 * self.scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return (self._row_dfs() / 2).digamma().sum(-1) + self.event_shape[-1] * math.log(2) + log_det

    def divergence(self, other: WishartCholesky) -> Tensor:
        """KL(this || other) in nats, that of the Wishart matrices: (...)."""
        size = self.event_shape[-1]
        trace = torch.linalg.solve_triangular(other.scale_tril, self.scale_tril, upper=False).square().sum((-2, -1))
        gain = (self.df - other.df) * self.expected_log_det() + self.df * (trace - size)
        return other._log_normalizer() - self._log_normalizer() + gain / 2

    def _log_normalizer(self) -> Tensor:
        """-log B(W, df) of the Wishart matrix (Bishop 2006, eq. B.79): (...)."""
        size, log_scale = self.event_shape[-1], self.scale_tril.diagonal(dim1=-2, dim2=-1).log()
        constant = self.df * size / 2 * math.log(2) + size * (size - 1) / 4 * math.log(math.pi)
        return constant + torch.lgamma(self._row_dfs() / 2).sum(-1) + self.df * log_scale.sum(-1)

    @property
    def mean(self) -> Tensor:
        """E[L], the scale times the mean chi of each row: (..., D, D)."""
        half = self._row_dfs() / 2
        chi = math.sqrt(2) * (torch.lgamma(half + 0.5) - torch.lgamma(half)).exp()
        return self.scale_tril * chi.unsqueeze(-2)


class NormalPrecisionCholesky(dist.TorchDistribution):
    """Multivariate normal given the Cholesky factor of its precision: x ~ Normal(loc, (P P^T)^-1).

    loc: (..., D). precision_tril: (..., D, D). Event: (D,). units: origin and scale, (D,) each, that x is measured in
    where it is unconstrained; 0 and 1 by default.
    """

    arg_constraints = {"loc": constraints.real_vector, "precision_tril": constraints.lower_cholesky}
    has_rsample = True

    def __init__(
        self,
        loc: Tensor,
        precision_tril: Tensor,
        units: tuple[Tensor, Tensor] | None = None,
        validate_args: bool | None = None,
    ) -> None:
        batch_shape = torch.broadcast_shapes(loc.shape[:-1], precision_tril.shape[:-2])
        self.loc = loc.expand(batch_shape + loc.shape[-1:])
        self.precision_tril = precision_tril.expand(batch_shape + precision_tril.shape[-2:])
        self.units = units
        super().__init__(batch_shape, loc.shape[-1:], validate_args=validate_args)

    def expand(self, batch_shape: Size, _instance: object = None) -> NormalPrecisionCholesky:
        batch_shape = Size(batch_shape)
        loc = self.loc.expand(batch_shape + self.event_shape)
        tril = self.precision_tril.expand(batch_shape + self.precision_tril.shape[-2:])
        return NormalPrecisionCholesky(loc, tril, self.units, validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """Real vectors, in the units given."""
        return constraints.real_vector if self.units is None else RealVectorIn(*self.units)

    def rsample(self, sample_shape: Size = torch.Size()) -> Tensor:
        shape = self._extended_shape(Size(sample_shape))
        noise = torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)
        tril = self.precision_tril.mT
        return self.loc + torch.linalg.solve_triangular(tril, noise.unsqueeze(-1), upper=True).squeeze(-1)

    def log_prob(self, value: Tensor) -> Tensor:
        standard = (self.precision_tril.mT @ (value - self.loc).unsqueeze(-1)).squeeze(-1)
        log_det = self.precision_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return log_det - (standard.square().sum(-1) + self.event_shape[-1] * math.log(2 * math.pi)) / 2

    @property
    def mean(self) -> Tensor:
        """The location: (..., D)."""
        return self.loc


class GaussianMixture(dist.TorchDistribution):
    """A mixture of K Gaussians with the component summed out: log sum_k w_k Normal(x | loc_k, (P_k P_k^T)^-1).

    On many rows all K log densities are one matrix product, since each is linear in phi(x) = [1, x_i, x_i x_j for
    i <= j], x taken in `units`. weights: (K,). locs: (K, D). precision_trils: (K, D, D). units: origin and scale of
    phi, (D,) each, best the data's mean and standard deviation. Batch shape (); event (D,).
    """

    arg_constraints = {
        "weights": constraints.simplex,
        "locs": constraints.independent(constraints.real_vector, 1),
        "precision_trils": constraints.independent(constraints.lower_cholesky, 1),
    }
    support = constraints.real_vector

    def __init__(
        self,
        weights: Tensor,
        locs: Tensor,
        precision_trils: Tensor,
        units: tuple[Tensor, Tensor],
        validate_args: bool | None = None,
    ) -> None:
        self.weights = weights
        self.locs = locs
        self.precision_trils = precision_trils
        self.units = units
        super().__init__(Size(), locs.shape[-1:], validate_args=validate_args)

    def expand(self, batch_shape: Size, _instance: object = None) -> dist.TorchDistribution:
        return dist.ExpandedDistribution(self, Size(batch_shape))

    def sample(self, sample_shape: Size = torch.Size()) -> Tensor:
        z = dist.Categorical(self.weights).sample(sample_shape)
        return NormalPrecisionCholesky(self.locs[z], self.precision_trils[z]).sample()

    def log_prob(self, value: Tensor) -> Tensor:
        loc, scale = self.units
        rows, size = value.reshape(-1, value.shape[-1]), value.shape[-1]
        log_det = self.precision_trils.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        offsets = self.weights.log() + log_det - size / 2 * math.log(2 * math.pi)
        whiteners, few = self.precision_trils.mT, rows.numel() * len(offsets) <= FEW
        if few:
            standard = whiteners @ (rows - loc).mT - whiteners @ (self.locs - loc).unsqueeze(-1)
            return torch.logsumexp(offsets.unsqueeze(-1) - standard.square().sum(-2) / 2, 0).reshape(value.shape[:-1])
        held = len(rows) * (1 + size * (size + 3) // 2) <= FEATURES_HELD
        phi = quadratic_features(((rows if held else rows[:0]) - loc) / scale).mT.contiguous()
        ahead = torch.is_grad_enabled() and (
            offsets.requires_grad or self.locs.requires_grad or whiteners.requires_grad
        )
        each, *_ = mixture_log_density(rows, phi, loc, scale, offsets, self.locs, whiteners, ahead)
        return each.reshape(value.shape[:-1])


def quadratic_features(x: Tensor) -> Tensor:
    """[1, x_i, x_i x_j for i <= j] of each row: (..., D) -> (..., 1 + D (D + 3) / 2)."""
    rows, columns = torch.triu_indices(x.shape[-1], x.shape[-1], device=x.device)
    return torch.cat([torch.ones_like(x[..., :1]), x, x[..., rows] * x[..., columns]], -1)
