"""What a comparison comes to: its verdicts in a sentence, and from what went wrong what to try next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ...display.table import Mark
from ...guides import catalogue
from ..density.centred import centred_sites
from ..fit.moments import scalars_of
from .verdict import DOUBTED, GOOD_KHAT, MEANS, POINT, TRUSTED, UNTRAINED

if TYPE_CHECKING:
    from .comparison import Comparison

MOST = 60  # scalars of which the correlations are looked at
CORRELATED, MISSED = 0.5, 0.3  # a correlation worth a word, and how far off a guide's must be
NAMES = 5  # named in a sentence, at most


class Headline(NamedTuple):
    """The verdicts in a sentence, and whether these are good, partly, or bad."""

    tone: Mark
    sentence: str


class Step(NamedTuple):
    """What to try, and why; code: the lines that do it, with `model`, `data` and `comparison` as they are here."""

    what: str
    code: str = ""


def headline(comparison: Comparison) -> Headline:
    """The verdicts on all but the reference, in a sentence, and what they were held to."""
    words = _words(comparison)
    held = {name: word for name, word in words.items() if name != comparison.reference} or words
    groups = {word: [name for name, found in held.items() if found == word] for word in dict.fromkeys(held.values())}
    said = [_PHRASES[word](groups[word]) for word in _PHRASES if word in groups]
    if silent := [name for name in comparison if name not in words]:
        said.append(f"nothing can be said of {_listed(silent)}")
    sentence = "; ".join(said)
    tone: Mark = "good" if TRUSTED in groups else "partly" if MEANS in groups else "bad" if groups else ""
    if tone == "good" and {DOUBTED, UNTRAINED} & groups.keys():
        tone = "partly"
    return Headline(tone, f"Verdict: {sentence}{_standard(comparison)}.")


_PHRASES = {
    TRUSTED: lambda names: f"means and spreads can be trusted of {_listed(names)}",
    MEANS: lambda names: f"means alone can be trusted of {_listed(names)}",
    DOUBTED: lambda names: f"{_listed(names)} {_are(names)} not to be trusted",
    UNTRAINED: lambda names: f"{_listed(names)} {'were' if len(names) > 1 else 'was'} not trained to the end",
    POINT: lambda names: f"{_listed(names)} {'are points' if len(names) > 1 else 'is a point'} and no distribution",
}


def _are(names: Sequence[str]) -> str:
    return "are" if len(names) > 1 else "is"


def _standard(comparison: Comparison) -> str:
    """What the fits were held to."""
    name = comparison.reference
    if len(comparison.gaps):
        sound = comparison.gaps["converged"].groupby(level="row").all()
        return f"; NUTS, which they are held to, converged on {sound.sum()} of {len(sound)} rows"
    if name is None:
        return ", without a reference" if any(_words(comparison).values()) else ""
    return f"; the reference {name} did not converge" if comparison.reference_fault else f", held to {name}"


def _words(comparison: Comparison) -> dict[str, str]:
    """The verdict on each fit that has one."""
    known = comparison.table["verdict"].dropna() if "verdict" in comparison.table else {}
    return {str(name): str(word) for name, word in known.items()}


def _listed(names: Sequence[str]) -> str:
    if len(names) > NAMES:
        return f"{', '.join(names[: NAMES - 1])} and {len(names) - NAMES + 1} more"
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def advice(comparison: Comparison) -> list[Step]:
    """What to try next, from what went wrong; what to use, where nothing did."""
    words = _words(comparison)
    centring = _of_centring(comparison) if {DOUBTED, UNTRAINED} & set(words.values()) else ()
    steps = [*centring, *_of_chains(comparison), *_of_training(comparison, words), *_of_guides(comparison, words)]
    steps += _of_optima(comparison)
    sampled = any(fit.is_mcmc or fit.structure.only_local for fit in comparison.fits.values())
    if comparison.reference is None and not sampled:
        steps.append(Step("Nothing was sampled: NUTS on the same model would settle it.", f'{_ADD}"nuts": "nuts"}})'))
    return [*_of_use(comparison, words), *steps]


def _of_chains(comparison: Comparison) -> Iterator[Step]:
    """Markov chains that did not converge."""
    for name, fit in comparison.fits.items():
        if not fit.is_mcmc or fit.converged is not False:
            continue
        warmup, draws = 2 * comparison.problem.nuts.get("warmup", 500), 2 * fit.posterior.sizes["draw"]
        diverged = fit.idata["sample_stats"]["diverging"].any()
        what = "shorter steps" if diverged else "a longer warmup and more draws"
        options = f"warmup={warmup}, " + ("target_accept=0.95" if diverged else f"draws={draws}")
        said = f"{name} did not converge ({fit.why}): {what}."
        yield Step(said, f"{_ADD}{name!r}: partial(pyrometer.nuts, {options})}})")


_ADD = "comparison = comparison.add({"


def _of_training(comparison: Comparison, words: dict[str, str]) -> Iterator[Step]:
    """Guides whose training did not come to its end."""
    for name in (name for name in words if words[name] == UNTRAINED):
        fit = comparison.fits[name]
        again = f"{_ADD}{name!r}: partial(pyrometer.svi, guide={_guide(comparison, name)}, steps={2 * fit.steps})}})"
        yield Step(
            f"{name} was not trained to its end ({fit.why}): more steps, or another lr.",
            again if len(fit.losses) else "",
        )


def _guide(comparison: Comparison, name: str) -> str:
    """How a guide is named in code."""
    return repr(name) if name in catalogue(comparison.problem.model) else "guide"


def _of_guides(comparison: Comparison, words: dict[str, str]) -> Iterator[Step]:
    """Guides whose family is too poor, and which to take instead."""
    poor = [
        name for name, word in words.items() if word in (DOUBTED, MEANS, POINT) and not comparison.fits[name].is_mcmc
    ]
    for name in poor:
        if missed := _missed(comparison, name):
            yield Step(f"{missed}: take a guide with correlations.")
    khat = comparison.table.get("khat", {})
    if high := [name for name in poor if khat.get(name, 0.0) > GOOD_KHAT]:
        yield Step(
            f"k-hat of {_listed(high)} is above {GOOD_KHAT}: weighting its draws does not mend it, a richer family may."
        )
    untried = [
        name
        for name in catalogue(comparison.problem.model)
        if name not in comparison.fits and name not in comparison.skipped
    ]
    if poor and untried:
        yield Step(
            f"Guides of this model that were not tried: {', '.join(untried)}.",
            f"comparison = comparison.add({_richer(untried)!r})",
        )


def _richer(untried: Sequence[str]) -> list[str]:
    """Those with correlations, of the AutoGuides; else the first two."""
    return [name for name in ("auto_mvn", "auto_iaf") if name in untried] or list(untried[:2])


def _missed(comparison: Comparison, name: str) -> str:
    """The strongest correlation of the reference's that a guide has not."""
    standard, fit = comparison.fits.get(comparison.reference or ""), comparison.fits[name]
    if standard is None or standard.converged is False or standard.is_point or fit.is_point:
        return ""
    theirs, mine = (scalars_of(each, comparison.problem.var_names) for each in (standard, fit))
    shared = set(mine.moving().names)
    both = [scalar for scalar in theirs.moving().names if scalar in shared][:MOST]
    if len(both) < 2:
        return ""
    there, here = (np.corrcoef(each.of(both).draws.T) for each in (theirs, mine))
    lost = np.triu(np.where(np.abs(there) > CORRELATED, np.abs(there - here), 0.0), 1)
    i, j = np.unravel_index(lost.argmax(), lost.shape)
    if lost[i, j] < MISSED:
        return ""
    pair = f"{standard.name} correlates {both[i]} and {both[j]} by {there[i, j]:.2f}"
    return f"{pair}, {name} by {here[i, j]:.2f}"


def _of_centring(comparison: Comparison) -> Iterator[Step]:
    """Sites whose scale is itself unknown, which make funnels."""
    try:
        sites = centred_sites(comparison.problem.model, comparison.problem.data)
    except Exception:  # of a model that cannot be conditioned: a suggestion is not worth an error
        return
    if not sites:
        return
    each = ", ".join(f"{site!r}: LocScaleReparam(0.0)" for site in sites)
    code = (
        "from pyro.infer.reparam import LocScaleReparam\n\n"
        f"noncentred = pyro.poutine.reparam(model, {{{each}}})\n"
        "comparison = pyrometer.compare(noncentred, data)"
    )
    yield Step(
        f"The scale of {_listed(sites)} is itself unknown, a funnel where the data say little of each: "
        "the non-centred parameterisation has none.",
        code,
    )


def _of_optima(comparison: Comparison) -> Iterator[Step]:
    """Several optima, or modes that some fits have not seen."""
    for name, fit in comparison.fits.items():
        if len(fit.optima):
            what = f"The starts of {name} ended {np.ptp(fit.optima):.0f} nats apart, in several optima: more starts"
            more = ", or another number of components" if fit.labels else ""
            starts = 4 * len(fit.optima)
            again = f"{_ADD}{name!r}: partial(pyrometer.svi, guide={_guide(comparison, name)}, starts={starts})}})"
            yield Step(f"{what}{more}.", again)


def _of_use(comparison: Comparison, words: dict[str, str]) -> Iterator[Step]:
    """The fit of the smallest gap, or the quickest where there is none, of those that can be trusted."""
    trusted = [name for name, word in words.items() if word == TRUSTED and not comparison.fits[name].is_mcmc]
    if not trusted:
        return
    table = comparison.table.reindex(trusted)
    gaps: Any = table["gap"].dropna() if "gap" in table else ()
    best = str(gaps.idxmin() if len(gaps) else table["seconds"].idxmin())
    what = f"has the smallest gap, {gaps.min():.2f} nats a row" if len(gaps) else f"took {table['seconds'].min():.1f} s"
    yield Step(f"{best} can be trusted, and {what}: use it.", f"comparison[{best!r}].idata")
