"""What a trained model of strings is worth: its log p(x), what it rebuilds, what it writes, and whether z says a thing.

A decoder that sees every character before can learn p(x) without z; q(z | x) then falls onto the prior, and the bound
does not show it (posterior collapse: Bowman et al. 2016; He et al. 2019). So bound, active units and KL stand together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from pandas import DataFrame

from ...errors import InputError, check_positive
from ...models.structure import model_name
from ..data.as_data import DataLike
from .ais import Budget
from .marginal import estimate
from .row_fit import RowFit
from .target import Target

Score: TypeAlias = tuple[float, float, int, str]  # value, standard error, of how many strings, what it is

KL_DRAWS = 20  # of q, a string
COLLAPSED = 0.1  # nats a string: KL(q | prior) bounds what z can tell of a string, and less than this is nothing
SHORT = Budget(draws=5000, chains=8, temperatures=100, leapfrogs=3)


@dataclass(frozen=True, eq=False)
class StringScores:
    """table: a row a score: value, se, its standard error over strings, strings, how many, and what it says.

    kl: E KL(q(z | x) | prior), nats a string. active: of each latent unit, whether it tells strings apart: (latent,).
    """

    table: DataFrame
    kl: float
    active: np.ndarray

    @property
    def collapsed(self) -> bool:
        """Whether z tells no strings apart: no unit is active, or all of them together say less than COLLAPSED."""
        return not self.active.any() or self.kl < COLLAPSED

    @property
    def verdict(self) -> str:
        """Whether z is in use, with the figures that say so."""
        units = f"{int(self.active.sum())} of {len(self.active)} latent units are active"
        kl = f"KL(q(z | x) | prior) is {self.kl:.2f} nats a string"
        if not self.collapsed:
            return f"in use: {units}, {kl}"
        return f"collapsed: {units}, {kl}, z says nothing of a string: raise word_dropout or warmup, or lower hidden"

    def __repr__(self) -> str:
        return f"{self.table.to_string(float_format=lambda value: f'{value:.3f}')}\n{self.verdict}"


def score_strings(
    fit: RowFit,
    x_test: DataLike | None = None,
    *,
    valid: Callable[[str], bool] | None = None,
    samples: int = 1000,
    beam: int = 1,
    ais_rows: int = 10,
    budget: Budget = SHORT,
    seed: int = 0,
) -> StringScores:
    """Score a trained model of strings.

    Parameters
    ----------
    fit : what `train` or `svi` gave for a model of strings, with a guide that tells its q(z | x) of new ones.
    x_test : held-out strings; None takes those that were fitted.
    valid : of a string, whether it is one: by a grammar, or a chemist's toolkit.
    samples : strings drawn from the model. beam : of the reconstruction, as `fit.reconstruct` has it.
    ais_rows : of how many of the strings log p(x) is also found by annealing from the prior, which owes nothing to the
        guide. budget : of that annealing.
    seed : the same seed gives the same numbers.

    Returns
    -------
    StringScores
        iwae, ais: log p(x), nats a string, by the bound of 500 draws and by annealing; _bits: bits a character, a
        string's end counted as one. rebuilt: strings that the decoder gives back at the mean of q(z | x), letter by
        letter; characters: of them all, those in their place. valid: of the samples; unique: of the valid ones;
        novel: of the different ones, those that no fitted string equals (Polykovskiy et al. 2020).

    Raises
    ------
    InputError
        The model is not of strings, strings are unfit, or `valid` fails on one.

    Examples
    --------
    >>> import pyrometer
    >>> from pyrometer.models import SequenceVAE
    >>> strings = ["CC", "CO", "NC", "ON"] * 10
    >>> fit = pyrometer.train(SequenceVAE(2, hidden=8), "encoder", strings, epochs=1, progress=False)
    >>> scores = pyrometer.score_strings(fit, strings[:4], samples=20, ais_rows=1)
    >>> bool(scores.table.loc["iwae", "value"] < 0), scores.active.shape
    (True, (2,))
    """
    if not hasattr(fit.model, "as_given"):
        raise InputError(f"model {model_name(fit.model)} is not of strings: give a fit of a SequenceVAE")
    check_positive(samples=samples, beam=beam, ais_rows=ais_rows)
    strings, target = fit.rows(x_test), fit.target(x_test)
    scores = {**_densities(target, strings, ais_rows, budget, seed)}
    scores |= _reconstruction(strings, fit.reconstruct(x_test, beam))
    scores |= _samples(fit.sample(samples, seed), fit.rows(), valid)
    table = DataFrame.from_dict(scores, orient="index", columns=["value", "se", "strings", "says"])
    return StringScores(table, mean_kl(target, seed), fit.active_units())


def mean_kl(target: Target, seed: int = 0) -> float:
    """KL(q(z | x) | p(z)), a mean over rows, nats, by draws of q."""
    with target.isolated(seed), torch.no_grad():
        each = []
        for block in target.blocks():
            z = block.q.sample(torch.Size((KL_DRAWS,)))
            each.append((block.q.log_prob(z) - block.density.prior.log_prob(z)).mean(0))
        return float(torch.cat(each).mean())


def _densities(target: Target, strings: Sequence[str], rows: int, budget: Budget, seed: int) -> dict[str, Score]:
    """log p(x) by IWAE of all strings, and by AIS of the first."""
    lengths = np.array([len(string) + 1 for string in strings])
    few = target.take(torch.arange(min(rows, len(target)))) if len(target) > rows else target
    found = {
        "iwae": estimate(target, "iwae_500", Budget(draws=500), seed).value,
        "ais": estimate(few, "ais", budget, seed).value,
    }
    says = {"iwae": "log p(x), at least, by the bound of 500 draws", "ais": "log p(x) by annealing from the prior"}
    scores: dict[str, Score] = {}
    for name, nats in found.items():
        length = lengths[: len(nats)]
        bits = -nats.sum() / math.log(2) / length.sum()
        bits_se = _se(-nats / math.log(2) - bits * length) / length.mean()  # of a ratio, by the delta method
        scores[name] = float(nats.mean()), _se(nats), len(nats), f"{says[name]}, nats a string"
        scores[f"{name}_bits"] = float(bits), bits_se, len(nats), "bits a character, the end of the string among them"
    return scores


def _reconstruction(strings: Sequence[str], again: Sequence[str]) -> dict[str, Score]:
    whole = np.array([a == b for a, b in zip(strings, again, strict=True)], float)
    pairs = list(zip(strings, again, strict=True))
    hits = np.array([sum(a == b for a, b in zip(old, new, strict=False)) for old, new in pairs], float)
    lengths = np.array([max(len(old), len(new)) for old, new in pairs])
    share = hits.sum() / lengths.sum()
    characters = float(share), _se(hits - share * lengths) / lengths.mean(), len(strings), "characters in their place"
    return {"rebuilt": _share(whole, "strings rebuilt letter by letter"), "characters": characters}


def _samples(drawn: Sequence[str], fitted: Sequence[str], valid: Callable[[str], bool] | None) -> dict[str, Score]:
    scores: dict[str, Score] = {}
    sound = list(drawn)
    if valid is not None:
        checked = np.array([_checked(valid, string) for string in drawn], float)
        scores["valid"] = _share(checked, "samples that are valid")
        sound = [string for string, is_valid in zip(drawn, checked, strict=True) if is_valid]
    different, old = sorted(set(sound)), set(fitted)
    among = "valid samples" if valid else "samples"
    share = len(different) / len(sound) if sound else math.nan
    scores["unique"] = share, math.nan, len(sound), f"different ones among the {among}"
    scores["novel"] = _share(np.array([string not in old for string in different], float), "of these, not fitted")
    return scores


def _checked(valid: Callable[[str], bool], string: str) -> bool:
    try:
        return bool(valid(string))
    except Exception as error:
        said = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        raise InputError(f"valid fails on {string!r} ({said}): let it give True or False") from error


def _share(each: np.ndarray, says: str) -> Score:
    return float(each.mean()) if len(each) else math.nan, _se(each), len(each), says


def _se(each: np.ndarray) -> float:
    """The standard error of a mean; NaN of fewer than two."""
    return float(each.std(ddof=1) / math.sqrt(len(each))) if len(each) > 1 else math.nan
