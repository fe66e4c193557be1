"""The evidence of conjugate mixtures by what Gibbs sampling has found of their rows' components."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ...models import BayesianGMM, DirichletProcessGMM, UnivariateMixture
from ..closed_form.conjugate import Family, MixtureFamily, prior_of
from ..closed_form.e_step import log_totals, terms, weighted_sums
from ..closed_form.row_blocks import RowBlocks, as_row_blocks
from ..closed_form.weights import DirichletWeights
from ..evidence.log_evidence import Evidence
from ..fit.fit import Fit
from ..fit.importance import smoothed_log_mean
from ..mapped.blocks import evenly_spaced

CHAINS = 32  # half of them from draws of the fit, half from k-means++
BURN, SWEEPS, KEEP_EVERY = 200, 60, 5  # sweeps before any is kept, and after
DRAWS = 4  # of each kept
MOST_COMPONENTS, MOST_ROWS = 10, 20_000  # 2^K subsets are summed over; every chain holds all rows' components
NUMBERS_AT_ONCE = 4_000_000


def allocation_evidence(fit: Fit, seed: int = 0) -> Evidence | None:
    """log p(x) of a conjugate mixture, by importance sampling from an average of full conditionals.

    Given the component z_n of every row, p(theta | x, z) is of closed form. Its average over z of a Gibbs sampler,
    (1 / S) sum_s p(theta | x, z_s), is close to the posterior and has its tails; averaged over the K! relabellings too
    (Frühwirth-Schnatter 2004; Celeux, Frühwirth-Schnatter and Robert 2019, section 7.2.3.2), it is the proposal. The
    weights are exact whatever the chains have done. Components without rows are drawn from their prior, as they should
    be.

    fit: of `cavi`. None where that cannot be had: of a DirichletProcessGMM, which is not exchangeable, tied
    covariances, more than 10 components or 20,000 rows.
    """
    model = fit.model
    known = isinstance(model, BayesianGMM | UnivariateMixture) and not isinstance(model, DirichletProcessGMM)
    if not known or (isinstance(model, BayesianGMM) and model.covariance == "tied"):
        return None
    if model.components > MOST_COMPONENTS or fit.number_of_rows > MOST_ROWS:  # type: ignore[attr-defined]
        return None
    with fit.data.isolated(seed), torch.no_grad():
        blocks = as_row_blocks(fit.data, model)  # type: ignore[arg-type]
        prior = prior_of(model, blocks.units)  # type: ignore[arg-type]
        families = _gibbs(blocks, prior, _starts(fit, blocks, seed))
        sites = _groups(_side_by_side(families).sample(DRAWS), model.components)  # type: ignore[attr-defined]
        drawn = prior.drawn_components(sites)
        flat = type(drawn)(*(part.flatten(0, 1) for part in drawn))
        log_joint = log_totals(blocks, flat, blocks.units, len(drawn.offsets)) + prior.log_prob(sites)
        found = smoothed_log_mean((log_joint - _log_average(families, sites)).cpu().numpy())
    return Evidence(*found)


def _starts(fit: Fit, blocks: RowBlocks, seed: int) -> dict[str, Tensor]:
    """Where the chains begin, name -> (CHAINS, K, ...): draws of the fit, and k-means++ of several seeds."""
    kept = evenly_spaced(fit.number, CHAINS // 2)
    found = {name: value[kept] for name, value in fit.sites().items()}
    inits = [fit.model.init(blocks.sample(seed), seed + n) for n in range(CHAINS - len(kept))]  # type: ignore[attr-defined]
    return {name: torch.cat([value, torch.stack([init[name] for init in inits])]) for name, value in found.items()}


def _gibbs(blocks: RowBlocks, prior: Family, sites: dict[str, Tensor]) -> list[Family]:
    """p(theta | x, z) of every chain side by side, at the sweeps that are kept: families of CHAINS K components.

    Chains are as one mixture of that many components, of which a row has one in every chain.
    """
    components = sites["locs"].shape[1]
    every, kept = _side_by_side([prior] * CHAINS), []
    sites = {name: value.flatten(0, 1).unsqueeze(0) for name, value in sites.items()}
    for sweep in range(BURN + SWEEPS):
        drawn = every.drawn_components(sites)
        logits = torch.cat(list(terms(blocks, type(drawn)(*(part[0] for part in drawn)), blocks.units)), 1)
        logits = logits.unflatten(0, (CHAINS, components))
        z = (logits - torch.empty_like(logits).exponential_().log()).argmax(1, keepdim=True)
        members = torch.zeros_like(logits).scatter_(1, z, 1.0).flatten(0, 1)
        family = every.updated(weighted_sums(blocks, members.mT))
        sites = family.sample(1)  # the scale of a chain's weights has no say in its z
        if sweep >= BURN and (sweep - BURN) % KEEP_EVERY == 0:
            kept.append(family)
    return kept


def _side_by_side(families: list[Family]) -> Family:
    """Families as one, their components end to end."""
    together = lambda name: torch.cat([getattr(each, name) for each in families])  # noqa: E731
    first = families[0]
    if not isinstance(first, MixtureFamily):
        return replace(first, loc=together("loc"), variance=together("variance"))
    concentrations = [each.weights.concentration for each in families]  # type: ignore[union-attr]
    parts: dict[str, Any] = {name: together(name) for name in ("loc_precision", "locs", "df", "scales")}
    return replace(first, weights=DirichletWeights(torch.cat(concentrations)), **parts)


def _groups(sites: dict[str, Tensor], components: int) -> dict[str, Tensor]:
    """Draws of families side by side as draws of one each: name -> (S, K, ...). A part of a Dirichlet is one too."""
    found = {name: value.unflatten(1, (-1, components)).flatten(0, 1) for name, value in sites.items()}
    if "weights" in found:
        found["weights"] = found["weights"] / found["weights"].sum(-1, keepdim=True)
    return found


def _log_average(families: list[Family], sites: dict[str, Tensor]) -> Tensor:
    """log of the mean density of draws (S, K, ...) over the families and all relabellings: (S,)."""
    every, (number, components) = _side_by_side(families), sites["locs"].shape[:2]
    width = len(every.expected_components().offsets)
    places = torch.arange(number).split(max(1, NUMBERS_AT_ONCE // (width * components * 16)))
    return torch.cat([_log_average_of(every, {k: v[place] for k, v in sites.items()}) for place in places])


def _log_average_of(every: Family, sites: dict[str, Tensor]) -> Tensor:
    components = sites["locs"].shape[1]
    flat = {name: value.flatten(0, 1).unsqueeze(1) for name, value in sites.items()}  # (S K, 1, ...)
    each, constants = every.log_prob_of_components(flat), sites["locs"].new_zeros(1)
    if isinstance(every, MixtureFamily):
        concentration = every.weights.concentration.unflatten(0, (-1, components))  # type: ignore[union-attr]
        constants = torch.lgamma(concentration.sum(-1)) - torch.lgamma(concentration).sum(-1)
        each = each + (concentration.flatten() - 1) * flat["weights"].log()
    table = each.unflatten(0, (-1, components)).unflatten(-1, (-1, components)).transpose(1, 2)  # (S, families, K, K)
    by_family = log_permanent(table) + constants
    return by_family.logsumexp(-1) - math.log(by_family.shape[-1]) - math.lgamma(components + 1)


def log_permanent(table: Tensor) -> Tensor:
    """log of the sum over permutations p of prod_k exp(table[k, p_k]): (..., K, K) -> (...).

    Row by row over the subsets of columns that are taken, 2^K of them, instead of K! permutations.
    """
    components = table.shape[-1]
    top = table.amax(-1)
    entries = (table - top.unsqueeze(-1)).exp()
    sums = {0: torch.ones_like(top[..., 0])}
    for row in range(components):
        longer: dict[int, Tensor] = {}
        for taken, value in sums.items():
            for column in range(components):
                if not taken >> column & 1:
                    key, term = taken | 1 << column, value * entries[..., row, column]
                    longer[key] = longer[key] + term if key in longer else term
        sums = longer
    return sums[(1 << components) - 1].log() + top.sum(-1)
