"""ArviZ, both generations: InferenceData below its version 1, xarray's DataTree from 1 on; all use of it is in here."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeAlias

import numpy as np
import xarray as xr

InferenceData: TypeAlias = Any  # arviz.InferenceData below version 1, xarray.DataTree from 1 on
Method = Literal["bulk", "tail", "mean"]
TAIL = (0.05, 0.95)  # the quantiles whose lesser effective sample size is that of the tails (Vehtari et al. 2021)


def _first_generation() -> Any:
    """The package `arviz` where it is below version 1; None where it is not, or is not to be had."""
    try:
        if int(version("arviz").partition(".")[0]) >= 1:
            return None
        with warnings.catch_warnings():  # of its refactoring: that concerns this file alone
            warnings.filterwarnings("ignore", r"\s*ArviZ is undergoing a major refactor", FutureWarning)
            return import_module("arviz")
    except (PackageNotFoundError, ImportError):
        return None


FIRST = _first_generation()
if FIRST is None:
    dict_to_dataset = import_module("arviz_base").dict_to_dataset
    array_stats = import_module("arviz_stats.base").array_stats


def dataset_of(
    arrays: Mapping[str, Any],
    dims: Mapping[str, Sequence[str]],
    coords: Mapping[str, np.ndarray] | None = None,
    sampled: bool = True,
) -> xr.Dataset:
    """One group. dims: of each variable, without the leading chain and draw that all have where they are `sampled`.

    Dims that are not named are called as ArviZ calls them.
    """
    named = {name: list(of) for name, of in dims.items()}
    if FIRST is None:
        sample_dims = ["chain", "draw"] if sampled else []
        return dict_to_dataset(dict(arrays), coords=coords, dims=named, sample_dims=sample_dims)
    default: list[str] | None = None if sampled else []
    return FIRST.dict_to_dataset(dict(arrays), coords=coords, dims=named, default_dims=default)


def idata_of(groups: Mapping[str, xr.Dataset]) -> InferenceData:
    """What ArviZ opens, from its groups by their names."""
    return xr.DataTree.from_dict(dict(groups)) if FIRST is None else FIRST.InferenceData(**groups)


def groups_of(idata: InferenceData) -> dict[str, xr.Dataset]:
    """The groups by their names."""
    if isinstance(idata, xr.DataTree):
        return {name: group.to_dataset() for name, group in idata.children.items()}
    return {name: idata[name] for name in idata.groups()}


def group_of(idata: InferenceData, name: str) -> xr.Dataset:
    """One of the groups, alone. Raises KeyError where it is not there."""
    group = idata[name]
    return group.to_dataset() if isinstance(group, xr.DataTree) else group


def to_netcdf(idata: InferenceData, file: BinaryIO) -> None:
    """Write it, compressed: the same file from either generation, and for either.

    It is made in memory: HDF5 takes the whole program down where a disk is full.
    """
    groups = groups_of(idata)
    encoding = {
        f"/{group}": {
            name: {"zlib": True} for name, values in dataset.variables.items() if values.dtype.kind in "biufc"
        }
        for group, dataset in groups.items()
    }
    file.write(xr.DataTree.from_dict(groups).to_netcdf(None, engine="h5netcdf", encoding=encoding))


def from_netcdf(path: Path | BinaryIO) -> InferenceData:
    """Read what either generation has written. Raises OSError and ValueError where the file is none of theirs."""
    found = xr.open_groups(path, engine="h5netcdf")
    with ExitStack() as opened:  # all of them till the end: they may be of one stream
        for dataset in found.values():
            opened.enter_context(dataset)
        groups = {name.removeprefix("/"): dataset.load() for name, dataset in found.items() if name != "/"}
    return idata_of(groups)


def rhat(draws: np.ndarray) -> np.ndarray:
    """Rank-normalised split R-hat (Vehtari et al. 2021) of Markov chains: (chains, draws, ...) -> (...)."""
    if FIRST is None:
        return np.asarray(array_stats.rhat(draws, chain_axis=0, draw_axis=1))
    return FIRST.rhat({"entries": draws})["entries"].values


def ess(draws: np.ndarray, method: Method = "bulk") -> np.ndarray:
    """Effective sample size (Vehtari et al. 2021) of Markov chains: (chains, draws, ...) -> (...)."""
    if FIRST is None:
        prob = {"prob": TAIL} if method == "tail" else {}
        return np.asarray(array_stats.ess(draws, chain_axis=0, draw_axis=1, method=method, **prob))
    return FIRST.ess({"entries": draws}, method=method)["entries"].values


def psislw(log_weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pareto-smoothed log weights, not normalised, and Pareto k (Vehtari et al. 2024): (..., S) -> (..., S), (...).

    Pareto k is infinite where a tail of all the same weights, or of fewer than five, has none.
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # weights all equal have no tail
        if FIRST is not None:
            smoothed, khat = FIRST.psislw(log_weights.copy(), normalize=False)
            return np.asarray(smoothed), np.asarray(khat)
        rows = [_smoothed(row) for row in log_weights.reshape(-1, log_weights.shape[-1])]
    smoothed, khat = (np.stack(column) for column in zip(*rows, strict=True))
    return smoothed.reshape(log_weights.shape), khat.reshape(log_weights.shape[:-1])


def _smoothed(log_weights: np.ndarray) -> tuple[np.ndarray, float]:
    """By the second generation, (S,): its tail is given as many weights as the first's, and its scale taken back."""
    number = len(log_weights)
    tail = math.ceil(min(number / 5, 3 * math.sqrt(number)))
    try:
        smoothed, khat = array_stats.psislw(-log_weights, r_eff=9 * number / (tail + 0.01) ** 2)
    except ValueError:
        return log_weights, math.inf
    least = np.argmin(np.where(np.isfinite(log_weights), log_weights, np.inf))  # which is not in the tail
    return smoothed + (log_weights[least] - smoothed[least]), math.inf if math.isnan(khat) else float(khat)


def kde(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A kernel density of draws (S,), cut off at the ends of what was drawn: (grid,), (grid,)."""
    grid, heights = array_stats.kde(draws)[:2] if FIRST is None else FIRST.kde(draws)
    return np.asarray(grid), np.asarray(heights)
