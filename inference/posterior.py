"""From draws to a Fit: deterministic sites, relabelling, likelihood, and ArviZ's InferenceData."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import arviz as az
import numpy as np
import torch
from torch import Tensor

from .batched import over_draws
from .data import Data
from .density import Density
from .fit import Fit
from .relabel import permute, relabel

__all__ = ["fit_of", "matched_to"]

LARGEST = 40_000_000  # numbers in the pointwise log-likelihood, or the data; where there are more, both are left out


def fit_of(
    name: str,
    estimator: str,
    density: Density,
    data: Data,
    draws: Mapping[str, Tensor],
    stats: Mapping[str, np.ndarray] | None = None,
    likelihood: np.ndarray | Literal["computed"] | None = "computed",
    **rest: Any,
) -> Fit:
    """A Fit from posterior draws; to be called within `isolated`.

    draws: latent sites, or the params of a model that has none, name -> (chains, draws, ...). stats: sample_stats,
    name -> (chains, draws). likelihood: of each draw and row, (S, N), where it is known already; None leaves it out.
    rest: further fields of Fit. Components are put into the order of one pivot, which starts
    at the draw of the highest likelihood.
    """
    shape = next(iter(draws.values())).shape[:2]
    flat = {key: value.flatten(0, 1) for key, value in draws.items()}
    if isinstance(likelihood, str):
        likelihood = _log_likelihood(density, flat)
    deterministic = over_draws(density.deterministic, flat, density.chunk(1))
    arrays = {key: value.detach().cpu().numpy() for key, value in {**flat, **deterministic}.items()}
    dims = {site.name: site.dims for site in density.structure.sites if site.name in arrays}
    order = relabel(arrays, dims, first=0 if likelihood is None else int(likelihood.sum(1).argmax()))
    groups = {
        "posterior": arrays if order is None else permute(arrays, dims, order),
        "log_likelihood": {} if likelihood is None else {_observed(density): likelihood},
    }
    idata = _as_idata(_by_chain(groups, shape), dict(stats or {}), dims, data, density)
    rest["params"] = rest.get("params", {})
    return Fit(name, estimator, density.model, data, idata, in_pivot=_commonest(order, shape.numel()), **rest)


def matched_to(fit: Fit, pivot: np.ndarray | None) -> Fit:
    """The same fit with its components in the order of another fit's pivot, (K, F)."""
    draws, dims = fit.draws(), fit.dims()
    if pivot is None:
        return fit
    order = relabel(draws, dims, pivot)
    if order is None:
        return fit
    idata = fit.idata.copy()
    for name, values in permute(draws, dims, order).items():
        variable = idata["posterior"][name]
        idata["posterior"][name] = variable.copy(data=values.reshape(variable.shape))
    return fit.with_idata(idata)


def _log_likelihood(density: Density, flat: Mapping[str, Tensor]) -> np.ndarray | None:
    number = len(next(iter(flat.values())))
    if number * len(density.x) > LARGEST:
        return None
    rows = over_draws(density.log_likelihood, flat, density.chunk(len(density.x)))
    return rows.detach().cpu().numpy()


def _commonest(order: np.ndarray | None, number: int) -> np.ndarray:
    """Whether each draw has the labelling that most draws have: (S,)."""
    if order is None:
        return np.ones(number, bool)
    _, which, counts = np.unique(order, axis=0, return_inverse=True, return_counts=True)
    return which.reshape(-1) == counts.argmax()


def _observed(density: Density) -> str:
    return density.structure.of_kind("observed")[0].name


def _by_chain(groups: dict[str, dict[str, np.ndarray]], shape: torch.Size) -> dict[str, dict[str, np.ndarray]]:
    """Draws given end to end, laid out by chain: (S, ...) -> (chains, draws, ...)."""
    return {
        group: {name: value.reshape(*shape, *value.shape[1:]) for name, value in arrays.items()}
        for group, arrays in groups.items()
    }


def _as_idata(
    groups: dict[str, dict[str, np.ndarray]],
    stats: dict[str, np.ndarray],
    dims: Mapping[str, tuple[str, ...]],
    data: Data,
    density: Density,
) -> az.InferenceData:
    """The one place that speaks to `az.from_dict`."""
    coords = {plate.name: np.arange(plate.full_size) for plate in density.structure.plates.values()}
    for dim in ("features", "features_bis"):
        sizes = {a.shape[2 + dims[n].index(dim)] for n, a in groups["posterior"].items() if dim in dims[n]}
        if sizes == {len(data.columns)}:
            coords[dim] = np.array(data.columns)
    observed, values = density.structure.of_kind("observed")[0], data.values.cpu().numpy()
    fitted = az.from_dict(
        posterior=groups["posterior"],
        log_likelihood=groups["log_likelihood"] or None,
        sample_stats=stats or None,
        coords=coords,
        dims={**{name: list(names) for name, names in dims.items()}, observed.name: ["data"]},
    )
    # A model may reshape what it observes: its dims are named only where the shapes agree.
    names = {observed.name: list(observed.dims)} if observed.shape == values.shape else None
    if values.size <= LARGEST:
        fitted.extend(az.from_dict(observed_data={observed.name: values}, coords=coords, dims=names))
    return fitted
