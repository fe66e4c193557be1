"""What a posterior says of rows, fitted or new: their density, their labels, and rows like them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial, reduce
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import torch
import xarray as xr
from pyro import poutine
from pyro.infer import config_enumerate, infer_discrete
from pyro.poutine.uncondition_messenger import UnconditionMessenger
from torch import Tensor

from ...errors import InputError
from ...models.structure import Site, model_name
from ...models.trace import is_deterministic
from ..compilation.batched import over_draws
from ..data.data import structure_on
from ..density.in_blocks import on_some_rows
from ..density.laplace import row_modes
from ..density.row_density import RowDensity
from ..runtime.arviz import InferenceData, dataset_of, groups_of, idata_of
from ..runtime.isolation import one_thread_if_small
from .importance import GOOD_KHAT, log_mean

if TYPE_CHECKING:
    from ..data.data import Data
    from ..density.log_density import Density
    from .fit import Fit

WIDEN = 2.0  # of a row's Laplace covariance, so that the weights of draws far from the mean stay bounded
BLOCK_ROWS = 20_000  # of a file, at once
NUMBER = "number of the draw"  # which no site is called
Sites = dict[str, Tensor]


class RowPredictive(NamedTuple):
    """log p(y_n | x), nats: (M,). khat: Pareto k of each row's weights, NaN where there was nothing to weigh.

    how: what the rows' own latents were integrated by; empty where there was nothing to integrate.
    """

    log_density: np.ndarray
    khat: np.ndarray
    how: str = ""


def of_rows(fit: Fit, new: Data | None) -> RowPredictive:
    """The predictive density of new rows; of the fitted rows, at their own latents, where there are none.

    Raises InputError for new rows that the model does not take.
    """
    if new is not None:
        structure_on(fit.density.model, new)
    if new is not None and fit.structure.local:
        return _integrated(fit, new)
    found = list[Tensor]()
    for data, density in _in_blocks(fit, new or fit.data):
        summed = partial(_summed, density.of_data("log_likelihood"))
        found.append(_over_chunks(fit, data, summed, torch.logaddexp) - np.log(fit.number))
    total = torch.cat(found).cpu().numpy()
    return RowPredictive(total, np.full(len(total), np.nan))


def _in_blocks(fit: Fit, data: Data) -> Iterator[tuple[Data, Density]]:
    """Data in memory, all at once, or some of those in a file, and their density."""
    if data.mapped is None:
        yield data, fit.density.on(data)
        return
    for start in range(0, data.rows or 0, BLOCK_ROWS):
        rows = torch.arange(start, min(start + BLOCK_ROWS, data.rows or 0))
        some = data.take(rows)
        whole = data is fit.data and len(rows) < len(data.mapped)
        yield some, (on_some_rows(fit.density, rows) if whole else fit.density.on(some))
        data.release()


def responsibilities(fit: Fit, data: Data, index: Any = None) -> pd.DataFrame:
    """p(z_n = k | x), averaged over the posterior draws: (M, K)."""
    found = list[Tensor]()
    for some, density in _in_blocks(fit, data):
        shares = partial(_shared_out, density.of_data("assignment_logits"))
        found.append(_over_chunks(fit, some, shares, torch.add) / fit.number)
    share = torch.cat(found).cpu().numpy()
    return pd.DataFrame(share, index=index, columns=pd.RangeIndex(share.shape[1], name="components"))


def occupied(fit: Fit, seed: int) -> pd.Series:
    """p(k components hold a row | x): labels drawn for each posterior draw, and their different values counted."""

    _refuse_file(fit.data, "labels of all rows at every draw")

    def number(draw: Sites) -> Tensor:
        logits = fit.density.assignment_logits(draw)
        noise = -(-torch.rand_like(logits).log()).log()  # Gumbel's: the highest sum is a draw of each row's label
        labels = (logits + noise).argmax(-1, keepdim=True)
        return (labels == torch.arange(logits.shape[-1], device=logits.device)).any(0).sum()

    with one_thread_if_small(fit.data.numel), fit.data.isolated(seed):
        numbers = over_draws(number, fit.sites(), fit.density.chunk(), samples=True).cpu().numpy()
    share = pd.Series(numbers).value_counts(normalize=True).sort_index()
    return share.rename_axis("occupied").rename("probability")


def decoded(fit: Fit, data: Data) -> pd.Series | pd.DataFrame:
    """The most probable values of all discrete sites together, by max-product at the draw of the highest density."""
    structure = fit.structure
    if not structure.discrete:
        raise InputError(f"model {model_name(fit.model)} has no discrete site: there is nothing to predict")
    _refuse_file(data, "a joint assignment")
    with data.isolated(0), torch.no_grad():
        sites = fit.sites()
        best = int(over_draws(fit.density.log_joint, sites, fit.density.chunk()).argmax())
        program = config_enumerate(fit.density.given({name: value[best] for name, value in sites.items()}))
        joint = infer_discrete(program, first_available_dim=-1 - structure.max_plate_nesting, temperature=0)
        trace = data.run(poutine.trace(joint).get_trace)
    values = {site.name: trace.nodes[site.name]["value"].long().cpu().numpy() for site in structure.discrete}
    if all(value.ndim == 1 for value in values.values()) and len({len(value) for value in values.values()}) == 1:
        return pd.DataFrame(values)
    places = [(name, value, place) for name, value in values.items() for place in np.ndindex(value.shape)]
    entries = {f"{name}[{','.join(map(str, place))}]" if place else name: value[place] for name, value, place in places}
    return pd.Series(entries, name="state")


def new_rows(fit: Fit, n: int, seed: int) -> pd.DataFrame:
    """n rows, each from a draw of its own and with the covariates of a row of the data: a DataFrame (n, D)."""
    structure, data = fit.structure, fit.data
    if structure.rows is None:
        raise InputError(f"model {model_name(fit.model)} has no rows: posterior_predictive draws its data as a whole")
    names = [site.name for site in structure.observed if structure.by_row(site)]

    def row(draw: Sites) -> list[Tensor]:
        given = {name: draw[name] for name in draws}
        trace = data.take(draw["row of the data"]).run(_trace_of(fit.density, given))
        return [trace.nodes[name]["value"].flatten() for name in names]

    with data.isolated(seed):
        picked = torch.randint(fit.number, (n,)).to(data.like.device)
        covariates = torch.randint(data.rows or 1, (n, 1)).to(data.like.device)
        draws = {name: value[picked] for name, value in _draws(fit, local=False).items()}
        found = over_draws(row, {**draws, "row of the data": covariates}, samples=True)
    widths = {name: value.shape[1] for name, value in zip(names, found, strict=True)}
    labels = [name if width == 1 else f"{name}_{i}" for name, width in widths.items() for i in range(width)]
    columns = data.columns if len(names) == 1 and len(labels) == len(data.columns) else labels
    index = None if len(data.tensors) == 1 else pd.Index(covariates[:, 0].cpu().numpy(), name="row")
    return pd.DataFrame(torch.cat(found, 1).cpu().numpy(), columns=list(columns), index=index)


def replicated(fit: Fit, new: Data | None, seed: int) -> InferenceData:
    """Posterior predictive draws of every observed site; those of fitted rows at their own latents."""
    _refuse_file(new or fit.data, "observations at every draw")
    draws = _draws(fit, local=new is None) or {NUMBER: torch.arange(fit.number)}
    found = _drawn_anew(fit.density, new or fit.data, fit.structure.observed, draws, seed)
    predictive = _group(found, fit.structure.observed, fit.posterior.sizes["chain"])
    observed = _observed_data(fit) if new is None else {}
    return idata_of({"posterior": fit.posterior, "posterior_predictive": predictive, **observed})


def from_prior(fit: Fit, draws: int, seed: int) -> InferenceData:
    """Draws of everything the model samples, from its prior."""
    found = drawn_from_prior(fit.density, draws, seed)
    own, observed = fit.structure.of_kind("latent", "deterministic"), fit.structure.observed
    prior, predictive = _group(found, own), _group(found, observed)
    return idata_of({"prior": prior, "prior_predictive": predictive, **_observed_data(fit)})


def drawn_from_prior(density: Density, draws: int, seed: int) -> Sites:
    """Latent and deterministic sites from the prior and observations drawn at them, name -> (S, ...)."""
    _refuse_file(density.data, "observations at every draw")
    structure = density.structure
    if flat := [site.name for site in structure.latent if site.flat]:
        raise InputError(f"site {flat[0]!r} has a flat prior, which cannot be drawn from: give it a proper one")
    sites = (*structure.of_kind("latent", "deterministic"), *structure.observed)
    return _drawn_anew(density, density.data, sites, {NUMBER: torch.arange(draws)}, seed)


def _integrated(fit: Fit, data: Data) -> RowPredictive:
    """log mean_s p(y_n, z_ns | theta_s) / q(z_ns): z of new rows by importance sampling, one z a draw of theta.

    q is the guide's own where it has one for new rows, else a Laplace fit a row at the posterior mean; where that is
    worse than the prior p(z_n | theta_s), or there is no mode, the prior.
    """
    with one_thread_if_small(data.numel), data.isolated(0):
        draws = _draws(fit, local=False)
        rows = RowDensity(fit.density.on(data), {name: value.mean(0) for name, value in draws.items()})
        tried = [_weighed(fit, rows, draws, q, how) for how, q in _proposals(fit, rows)]
        if not any(_worst_khat(found) < GOOD_KHAT for found in tried):
            tried.append(_weighed(fit, rows, draws, None, "the prior"))
    return min(tried, key=_worst_khat)


def _worst_khat(found: RowPredictive) -> float:
    return float(np.nan_to_num(found.khat, nan=-np.inf).max())


def _proposals(fit: Fit, rows: RowDensity) -> list[tuple[str, Any]]:
    """What z of new rows may be drawn from: (name, distribution of batch (M,), event (L,))."""
    if hasattr(fit.guide, "posterior") and getattr(fit.guide, "amortized", False):
        with torch.no_grad():
            return [("the guide's q", fit.guide.posterior(rows.data.values, None))]
    start = torch.zeros(rows.data.rows or 0, rows.latent).to(rows.data.like)
    try:
        q, found = row_modes(rows.traced_log_joint, start, WIDEN)
    except (RuntimeError, ValueError):
        return []
    return [("a Laplace fit a row", q)] if found.all() else []


def _weighed(fit: Fit, rows: RowDensity, draws: Sites, q: Any, how: str) -> RowPredictive:
    """The mean weight of each row over the draws of theta, z from q, or from the prior where that is None."""

    def weight(draw: Sites) -> Tensor:
        at = replace(rows, shared={name: draw[name] for name in draws})
        z = at.prior_draw() if q is None else draw["z"]
        return at.traced_log_joint(z) - (at.log_prior(z) if q is None else q.log_prob(z))

    every = {**draws, NUMBER: torch.arange(fit.number)}
    if q is not None:
        every["z"] = q.sample(torch.Size((fit.number,)))
    weights = over_draws(weight, every, fit.density.chunk(rows.data.rows), samples=q is None)
    found = log_mean(weights.double())
    return RowPredictive(found.value, found.khat, how)


def _refuse_file(data: Data, what: str) -> None:
    """Refuse what would be held for all rows of a file."""
    if data.mapped is not None:
        raise InputError(
            f"{what} would be {data.rows} rows in memory, which are in a file: give x_new, a sample of them"
        )


class _ObservedAnew(UnconditionMessenger):
    """Observations are drawn; what is deterministic is left as it is, which a plate would make into a larger one."""

    def _pyro_sample(self, msg: dict[str, Any]) -> None:
        if not is_deterministic(msg):
            super()._pyro_sample(msg)


def _trace_of(density: Density, given: Mapping[str, Tensor]) -> Callable[..., poutine.Trace]:
    """The model run with these sites given and everything else, its observations too, drawn anew."""
    program = density.given(given, _ObservedAnew()(density.model))
    return poutine.trace(program).get_trace


def _drawn_anew(density: Density, data: Data, sites: Sequence[Site], draws: Sites, seed: int) -> Sites:
    """Some sites at each of the draws, name -> (S, ...): observations anew, and from the prior what no draw gives."""

    def run(draw: Sites) -> Sites:
        trace = data.run(_trace_of(density, draw))
        return {site.name: trace.nodes[site.name]["value"] for site in sites}

    with one_thread_if_small(data.numel), data.isolated(seed):
        return over_draws(run, draws, density.chunk(data.rows), samples=True)


def _draws(fit: Fit, local: bool) -> Sites:
    """The draws of what all rows have in common, params among it, and of each row's own latents where `local`."""
    own = {site.name for site in fit.structure.local}
    return {name: value for name, value in fit.sites().items() if local or name not in own}


def _summed(log_likelihood: Callable[[Sites], Tensor], draws: Sites) -> Tensor:
    """log of the sum over draws of p(y_n | theta): (N,)."""
    return over_draws(log_likelihood, draws).logsumexp(0)


def _shared_out(logits: Callable[[Sites], Tensor], draws: Sites) -> Tensor:
    """The sum over draws of p(z_n = k | y_n, theta): (N, K)."""
    return over_draws(logits, draws).softmax(-1).sum(0)


def _over_chunks(
    fit: Fit, data: Data, of_chunk: Callable[[Sites], Tensor], join: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """of_chunk(some draws), joined as they come: memory is that of some draws, however many there are."""
    with one_thread_if_small(data.numel), data.isolated(0):
        sites, size = fit.sites(), fit.density.chunk(data.rows)
        starts = range(0, fit.number, size)
        chunks = ({name: value[start : start + size] for name, value in sites.items()} for start in starts)
        return reduce(join, map(of_chunk, chunks))


def _group(draws: Sites, sites: Sequence[Site], chains: int = 1) -> xr.Dataset:
    """Some sites of draws, name -> (S, ...), as ArviZ has them."""
    arrays = {site.name: draws[site.name].unflatten(0, (chains, -1)).cpu().numpy() for site in sites}
    dims = {site.name: list(site.dims) for site in sites if len(site.dims) == arrays[site.name].ndim - 2}
    return dataset_of(arrays, dims)


def _observed_data(fit: Fit) -> dict[str, xr.Dataset]:
    """The group of what was observed, where the fit holds it."""
    return {name: group for name, group in groups_of(fit.idata).items() if name == "observed_data"}
