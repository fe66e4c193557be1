"""The evidence of small conjugate mixtures, summed over every assignment of rows to components."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import InputError
from ...models import BayesianGMM, DirichletProcessGMM, UnivariateMixture
from ...models.gaussians.covariance import Covariance
from ...models.gaussians.moments import as_matrix, units
from ...models.gaussians.sufficient import Sums, Units
from ...models.structure import Model, model_name
from ..closed_form.conjugate import MixtureFamily, UnivariateFamily, prior_of
from ..data.as_data import DataLike, data_for
from ..density.batch_size import on_all_rows

MAX_PARTITIONS = 1_000_000
AT_ONCE = 20_000  # partitions


def exact_log_evidence(model: Model, x: DataLike) -> float:
    """log p(x) of a conjugate mixture with no error but rounding, nats.

    p(x) = sum_z p(z) p(x | z), every parameter integrated out. Components are exchangeable, so that assignments that
    differ by their labels alone count once each: a partition of the rows into k of K blocks stands for K! / (K - k)!
    of the K^N assignments.

    Parameters
    ----------
    model : BayesianGMM, of any covariance, or UnivariateMixture.
    x : (N, D) or (N,), as `compare` takes it; up to a million partitions: 13 rows in three components, 20 in two, any
        number in one.

    Raises
    ------
    InputError
        Another model, or too many partitions.

    Examples
    --------
    >>> import numpy as np
    >>> import pyrometer
    >>> from pyrometer.models import UnivariateMixture
    >>> x = np.array([-4.0, -3.0, 3.0, 4.0, 5.0])
    >>> round(pyrometer.exact_log_evidence(UnivariateMixture(components=2), x), 4)
    -13.3045
    """
    if not isinstance(model, BayesianGMM | UnivariateMixture) or isinstance(model, DirichletProcessGMM):
        known = "BayesianGMM and UnivariateMixture have"
        raise InputError(f"model {model_name(model)} has no exact evidence: {known}; take bridge(nuts(model, x))")
    data, _ = data_for(on_all_rows(model), x)
    rows = as_matrix(data.values).double()
    number, components = len(rows), model.components
    if (partitions := _number_of_partitions(number, components)) > MAX_PARTITIONS:
        many = f"{number} rows make {partitions:.3g} partitions into {components} components, over {MAX_PARTITIONS:.0e}"
        raise InputError(f"{many}: take fewer rows, or bridge(nuts(model, x))")
    terms = [_log_joints(model, rows, labels) for labels in _partitions(number, components)]
    return float(torch.cat(terms).logsumexp(0))


def _number_of_partitions(rows: int, components: int) -> int:
    """Of so many rows into at most so many blocks, a sum of Stirling's numbers of the second kind."""
    stirling = [1] + [0] * components  # of no row: blocks -> partitions
    for _ in range(rows):
        stirling = [0, *(k * stirling[k] + stirling[k - 1] for k in range(1, components + 1))]
    return sum(stirling)


def _partitions(rows: int, components: int) -> Iterator[Tensor]:
    """Every partition of the rows into at most so many blocks, each as the block of every row: (P, N), in parts.

    Blocks are numbered in the order of their first rows, so that none comes twice.
    """
    labels = np.zeros((1, 1), np.int16)
    for _ in range(rows - 1):
        choices = np.minimum(labels.max(1) + 2, components).astype(int)
        which = np.repeat(np.arange(len(labels)), choices)
        last = np.arange(len(which)) - np.repeat(choices.cumsum() - choices, choices)
        labels = np.concatenate([labels[which], last[:, None].astype(labels.dtype)], 1)
    for start in range(0, len(labels), AT_ONCE):
        yield torch.as_tensor(labels[start : start + AT_ONCE].astype(int))


def _log_joints(model: BayesianGMM | UnivariateMixture, x: Tensor, labels: Tensor) -> Tensor:
    """log p(x, z), summed over the assignments z that each partition stands for: (P,). x: (N, D). labels: (P, N)."""
    components, (loc, scale) = model.components, units(x)
    prior = prior_of(model, Units(loc, scale))
    members = torch.nn.functional.one_hot(labels, components).to(x)
    counts = members.sum(1)
    update = lambda *moments: _log_normalizer(prior.updated(Sums(*moments)))  # noqa: E731
    posterior = torch.func.vmap(update)(counts, *_moments(x, members, counts))
    blocks = (counts > 0).to(x).sum(1)
    alike = math.lgamma(components + 1) - torch.lgamma(components - blocks + 1)
    likelihood = posterior - _log_normalizer(prior) + _base_measure(model, x)
    return likelihood + _log_assignments(model, x, counts) + alike


def _moments(x: Tensor, members: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Means (P, K, D) and scatters (P, K, D, D) of the blocks; members: (P, N, K), counts: (P, K)."""
    centre = x.mean(0)
    y, share = x - centre, members.mT / counts.clamp(min=1).unsqueeze(-1)
    means = share @ y
    second = (share @ (y.unsqueeze(-1) * y.unsqueeze(-2)).flatten(1)).unflatten(-1, (x.shape[1], -1))
    return means + centre, counts[..., None, None] * (second - means.unsqueeze(-1) * means.unsqueeze(-2))


def _log_assignments(model: BayesianGMM | UnivariateMixture, x: Tensor, counts: Tensor) -> Tensor:
    """log p(z) with the weights integrated out, a Dirichlet-multinomial: (P,)."""
    if isinstance(model, UnivariateMixture):
        return torch.full_like(counts[:, 0], -len(x) * math.log(model.components))
    concentration = model.prior(x).concentration
    total = concentration.sum()
    each = torch.lgamma(concentration + counts) - torch.lgamma(concentration)
    return torch.lgamma(total) - torch.lgamma(total + len(x)) + each.sum(-1)


def _base_measure(model: BayesianGMM | UnivariateMixture, x: Tensor) -> Tensor | float:
    """What p(x | theta) has beside the terms that update the prior: ()."""
    base = -x.numel() / 2 * math.log(2 * math.pi)
    if isinstance(model, BayesianGMM):
        return base
    return base - x.numel() * math.log(model.sd) - x.square().sum() / (2 * model.sd**2)


def _log_normalizer(family: MixtureFamily | UnivariateFamily) -> Tensor:
    """log of the integral of the unnormalised density over the components' parameters, up to a constant of none: ().

    Normal-Wishart: Murphy 2007, eq. 266; a diagonal precision is D Gammas, a spherical one is one.
    """
    if isinstance(family, UnivariateFamily):
        return ((family.variance.log() + family.loc.square() / family.variance) / 2).sum()
    df, scales = family.df, family.scales
    if family.covariance == "tied":
        df, scales = df[:1], scales[:1]
    of_locs = -family.size / 2 * family.loc_precision.log().sum()
    return of_locs + _log_precisions(family.covariance, df, scales, family.size).sum()


def _log_precisions(covariance: Covariance, df: Tensor, scales: Tensor, size: int) -> Tensor:
    """Of the precisions: (K,), or (1,) where tied."""
    diagonal: Any = scales.diagonal(dim1=-2, dim2=-1)
    match covariance:
        case "diagonal":
            return size * torch.lgamma(df / 2) - df / 2 * (diagonal / 2).log().sum(-1)
        case "spherical":
            return torch.lgamma(size * df / 2) - size * df / 2 * (size * diagonal[:, 0] / 2).log()
    return torch.special.multigammaln(df / 2, size) + size * df / 2 * math.log(2) - df / 2 * torch.logdet(scales)
