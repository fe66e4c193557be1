"""From draws to a Fit: deterministic sites, relabelling, likelihood, and ArviZ's InferenceData."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from torch import Tensor

from ...errors import first_line
from ..compilation.batched import over_draws
from ..data.data import Data
from ..density.in_blocks import on_head
from ..density.log_density import Density
from ..runtime.arviz import InferenceData, dataset_of, groups_of, idata_of
from .fit import Fit
from .relabel import Dims, permute, relabel, seen_exchangeable

LARGEST = 40_000_000  # numbers in the pointwise log-likelihood, or the data; where there are more, both are left out
Arrays = dict[str, np.ndarray]


def fit_of(
    name: str,
    estimator: str,
    density: Density,
    draws: Mapping[str, Tensor],
    stats: Mapping[str, np.ndarray] | None = None,
    likelihood: np.ndarray | Literal["computed"] | None = "computed",
    **rest: Any,
) -> Fit:
    """A Fit from posterior draws; to be called within `isolated`.

    draws: latent sites, or the params of a model that has none, name -> (chains, draws, ...). stats: sample_stats,
    name -> (chains, draws). likelihood: of each draw and row, (S, N), where it is known already; None leaves it out.
    rest: further fields of Fit. Labels of exchangeable dims are put into the order of one pivot, which starts at the
    draw of the highest likelihood.
    """
    shape = next(iter(draws.values())).shape[:2]
    flat = {key: value.flatten(0, 1) for key, value in draws.items()}
    computed = isinstance(likelihood, str) and density.data.mapped is None
    pointwise, lost = _log_likelihood(density, flat) if computed else ({}, ())
    if isinstance(likelihood, np.ndarray):
        pointwise = {density.structure.observed[0].name: likelihood}
    made = density.structure.of_kind("deterministic")
    deterministic = over_draws(density.of_data("deterministic"), flat, density.chunk()) if made else {}
    arrays = {key: value.detach().cpu().numpy() for key, value in {**flat, **deterministic}.items()}
    dims = {site.name: site.dims for site in density.structure.sites}
    total = sum((value.reshape(len(value), -1).sum(1) for value in pointwise.values()), np.zeros(shape.numel()))
    labels, remarks = seen_exchangeable(on_head(density), flat)
    in_pivot = np.ones(shape.numel(), bool)
    for each in labels:
        order = relabel(arrays, dims, each.dim, first=int(np.argmax(total)))
        arrays, in_pivot = permute(arrays, dims, each, order), in_pivot & _commonest(order)
    by_chain = lambda values: {n: v.reshape(*shape, *v.shape[1:]) for n, v in values.items()}  # noqa: E731
    idata = _as_idata(by_chain(arrays), by_chain(pointwise), stats, dims, density)
    rest |= {"in_pivot": in_pivot, "labels": labels, "remarks": (*remarks, *lost)}
    return Fit(name, estimator, density.model, density.data, idata, **rest)


def matched_to(fit: Fit, pivot: Mapping[str, np.ndarray]) -> Fit:
    """The same fit with its labels in the order of another fit's pivot, dim -> (K, F)."""
    draws, dims, moments = fit.draws(), fit.dims(), _moments(fit)
    shared = [labels for labels in fit.labels if labels.dim in pivot]
    if not shared:
        return fit
    for labels in shared:
        order = relabel(draws, dims, labels.dim, pivot[labels.dim])
        draws = permute(draws, dims, labels, order)
        usual = order[_commonest(order)][:1].repeat(2, 0)
        moments = permute(moments, dims, labels, usual)
    groups = groups_of(fit.idata)
    for group, arrays in (("posterior", draws), ("linear_response", moments)):
        old = {name: groups[group][name] for name in arrays}
        new = {name: old[name].copy(data=values.reshape(old[name].shape)) for name, values in arrays.items()}
        groups |= {group: groups[group].assign(new)} if new else {}
    return replace(fit, idata=idata_of(groups))


def _moments(fit: Fit) -> Arrays:
    """The two moments of linear response, one after the other: name -> (2, ...); empty where there are none."""
    return {name: np.stack([sd, fit.mean_errors[name]]) for name, sd in fit.linear_response.items()}


def _log_likelihood(density: Density, flat: Mapping[str, Tensor]) -> tuple[Arrays, tuple[str, ...]]:
    """log p(y_n | theta, z_n) of each observed site with rows: name -> (S, N); and why it is missing, where it is."""
    sites = [site.name for site in density.structure.observed if density.structure.by_row(site)]
    if not sites or len(next(iter(flat.values()))) * (density.data.rows or 0) * len(sites) > LARGEST:
        return {}, ()
    one = sites if len(sites) > 1 else [None]  # one site: factors beside it are counted too
    try:
        each = [over_draws(density.of_data("log_likelihood", site=s), flat, density.chunk()) for s in one]
    except (RuntimeError, ValueError, NotImplementedError, AssertionError) as error:
        return {}, (f"no pointwise log likelihood ({first_line(error)})",)
    return {site: rows.detach().cpu().numpy() for site, rows in zip(sites, each, strict=True)}, ()


def _commonest(order: np.ndarray) -> np.ndarray:
    """Whether each draw has the labelling that most draws have: (S,)."""
    _, which, counts = np.unique(order, axis=0, return_inverse=True, return_counts=True)
    return which.reshape(-1) == counts.argmax()


def _coords_of(data: Data, posterior: Mapping[str, np.ndarray], dims: Dims) -> dict[str, np.ndarray]:
    """Names for the entries of dims: the categories that index them, or the columns; ArviZ counts the others."""
    sizes = {dim: a.shape[2 + i] for name, a in posterior.items() for i, dim in enumerate(dims[name])}
    named = {**data.coords, **dict.fromkeys(("features", "features_bis"), data.columns)}
    return {dim: np.array(names) for dim, names in named.items() if names and sizes.get(dim) == len(names)}


def _as_idata(
    posterior: Arrays, likelihood: Arrays, stats: Mapping[str, np.ndarray] | None, dims: Dims, density: Density
) -> InferenceData:
    """ArviZ's view of draws by chain, name -> (chains, draws, ...), with the observed data."""
    coords, rows = _coords_of(density.data, posterior, dims), density.structure.rows
    of_rows = {name: [rows.name] for name in likelihood if rows}
    groups = {"posterior": dataset_of(posterior, {name: dims[name] for name in posterior}, coords)}
    if likelihood:
        groups["log_likelihood"] = dataset_of(likelihood, of_rows, coords)
    if stats:
        groups["sample_stats"] = dataset_of(stats, {}, coords)
    observed = density.observed()
    if observed and sum(value.size for value in observed.values()) <= LARGEST:
        sites = [site for site in density.structure.observed if site.shape == observed[site.name].shape]
        names = {site.name: list(site.dims) for site in sites}
        groups["observed_data"] = dataset_of(observed, names, coords, sampled=False)
    return idata_of(groups)
