"""Covariance structures of the mixtures: which parameters K component covariances have, and share."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Literal, get_args

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import constraints

from ...errors import InputError
from .distributions import WishartCholesky
from .units import CholeskyIn

__all__ = [
    "Covariance",
    "as_trils",
    "check_mixture",
    "inverse_tril",
    "laid_out",
    "precision_site",
    "precision_trils",
    "scale_trils",
    "structured",
]

Covariance = Literal["full", "diagonal", "tied", "spherical"]
_PRECISION_SITES: dict[Covariance, str] = {
    "full": "precision_trils",
    "tied": "precision_tril",
    "diagonal": "precisions",
    "spherical": "precisions",
}


def check_mixture(components: int, covariance: str, batch_size: int | None) -> None:
    """Refuse a structure that is none of the four, and sizes that are not whole and positive."""
    if covariance not in get_args(Covariance):
        raise InputError(f"covariance={covariance!r} is unknown: choose one of {', '.join(get_args(Covariance))}")
    for name, value in (("components", components), ("batch_size", batch_size)):
        if value is not None and (not isinstance(value, int) or value < 1):
            raise InputError(f"{name}={value!r} must be a whole number, 1 or more")


def inverse_tril(matrix: Tensor) -> Tensor:
    """The Cholesky factor of the inverse: (..., D, D)."""
    return torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(matrix)))


def structured(covariance: Covariance, covariances: Tensor, weights: Tensor) -> Tensor:
    """Free covariances pooled to that structure: (K, D, D), weights (K,) -> (K, D, D)."""
    if covariance == "full":
        return covariances
    if covariance == "tied":
        return (weights[:, None, None] * covariances).sum(0).expand_as(covariances)
    variances = covariances.diagonal(dim1=-2, dim2=-1)
    if covariance == "spherical":
        variances = variances.mean(-1, keepdim=True).expand_as(variances)
    return torch.diag_embed(variances)


def scale_trils(
    covariance: Covariance, components: int, units: Tensor, start: Callable[[], Tensor], prefix: str = ""
) -> Tensor:
    """The Cholesky factors of K covariances as `pyro.param`, (K, D, D).

    The param is `scale_trils` (K, D, D); `scale_tril` (D, D) where tied, `scales` (K, D) where diagonal and (K,) where
    spherical; with a prefix where one is given. units: (D,), the scale of each feature. start: gives the initial
    factors (K, D, D), asked for only where the param is new.
    """
    size = len(units)
    if covariance == "full":
        return pyro.param(prefix + "scale_trils", start, constraint=CholeskyIn(units))
    if covariance == "tied":
        tril = pyro.param(prefix + "scale_tril", lambda: start()[0], constraint=CholeskyIn(units))
        return tril.expand(components, size, size)
    if covariance == "diagonal":
        scales = pyro.param(
            prefix + "scales", lambda: start().diagonal(dim1=-2, dim2=-1), constraint=constraints.positive
        )
        return torch.diag_embed(scales)
    scales = pyro.param(prefix + "scales", lambda: start()[:, 0, 0], constraint=constraints.positive)
    return torch.diag_embed(scales.unsqueeze(-1).expand(components, size))


def laid_out(covariance: Covariance, trils: Tensor, prefix: str = "") -> dict[str, Tensor]:
    """Cholesky factors (K, D, D) as the values of the params of `scale_trils`, by name."""
    match covariance:
        case "full":
            return {prefix + "scale_trils": trils}
        case "tied":
            return {prefix + "scale_tril": trils[0]}
        case "diagonal":
            return {prefix + "scales": trils.diagonal(dim1=-2, dim2=-1)}
        case "spherical":
            return {prefix + "scales": trils[:, 0, 0]}


def precision_site(
    covariance: Covariance, df: Tensor, scale_tril: Tensor, units: Tensor | None = None
) -> tuple[str, dist.TorchDistribution]:
    """The name of the site of the precisions, and what it is drawn from.

    Each full (or the tied) precision is Wishart(df, W) with W = scale_tril scale_tril^T, and the site its Cholesky
    factor. A diagonal precision is D Wisharts of size one on the diagonal of W; a spherical one is their common value,
    Gamma(D df / 2, D / (2 W_11)).

    df: () or (K,); scale_tril: (D, D) or (K, D, D); without the K where tied. units: (D,), the scale of each feature's
    precision factor, for the bijection.
    """
    name = _PRECISION_SITES[covariance]
    if covariance in ("full", "tied"):
        return name, WishartCholesky(df, scale_tril, units)
    rates = 1 / (2 * scale_tril.diagonal(dim1=-2, dim2=-1).square())
    if covariance == "diagonal":
        return name, dist.Gamma((df / 2).unsqueeze(-1).expand(rates.shape), rates).to_event(1)
    size = scale_tril.shape[-1]
    return name, dist.Gamma(df * size / 2, rates[..., 0] * size)


def as_trils(covariance: Covariance, sites: Mapping[str, Tensor], components: int, size: int) -> Tensor:
    """The Cholesky factors of K precisions, (..., K, D, D), from the value of their site.

    That is (..., K, D, D); (..., D, D) where tied, (..., K, D) where diagonal and (..., K) where spherical.
    """
    precisions = sites[_PRECISION_SITES[covariance]]
    if covariance == "full":
        return precisions
    if covariance == "tied":
        return precisions.unsqueeze(-3).expand(*precisions.shape[:-2], components, size, size)
    if covariance == "spherical":
        precisions = precisions.unsqueeze(-1).expand(*precisions.shape, size)
    return torch.diag_embed(precisions.sqrt())


def precision_trils(
    covariance: Covariance, plate: pyro.plate, df: Tensor, scale_tril: Tensor, units: Tensor | None = None
) -> Tensor:
    """Sample the precisions of K components; their Cholesky factors, (K, D, D).

    plate: of the K components. df, scale_tril, units: as `precision_site` has them. Sites: `precision_trils`
    (K, D, D), `precision_tril` (D, D) where tied, `precisions` (K, D) where diagonal and (K,) where spherical.
    """
    name, fn = precision_site(covariance, df, scale_tril, units)
    infer = {"event_dims": ["features", "features_bis"][: fn.event_dim]}
    with nullcontext() if covariance == "tied" else plate:
        sites = {name: pyro.sample(name, fn, infer=infer)}
    return as_trils(covariance, sites, plate.size, scale_tril.shape[-1])
