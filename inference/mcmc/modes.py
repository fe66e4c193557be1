"""Chains that stay apart: which sit in which mode, and how the modes weigh."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import softmax

APART = 1.2  # R-hat of two chains that are not in one mode


class Mode(NamedTuple):
    """chains: their numbers. weight: of all the modes found, by evidences as if each were Gaussian in R^dim."""

    chains: tuple[int, ...]
    weight: float


def modes(draws: np.ndarray, log_density: np.ndarray) -> list[Mode]:
    """The groups of chains that are each in one mode.

    draws: unconstrained, (chains, draws, dim). log_density: of each, (chains, draws), nats. A mode's evidence is
    E[log density] plus the entropy of a Gaussian with the draws' covariance, which for a Gaussian mode is exact.
    """
    groups: list[list[int]] = []
    for chain in range(len(draws)):
        for group in groups:
            if _rhat(draws[[group[0], chain]]) < APART:
                group.append(chain)
                break
        else:
            groups.append([chain])
    weights = softmax([_log_evidence(draws[group], log_density[group]) for group in groups])
    return [Mode(tuple(group), float(weight)) for group, weight in zip(groups, weights, strict=True)]


def told(found: Sequence[Mode]) -> str:
    """A sentence on modes that chains stay in; empty where there is one."""
    if len(found) < 2:
        return ""
    parts = [
        f"chain{'s' if len(chains) > 1 else ''} {', '.join(map(str, chains))} in one of weight {weight:.2g}"
        for chains, weight in sorted(found, key=lambda mode: -mode.weight)
    ]
    mend = "give the model an init near the heaviest, or a prior that rules the others out"
    return f"the chains stay in {len(found)} modes, {'; '.join(parts)} (by a Gaussian evidence of each): {mend}"


def _rhat(pair: np.ndarray) -> float:
    """The worst of the potential scale reductions of two chains (Gelman and Rubin 1992): (2, S, D)."""
    within, between = pair.var(1, ddof=1).mean(0), pair.mean(1).var(0, ddof=1)
    return float(np.sqrt(1 + between / np.maximum(within, 1e-300)).max())


def _log_evidence(draws: np.ndarray, log_density: np.ndarray) -> float:
    flat = draws.reshape(-1, draws.shape[-1])
    log_det = np.linalg.slogdet(np.atleast_2d(np.cov(flat, rowvar=False)))[1]
    return float(log_density.mean() + 0.5 * (log_det + flat.shape[1] * (1 + math.log(2 * math.pi))))
