"""The scalars whose ranks are taken: entries of theta, made label-invariant, and what theta says of the data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..compilation.batched import over_draws
from ..density.log_density import Density
from ..fit.fit import Fit
from ..fit.moments import varies
from ..fit.relabel import Dims, Labels, component_features, permute, seen_exchangeable
from ..mapped.blocks import evenly_spaced
from ..runtime.arviz import ess
from ..runtime.isolation import one_thread_if_small
from .simulations import Simulations

MOST_ENTRIES = 20  # of one site, evenly spaced where there are more: each is a test


@dataclass(frozen=True, eq=False)
class Quantities:
    """Test quantities of theta and the data, none of which a permutation of exchangeable labels changes.

    Entries of sites, components standing by rising `locs` (else by the first variable that varies by component) in
    every draw, as in the truth; log p(x, theta); where there are rows, log p(x | theta), both with discrete sites
    summed out, in nats. What depends on the data sees errors of a posterior that entries alone cannot (Modrak et al.
    2023).

    names: of all. dims: of each site. labels: what is exchangeable. columns: the entries that are kept. by_row: whether
    there are rows. remarks: what a reader must know of them.
    """

    names: tuple[str, ...]
    dims: Dims
    labels: tuple[Labels, ...]
    columns: np.ndarray
    remarks: tuple[str, ...] = ()

    @property
    def of_data_names(self) -> tuple[str, ...]:
        """The last of them, which depend on the data."""
        return self.names[len(self.columns) :]

    def entries(self, sites: dict[str, np.ndarray]) -> np.ndarray:
        """The entries that are kept, at draws name -> (S, ...): (S, P)."""
        return _flat(_in_order(sites, self.dims, self.labels), self.dims)[:, self.columns]

    def of_data(self, density: Density, sites: dict[str, Tensor]) -> np.ndarray:
        """What theta says of the data, at draws name -> (S, ...): (S, 1), or (S, 2) where there are rows."""
        with one_thread_if_small(density.data.numel), density.data.isolated(0):
            each = [over_draws(density.of_data(method), sites, density.chunk()) for method in self.of_data_names]
        return np.stack([values.reshape(len(values), -1).sum(1).cpu().numpy() for values in each], 1)


class Ranked(NamedTuple):
    """ranks: of the truth among `draws` draws, (P,), from 0 to `draws`. number: of draws that were taken."""

    ranks: np.ndarray
    number: int


def quantities_of(simulations: Simulations) -> Quantities:
    """The test quantities of a model, chosen by its structure; constants and repetitions are left out."""
    density, truths = Density(simulations.model, simulations.data(0)), simulations.truths
    with density.data.isolated(0):
        labels, remarks = seen_exchangeable(density, truths)
    structure = density.structure
    dims = {site.name: site.dims for site in structure.latent}
    names, values = _names(truths), _flat(_in_order(_arrays(truths), dims, labels), dims)
    columns = _distinct(values)
    made = ("log_joint", "log_likelihood") if structure.rows else ("log_joint",)
    for each in labels:
        remarks += (f"{each.dim}: counted by rising {_key(dims, each)} in every draw, as labels mean nothing",)
    return Quantities((*(names[i] for i in columns), *made), dims, labels, columns, remarks)


def ranked(fit: Fit, simulations: Simulations, place: int, quantities: Quantities, draws: int) -> Ranked:
    """The rank of the truth in each quantity among the draws of a fit to its data (Talts et al. 2018, algorithm 2).

    Markov chains are thinned to half their least effective sample size, if that is less than `draws`: neighbours in
    what is left of them have a correlation of some 0.02. The rank then falls on the scale of `draws` at random within
    its step, as do ties (Modrak et al. 2023, section 3), so that an exact posterior's is uniform whatever the number.
    Raises ValueError where a quantity is NaN.
    """
    truth = {name: value[place].cpu().numpy()[None] for name, value in simulations.truths.items()}
    own = fit.draws()
    sites = {name: np.concatenate([value, own[name]]) for name, value in truth.items()}
    entries = quantities.entries(sites)
    number = min(draws, _independent(entries[1:], fit) if fit.is_mcmc else fit.number)
    chosen = np.concatenate([[0], 1 + evenly_spaced(fit.number, number).numpy()])
    like = simulations.template.like
    at = {name: torch.as_tensor(value[chosen]).to(like) for name, value in sites.items()}
    density = Density(simulations.model, simulations.data(place))
    values = np.concatenate([entries[chosen], quantities.of_data(density, at)], 1)
    if (missing := np.isnan(values).any(0)).any():
        raise ValueError(f"{quantities.names[int(missing.argmax())]} is not a number in the truth or a draw")
    rng = np.random.default_rng(int(simulations.seeds[place]))
    below, equal = (values[1:] < values[0]).sum(0), (values[1:] == values[0]).sum(0)
    rank = below + rng.integers(0, equal + 1)
    within = rng.uniform(size=rank.shape)
    scaled = rank if number == draws else np.floor((rank + within) * (draws + 1) / (number + 1)).astype(int)
    return Ranked(np.minimum(scaled, draws), number)


def _independent(entries: np.ndarray, fit: Fit) -> int:
    """Half the least bulk effective sample size of entries (chains * draws, P) that vary, rounded down, 1 or more."""
    varying = entries[:, varies(entries)]
    if not varying.size:
        return 1
    chains = fit.posterior.sizes["chain"]
    found = ess(varying.reshape(chains, -1, varying.shape[1])).min()
    return max(1, int(np.nan_to_num(float(found) / 2, nan=1.0)))


def _in_order(sites: dict[str, np.ndarray], dims: Dims, labels: tuple[Labels, ...]) -> dict[str, np.ndarray]:
    """Draws with every exchangeable dim by rising key, draw by draw: name -> (S, ...)."""
    for each in labels:
        key = component_features({name: sites[name] for name in [_key(dims, each)]}, dims, each.dim)[..., 0]
        sites = permute(sites, dims, each, np.argsort(key, axis=1, kind="stable"))
    return sites


def _distinct(values: np.ndarray) -> np.ndarray:
    """The columns of draws (S, P) that vary, and of such as rise or fall together everywhere the first alone.

    These have the same ranks, or mirrored ones: covariances above the diagonal, the second of two shares.
    """
    ranks = values.argsort(0).argsort(0)
    mirrored = np.where(ranks[0] > ranks.max(0) / 2, ranks.max(0) - ranks, ranks)
    _, first = np.unique(mirrored, axis=1, return_index=True)
    return np.sort(first[varies(values)[first]])


def _key(dims: Dims, labels: Labels) -> str:
    """The site by whose first entry components are put in order."""
    return "locs" if labels.dim in dims.get("locs", ()) else next(n for n in dims if labels.dim in dims[n])


def _arrays(sites: dict[str, Tensor]) -> dict[str, np.ndarray]:
    return {name: value.cpu().numpy() for name, value in sites.items()}


def _chosen(size: int) -> np.ndarray:
    """The places of the entries that are looked at, of a site with so many."""
    return evenly_spaced(size, MOST_ENTRIES).numpy()


def _flat(sites: dict[str, np.ndarray], dims: Dims) -> np.ndarray:
    """The entries of all sites side by side, in the order of dims: name -> (S, ...) becomes (S, P)."""
    each = [sites[name].reshape(len(sites[name]), -1) for name in dims]
    return np.concatenate([values[:, _chosen(values.shape[1])] for values in each], 1).astype(float)


def _names(sites: dict[str, Tensor]) -> list[str]:
    """What these entries are called: loc, locs[0], locs[0,1] ..."""
    named = []
    for name, value in sites.items():
        places = [*np.ndindex(value.shape[1:])]
        named += [f"{name}[{','.join(map(str, places[i]))}]" if places[i] else name for i in _chosen(len(places))]
    return named
