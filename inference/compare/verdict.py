"""The verdict on a fit: what may be believed of it, the figure that decided, and what to try next.

Held to moments with Monte Carlo errors: those of a reference that converged; else those that the fit's own importance
weights lead to, where Pareto k says that these can be believed; else those of short chains that start from its draws.
"""

import math
from collections.abc import Collection, Iterator, Mapping
from itertools import repeat
from typing import NamedTuple

import numpy as np
import pandas as pd

from ...errors import InputError
from ..compilation.compiled import seconds_scripted
from ..evidence.log_evidence import weights_of
from ..evidence.widened import DRAWS, FAR, NEAR, WARMUP, widened_evidence
from ..fit.convergence import convergence, unconverged
from ..fit.fit import Fit
from ..fit.idata import matched_to
from ..fit.importance import GOOD_KHAT, pareto_k
from ..fit.moments import Moments, Scalars, moments_of, scalars_of, weighted_moments
from ..mcmc.chains import GRADIENTS_A_DRAW
from ..mcmc.nuts import SHORT, chains_from

GOOD_BIAS = 0.25  # of a mean, in the standard's sd
GOOD_RATIO = (0.8, 1.25)  # of an sd to the standard's
SURE = 2.0  # standard errors beyond a threshold, that speak against a fit
SHORT_RHAT, SHORT_ESS = 1.1, 50  # of chains that check a fit
LONGEST = 60.0  # seconds that they may take, about
TRUSTED, MEANS, DOUBTED, UNTRAINED, POINT = "means and spreads", "means", "not to be trusted", "not trained", "point"


class Verdict(NamedTuple):
    """What may be believed. why: a sentence, with the figure that decided and what to try next."""

    word: str
    why: str


class Standard(NamedTuple):
    """What a fit is held to: moments of the scalars of these names, and whose they are, in words."""

    names: tuple[str, ...]
    moments: Moments
    whose: str


def verdict_on(fit: Fit, reference: Fit | None, var_names: Collection[str] | None = None) -> Verdict:
    """What may be believed of a fit. reference: one that converged, with its labels in the same order."""
    if fit.is_point:
        return Verdict(POINT, "it is one point and says nothing of spread")
    if fit.is_mcmc:
        fault = unconverged(fit)
        again = "more draws, another parameterisation, or target_accept nearer 1"
        return Verdict(DOUBTED, f"{fault}: try {again}") if fault else Verdict(TRUSTED, "its chains converged")
    if fit.converged is False:
        return Verdict(UNTRAINED, f"{fit.why}: allow more steps, or another lr")
    if reference is fit:
        return Verdict(TRUSTED, "it is the reference")
    standard = _found(fit, var_names) if reference is None else standard_of(fit, reference, var_names)
    if isinstance(standard, str):
        return Verdict(DOUBTED, f"{standard}: take reference='nuts'")
    return _held_to(parameters_of(fit, standard, var_names).dropna(subset=["bias"]), standard.whose)


def verdict_by_row(
    fit: Fit, bias: float, sd_ratio: float, family: float = math.nan, encoder: float = math.nan
) -> Verdict | None:
    """What may be believed of a fit whose rows have latents of their own, by the median row's distance from NUTS.

    family, encoder: the approximation and the amortisation gap, nats a row, by which it is said what loses.
    """
    if fit.converged is False:
        return Verdict(UNTRAINED, f"{fit.why}: allow more steps, or another lr")
    if math.isnan(bias):
        return None
    said = f"a row's worst mean lies {bias:.2f} sd from NUTS's, its smallest sd is {sd_ratio:.2f} of it (medians)"
    if bias > GOOD_BIAS:
        return Verdict(DOUBTED, said + _loser(fit, family, encoder))
    low, high = GOOD_RATIO
    good = low <= sd_ratio <= high
    return Verdict(TRUSTED, said) if good else Verdict(MEANS, said + _loser(fit, family, encoder))


def _loser(fit: Fit, family: float, encoder: float) -> str:
    """Which of the two loses more, and what to take instead."""
    if math.isnan(family) or math.isnan(encoder):
        return ": its gaps are not told apart, take a richer guide"
    if not getattr(fit.guide, "amortized", True):
        return f"; the family loses {family:.2f} nats a row, its training {encoder:.2f}: " + (
            "take a richer family" if family > encoder else "train longer"
        )
    both = f"the family loses {family:.2f} nats a row, the encoder {encoder:.2f}"
    return (
        f"; {both}: take {'a richer family' if family > encoder else 'a guide with a q for each row, or train longer'}"
    )


def _found(fit: Fit, var_names: Collection[str] | None) -> Standard | str:
    """What a fit is held to without a reference: its weighted draws, or short chains; else why it is to nothing."""
    own = scalars_of(fit, var_names)
    weights = weights_of(fit).log_weights if len(fit.log_weights) else fit.log_weights
    k = float(pareto_k(weights[:, None])[0]) if len(weights) else math.nan
    known = "no k-hat" if math.isnan(k) else f"k-hat {k:.2f}"
    if k < GOOD_KHAT and len(weights) == fit.number:  # else its draws were resampled by them already
        if unseen := _unseen(fit):
            return f"{unseen}, of which its weights know nothing (k-hat {k:.2f})"
        varying = own.moving()
        whose = f"its weighted draws' (k-hat {k:.2f})"
        return Standard(varying.names, weighted_moments(varying, weights), whose)
    if missing := {site.name for site in fit.structure.latent} - fit.sites().keys():
        return f"it has no draws of {', '.join(sorted(missing))}"
    if fit.data.mapped is not None:
        return f"{known}, and no chain can look at all rows of a file"
    work = seconds_scripted(4 * 2 * SHORT * GRADIENTS_A_DRAW, fit.data.numel)
    if work > LONGEST:
        return f"{known}, and chains to check it would take {work:.0f} s"
    chains = matched_to(chains_from(fit), fit.pivot())
    found = convergence(chains)
    if not (found["rhat"] < SHORT_RHAT and found["ess_bulk"] > SHORT_ESS):
        return f"{known}, and short chains from its draws do not agree (R-hat {found['rhat']:.2f})"
    return _standard(scalars_of(chains, var_names), own, f"short chains' from its draws ({known})")


def _unseen(fit: Fit) -> str:
    """That a guide misses much of the posterior, as chains from elsewhere find; empty where they do not, or cannot."""
    if (
        fit.data.mapped is not None
        or seconds_scripted((NEAR + FAR) * (WARMUP + DRAWS) * GRADIENTS_A_DRAW, fit.data.numel) > LONGEST
    ):
        return ""
    try:
        return widened_evidence(fit).remark
    except InputError:
        return ""


def standard_of(fit: Fit, reference: Fit, var_names: Collection[str] | None = None) -> Standard:
    """The moments of a reference, of the scalars that the fit has too."""
    return _standard(scalars_of(reference, var_names), scalars_of(fit, var_names), f"{reference.name}'s")


def _standard(theirs: Scalars, own: Scalars, whose: str) -> Standard:
    """The scalars that both have, and that vary."""
    known, moving = set(zip(own.names, own.shapes, strict=True)), theirs.moving()
    both = zip(moving.names, moving.shapes, strict=True)
    shared = moving.of([name for name, shape in both if (name, shape) in known])
    return Standard(shared.names, moments_of(shared), whose)


def parameters_of(fit: Fit, standard: Standard | None, var_names: Collection[str] | None = None) -> pd.DataFrame:
    """A row a scalar: mean, sd, bias (in the standard's sd), sd_ratio, and the Monte Carlo errors of these two.

    response_ratio: of the sd by linear response, where the fit has one, and response_sd itself. What the standard does
    not have is NaN, as are sds of a point.
    """
    own = scalars_of(fit, var_names)
    mine, response = moments_of(own), _by_scalar(own, fit.linear_response)
    columns = {"mean": mine.mean, "sd": mine.sd, "response_sd": response}
    table = pd.DataFrame(columns, index=pd.Index(own.names, name="scalar"))
    held = own.of(standard.names) if standard else own.of([])
    mine = moments_of(held)
    theirs = standard.moments if standard else mine
    ratio = mine.sd / theirs.sd if not fit.is_point else np.full(len(held.names), np.nan)
    against = {
        "bias": np.abs(mine.mean - theirs.mean) / theirs.sd,
        "bias_se": np.hypot(mine.mean_se, theirs.mean_se) / theirs.sd,
        "sd_ratio": ratio,
        "sd_ratio_se": np.hypot(mine.sd_se / theirs.sd, ratio * theirs.sd_se / theirs.sd),
    }
    table = table.join(pd.DataFrame(against, index=pd.Index(held.names, name="scalar")))
    table.loc[list(held.names), "response_ratio"] = table.loc[list(held.names), "response_sd"] / theirs.sd
    return table


def _by_scalar(scalars: Scalars, known: Mapping[str, np.ndarray]) -> np.ndarray:
    """What is known by variable, scalar by scalar; NaN for variables of which nothing is: (P,)."""
    entries = {name: iter(values.reshape(-1)) for name, values in known.items()}
    nothing: Iterator[float] = repeat(math.nan)
    return np.array([next(entries.get(name.partition("[")[0], nothing)) for name in scalars.names])


def _held_to(table: pd.DataFrame, whose: str) -> Verdict:
    if table.empty:
        return Verdict(DOUBTED, f"none of its scalars is among {whose}: name what both have")
    off = table["bias"] - SURE * table["bias_se"]
    worst = table.loc[table["bias"].idxmax()]
    bias = f"the mean of {worst.name} lies {worst['bias']:.2f} sd from {whose}"
    if (off > GOOD_BIAS).any():
        return Verdict(DOUBTED, f"{bias}: take a richer guide, or NUTS")
    low, high = GOOD_RATIO
    sure = (table["sd_ratio"] - table["sd_ratio_se"] >= low) & (table["sd_ratio"] + table["sd_ratio_se"] <= high)
    if not sure.all():
        far = table.loc[np.log(table["sd_ratio"]).abs().idxmax()]
        what = f"the sd of {far.name} is {far['sd_ratio']:.2f} of {whose}"
        return Verdict(MEANS, f"{what}: take a guide with correlations, or more draws where that is near 1")
    if not (table["bias"] + table["bias_se"] <= GOOD_BIAS).all():
        return Verdict(MEANS, f"{bias}, which is not sure to be below {GOOD_BIAS}: take more draws")
    return Verdict(TRUSTED, f"{bias}, and no sd is further off than {_furthest(table):.2f}")


def _furthest(table: pd.DataFrame) -> float:
    return float(table["sd_ratio"].iloc[np.log(table["sd_ratio"]).abs().argmax()])
