"""What a posterior says of rows, fitted or new: their density, their labels, and rows like them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import arviz as az
import numpy as np
import pandas as pd
import torch
from pyro import poutine
from pyro.infer import config_enumerate, infer_discrete
from pyro.poutine.uncondition_messenger import UnconditionMessenger
from torch import Tensor

from ...errors import InputError
from ...models.structure import model_name
from ..compilation.batched import over_draws
from ..density.row_density import RowDensity, row_modes
from ..runtime.isolation import one_thread_if_small
from ..runtime.pyro_private import is_deterministic
from .importance import pareto_k

if TYPE_CHECKING:
    from ..data.data import Data
    from .fit import Fit

__all__ = ["RowPredictive", "decoded", "from_prior", "new_rows", "of_rows", "replicated", "responsibilities"]

WIDEN = 2.0  # of a row's Laplace covariance, so that the weights of draws far from the mean stay bounded
GOOD_KHAT = 0.7  # Vehtari et al. 2024
Sites = dict[str, Tensor]


class RowPredictive(NamedTuple):
    """log p(y_n | x), nats: (M,). khat: Pareto k of each row's weights, NaN where there was nothing to weigh.

    how: what the rows' own latents were integrated by; empty where there was nothing to integrate.
    """

    log_density: np.ndarray
    khat: np.ndarray
    how: str = ""


def of_rows(fit: Fit, new: Data | None) -> RowPredictive:
    """The predictive density of new rows; of the fitted rows, at their own latents, where there are none."""
    if new is not None and fit.structure.local:
        return _integrated(fit, new)
    density, data = fit.density, new or fit.data
    each = lambda sites: density.log_likelihood(sites, data)  # noqa: E731
    parts = _each_chunk(fit, data, each, lambda rows: rows.logsumexp(0))
    total = (torch.stack(parts).logsumexp(0) - np.log(fit.number)).cpu().numpy()
    return RowPredictive(total, np.full(len(total), np.nan))


def responsibilities(fit: Fit, data: Data, index: Any = None) -> pd.DataFrame:
    """p(z_n = k | x), averaged over the posterior draws: (M, K)."""
    density = fit.density
    each = lambda sites: density.assignment_logits(sites, data)  # noqa: E731
    parts = _each_chunk(fit, data, each, lambda logits: logits.softmax(-1).sum(0))
    share = (torch.stack(parts).sum(0) / fit.number).cpu().numpy()
    return pd.DataFrame(share, index=index, columns=pd.RangeIndex(share.shape[1], name="components"))


def decoded(fit: Fit, data: Data) -> pd.Series | pd.DataFrame:
    """The most probable values of all discrete sites together, by max-product at the draw of the highest density."""
    structure = fit.structure
    if not structure.discrete:
        raise InputError(f"model {model_name(fit.model)} has no discrete site: there is nothing to predict")
    with data.isolated(0), torch.no_grad():
        sites = fit.sites()
        best = int(over_draws(fit.density.log_joint, sites, fit.density.chunk()).argmax())
        program = config_enumerate(fit.density.given({name: value[best] for name, value in sites.items()}))
        joint = infer_discrete(program, first_available_dim=-1 - structure.max_plate_nesting, temperature=0)
        trace = data.run(poutine.trace(joint).get_trace)
    values = {site.name: trace.nodes[site.name]["value"].cpu().numpy() for site in structure.discrete}
    if all(value.ndim == 0 for value in values.values()):
        return pd.Series({name: int(value) for name, value in values.items()}, name="state")
    if all(value.ndim == 1 for value in values.values()) and len({len(value) for value in values.values()}) == 1:
        return pd.DataFrame(values)
    entries = {f"{name}[{','.join(map(str, i))}]": v[i] for name, v in values.items() for i in np.ndindex(v.shape)}
    return pd.Series(entries, name="state")


def new_rows(fit: Fit, n: int, seed: int) -> pd.DataFrame:
    """n rows, each from a draw of its own and with the covariates of a row of the data: a DataFrame (n, D)."""
    structure, data = fit.structure, fit.data
    if structure.rows is None:
        raise InputError(f"model {model_name(fit.model)} has no rows: posterior_predictive draws its data as a whole")
    names = [site.name for site in structure.observed if structure.by_row(site)]
    shared = {site.name for site in (*structure.shared, *structure.of_kind("param"))}

    def row(draw: Sites) -> list[Tensor]:
        given = {name: value for name, value in draw.items() if name in shared}
        trace = data.take(draw["row of the data"]).run(_trace_of(fit, given))
        return [trace.nodes[name]["value"].flatten() for name in names]

    with data.isolated(seed):
        picked = torch.randint(fit.number, (n,)).to(data.like.device)
        covariates = torch.randint(data.rows or 1, (n, 1)).to(data.like.device)
        draws = {name: value[picked] for name, value in fit.sites().items()}
        found = over_draws(row, {**draws, "row of the data": covariates}, samples=True)
    columns = data.columns if len(names) == 1 and found[0].shape[1] == len(data.columns) else ()
    labels = [label for name, v in zip(names, found, strict=True) for label in _labels(name, v.shape[1])]
    only = len(data.tensors) == 1
    index = None if only else pd.Index(covariates[:, 0].cpu().numpy(), name="row")
    return pd.DataFrame(torch.cat(found, 1).cpu().numpy(), columns=list(columns) or labels, index=index)


def replicated(fit: Fit, new: Data | None, seed: int) -> az.InferenceData:
    """Posterior predictive draws of every observed site; those of fitted rows at their own latents."""
    structure, data = fit.structure, new or fit.data
    kept = structure.latent if new is None else structure.shared
    names = {site.name for site in (*kept, *structure.of_kind("param"))}
    draws = {name: value for name, value in fit.sites().items() if name in names}
    run = lambda draw: _observed_in(fit, data.run(_trace_of(fit, draw)))  # noqa: E731
    with one_thread_if_small(data.numel), data.isolated(seed):
        chunk = fit.density.chunk(data.rows)
        found = over_draws(run, draws or {"draw": torch.arange(fit.number)}, chunk, samples=True)
    sizes = fit.posterior.sizes
    shape = (sizes["chain"], sizes["draw"])
    arrays = {name: value.cpu().numpy().reshape(*shape, *value.shape[1:]) for name, value in found.items()}
    predicted = _idata(fit, posterior_predictive=arrays)
    if new is None and "observed_data" in fit.idata.groups():
        predicted.extend(az.InferenceData(observed_data=fit.idata["observed_data"]))
    predicted.extend(az.InferenceData(posterior=fit.posterior))
    return predicted


def from_prior(fit: Fit, draws: int, seed: int) -> az.InferenceData:
    """Draws of everything the model samples, from its prior."""
    structure = fit.structure
    if any(site.flat for site in structure.latent):
        flat = next(site.name for site in structure.latent if site.flat)
        raise InputError(f"site {flat!r} has a flat prior, which cannot be drawn from: give it a proper one")
    names = [site.name for site in structure.of_kind("latent", "deterministic")]

    def run(_: Sites) -> dict[str, Sites]:
        trace = fit.data.run(_trace_of(fit, {}))
        return {"prior": {n: trace.nodes[n]["value"] for n in names}, "prior_predictive": _observed_in(fit, trace)}

    with one_thread_if_small(fit.data.numel), fit.data.isolated(seed):
        found = over_draws(run, {"draw": torch.arange(draws)}, fit.density.chunk(), samples=True)
    groups = {g: {n: v.cpu().numpy()[None] for n, v in values.items()} for g, values in found.items()}
    predicted = _idata(fit, **groups)
    if "observed_data" in fit.idata.groups():
        predicted.extend(az.InferenceData(observed_data=fit.idata["observed_data"]))
    return predicted


def _integrated(fit: Fit, data: Data) -> RowPredictive:
    """log mean_s p(y_n, z_ns | theta_s) / q(z_ns): z of new rows by importance sampling, one z a draw of theta.

    q is the guide's own where it has one for new rows, else a Laplace fit a row at the posterior mean; where that is
    worse than the prior p(z_n | theta_s), or there is no mode, the prior.
    """
    shared = {site.name for site in (*fit.structure.shared, *fit.structure.of_kind("param"))}
    with one_thread_if_small(data.numel), data.isolated(0):
        draws = {name: value for name, value in fit.sites().items() if name in shared}
        rows = RowDensity(fit.density, data, {name: value.mean(0) for name, value in draws.items()})
        tried = [_weighed(fit, rows, draws, q, how) for how, q in _proposals(fit, rows)]
        if not any(_worst(found) < GOOD_KHAT for found in tried):
            tried.append(_weighed(fit, rows, draws, None, "the prior"))
    return min(tried, key=_worst)


def _worst(found: RowPredictive) -> float:
    return float(np.nan_to_num(found.khat, nan=-np.inf).max())


def _proposals(fit: Fit, rows: RowDensity) -> list[tuple[str, Any]]:
    """What z of new rows may be drawn from: (name, distribution of batch (M,), event (L,))."""
    if hasattr(fit.guide, "posterior") and getattr(fit.guide, "amortized", False):
        with torch.no_grad():
            return [("the guide's q", fit.guide.posterior(rows.data.values, None))]
    start = torch.zeros(rows.data.rows or 0, rows.latent).to(rows.data.like)
    try:
        mode = row_modes(rows.traced_log_joint, start, WIDEN)
    except (RuntimeError, ValueError):
        return []
    return [("a Laplace fit a row", mode.q)] if mode.found.all() else []


def _weighed(fit: Fit, rows: RowDensity, draws: Sites, q: Any, how: str) -> RowPredictive:
    """The mean weight of each row over the draws of theta, z from q, or from the prior where that is None."""

    def weight(draw: Sites) -> Tensor:
        given = {name: value for name, value in draw.items() if name in draws}
        if q is None:
            z = rows.prior_draw(given)
            return rows.traced_log_joint(z, given) - rows.log_prior(z, given)
        return rows.traced_log_joint(draw["z"], given) - q.log_prob(draw["z"])

    chunk = fit.density.chunk(rows.data.rows)
    every = {**draws, "draw": torch.arange(fit.number)}
    if q is not None:
        every["z"] = q.sample(torch.Size((fit.number,)))
    weights = over_draws(weight, every, chunk, samples=q is None).double().cpu()
    total = weights.logsumexp(0) - np.log(len(weights))
    return RowPredictive(total.numpy(), pareto_k(weights.numpy()), how)


class _ObservedAnew(UnconditionMessenger):
    """Observations are drawn; what is deterministic is left as it is, which a plate would make into a larger one."""

    def _pyro_sample(self, msg: dict[str, Any]) -> None:
        if not is_deterministic(msg):
            super()._pyro_sample(msg)


def _trace_of(fit: Fit, given: Mapping[str, Tensor]) -> Callable[..., poutine.Trace]:
    """The model run with these sites given and everything else, its observations too, drawn anew."""
    program = fit.density.given(given, _ObservedAnew()(fit.model))
    return poutine.trace(program).get_trace


def _observed_in(fit: Fit, trace: poutine.Trace) -> Sites:
    return {site.name: trace.nodes[site.name]["value"] for site in fit.structure.observed}


def _labels(name: str, number: int) -> list[str]:
    return [name] if number == 1 else [f"{name}_{i}" for i in range(number)]


def _each_chunk(
    fit: Fit, data: Data, fn: Callable[[Sites], Tensor], reduce: Callable[[Tensor], Tensor]
) -> list[Tensor]:
    """reduce(fn over some draws), for all draws some at a time, so that memory stays bounded."""
    with one_thread_if_small(data.numel), data.isolated(0):
        sites, size = fit.sites(), fit.density.chunk(data.rows)
        starts = range(0, fit.number, size)
        chunks = [{name: value[start : start + size] for name, value in sites.items()} for start in starts]
        return [reduce(over_draws(fn, chunk)) for chunk in chunks]


def _idata(fit: Fit, **groups: Any) -> az.InferenceData:
    dims = {site.name: list(site.dims) for site in fit.structure.sites}
    named = {n: dims[n] for arrays in groups.values() for n, v in arrays.items() if len(dims[n]) == v.ndim - 2}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # ArviZ's, of dims without coords
        return az.from_dict(**groups, dims=named)
