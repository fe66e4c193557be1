"""Every labelling of a model's exchangeable dims, and densities averaged over them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import permutations, product

import numpy as np
import torch
from torch import Tensor

from ...errors import InputError
from ..fit.fit import Fit
from ..fit.relabel import Dims, Labels, component_features, match, permute

Sites = Mapping[str, Tensor]
LogDensity = Callable[[Sites], Tensor]  # of draws, name -> (S, ...), over the model's own sites, nats: (S,)

MOST = 720  # labellings that are averaged over one by one: those of six components
NUMBERS_AT_ONCE = 5_000_000  # of the draws under some labellings


@dataclass(frozen=True)
class Labellings:
    """The relabellings that leave a model's density as it is.

    labels: the exchangeable dims, with how many entries each has. dims: of every site.
    """

    labels: tuple[tuple[Labels, int], ...]
    dims: Dims

    @property
    def log_number(self) -> float:
        """log of how many there are, nats: the sum of log K!."""
        return sum(math.lgamma(size + 1) for _, size in self.labels)

    @property
    def few(self) -> bool:
        """Whether all of them can be taken one by one."""
        return self.log_number < math.log(MOST + 0.5)

    def each(self, sites: Sites) -> Iterator[dict[str, Tensor]]:
        """The draws under every relabelling, the first of which changes nothing: name -> (S, ...)."""
        for orders in product(*(permutations(range(size)) for _, size in self.labels)):
            moved = dict(sites)
            for (labels, _), order in zip(self.labels, orders, strict=True):
                chosen = np.array(order)
                moved = {name: labels.permuted(value, name, self.dims, chosen) for name, value in moved.items()}
            yield moved

    def of_each(self, log_q: LogDensity, sites: Sites) -> Tensor:
        """log q of the draws under every relabelling, a few relabellings at once: (labellings, S)."""
        number, size = len(next(iter(sites.values()))), sum(value.numel() for value in sites.values())
        every, parts = self.each(sites), []
        while some := [moved for moved, _ in zip(every, range(max(1, NUMBERS_AT_ONCE // size)), strict=False)]:
            together = {name: torch.cat([moved[name] for moved in some]) for name in sites}
            parts.append(log_q(together).reshape(-1, number))
        return torch.cat(parts)

    def log_mean(self, log_q: LogDensity, sites: Sites) -> Tensor:
        """log of the mean of q over all relabellings of each draw: (S,)."""
        return log_mean(self.of_each(log_q, sites))

    def brought(self, sites: Sites) -> Sites:
        """Posterior draws as the mean above takes them: as they are, for to it all relabellings are alike."""
        return sites


@dataclass(frozen=True)
class OneLabelling:
    """One of very many labellings: the draws whose components lie closest to those of a pivot in the pivot's order.

    labels: the one exchangeable dim, of `size` entries. pivot: (size, F), features as `component_features` has them.
    scale: (F,). dims: of every site.
    """

    labels: Labels
    size: int
    pivot: np.ndarray
    scale: np.ndarray
    dims: Dims

    def log_mean(self, log_q: LogDensity, sites: Sites) -> Tensor:
        """log(q / K!): the posterior in one labelling weighs 1 / K! of it all. Infinite outside of it, where p is 0."""
        inside = torch.as_tensor((self._order(sites) == np.arange(self.size)).all(1))
        log_q_here = log_q(sites) - math.lgamma(self.size + 1)
        return torch.where(inside.to(log_q_here.device), log_q_here, math.inf)

    def brought(self, sites: Sites) -> Sites:
        """Posterior draws in this labelling: those of the posterior within it."""
        arrays = {name: value.cpu().numpy() for name, value in sites.items()}
        moved = permute(arrays, self.dims, self.labels, self._order(sites))
        return {name: torch.as_tensor(moved[name]).to(value) for name, value in sites.items()}

    def _order(self, sites: Sites) -> np.ndarray:
        features = component_features({n: v.cpu().numpy() for n, v in sites.items()}, self.dims, self.labels.dim)
        return match(np.nan_to_num(features, posinf=1e100, neginf=-1e100), self.pivot, self.scale)


def averaging_over(fit: Fit, sites: Sites) -> Labellings | OneLabelling:
    """How a proposal is made as symmetric as the posterior: over all labellings, or cut to one of very many.

    sites: draws in one labelling, name -> (S, ...), about which the one lies. Raises InputError where several dims have
    too many labellings together.
    """
    found = labellings_of(fit)
    if found.few:
        return found
    if len(found.labels) > 1:
        names = " and ".join(labels.dim for labels, _ in found.labels)
        raise InputError(f"{names} have more than {MOST} labellings together: that is too many for this evidence")
    (labels, size), dims = found.labels[0], found.dims
    features = component_features({n: v.cpu().numpy() for n, v in sites.items()}, dims, labels.dim)
    pivot = features.mean(0)
    spread = (features - pivot).reshape(-1, features.shape[-1]).std(0)
    return OneLabelling(labels, size, pivot, np.where(spread > 0, spread, np.inf), dims)


def labellings_of(fit: Fit) -> Labellings:
    """Those of the dims that were seen to be exchangeable."""
    sized = tuple((each, int(fit.posterior.sizes.get(each.dim, 1))) for each in fit.labels)
    return Labellings(sized, {site.name: site.dims for site in fit.structure.sites})


def log_mean(log_q: Tensor) -> Tensor:
    """log of the mean over relabellings: (labellings, S) -> (S,). What is NaN, beyond double precision, counts as 0."""
    return torch.where(log_q.isnan(), -math.inf, log_q).logsumexp(0) - math.log(len(log_q))
