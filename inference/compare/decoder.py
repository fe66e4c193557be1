"""Whether a decoder loses: held to a closed form that knows as many dimensions or none, and to its own training rows.

The difference of two log p(x) of one row varies far less from row to row than either does, so that few rows tell.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pandas import DataFrame
from torch import Tensor
from torch.distributions import Bernoulli, LowRankMultivariateNormal, constraints

from ...models.vae.pca import pca
from ..data.data import Data
from ..density.row_density import RowDensity
from ..local_latents.decoder.observed import observed
from ..local_latents.marginal import Budget, estimate
from ..local_latents.row_fit import RowFit
from ..local_latents.target import target_of, tells_new
from ..mapped.blocks import evenly_spaced

ROWS = 50  # of each kind, at most
BUDGET = Budget(chains=16, temperatures=200, error=0.3)  # of annealing, a row: less than rows differ by
SURE = 2.0  # standard errors from which a difference counts
LEAST = 0.1  # nats a row from which a loss is worth a word
RAREST = 0.01  # probability of a pixel, at least


@dataclass(frozen=True)
class Judged:
    """log p(x) less a rival's, nats a row, each with its standard error over rows.

    rival: what it is. gain: of held-out rows, of training rows where there are none. learnt: how much greater it is on
    training rows; NaN where none are held out.
    """

    rival: str
    gain: float
    gain_se: float
    learnt: float = math.nan
    learnt_se: float = math.nan

    @property
    def below(self) -> float:
        """What it lacks of the rival; 0 where that may be chance, or too little to matter."""
        return -self.gain if self.gain < -max(SURE * self.gain_se, LEAST) else 0.0

    @property
    def by_heart(self) -> float:
        """What it has on training rows alone; 0 where that may be chance, or too little to matter."""
        return self.learnt if self.learnt > max(SURE * self.learnt_se, LEAST) else 0.0

    @property
    def loss(self) -> float:
        """The larger of the two, nats a row."""
        return max(self.below, self.by_heart)

    @property
    def said(self) -> str:
        """One clause, with the figures."""
        where = "on the rows it was trained on" if math.isnan(self.learnt) else "held out"
        than = f"{abs(self.gain):.2f} (se {self.gain_se:.2f}) nats a row {'more' if self.gain > 0 else 'less'}"
        found = f"log p(x) has {than} than {self.rival} {where}"
        if math.isnan(self.learnt):
            return f"{found}, and without x_test it cannot be told what is learnt by heart"
        return f"{found}, {self.learnt:+.2f} (se {self.learnt_se:.2f}) beyond that on the rows it was trained on"

    @property
    def mend(self) -> str:
        """What to do about the larger loss."""
        if self.by_heart > self.below:
            return "fewer hidden units, more rows, or a training that x_test ends"
        return "train longer, or another decoder and likelihood"


def judge_decoder(fit: RowFit, test: Data | None, seed: int = 0) -> Judged | None:
    """Hold log p(x) of a fit to a rival's; None where there is none to hold it to.

    Of densities the rival is probabilistic PCA with as many dimensions, whose marginal likelihood is exact; of black
    and white pixels, independent ones of the same means. Both learn from the training rows alone. log p(x) is found by
    annealing, so that a bad guide is not taken for a bad decoder.
    """
    rival = _rival(fit)
    if rival is None:
        return None
    name, log_density = rival

    def gain(data: Data) -> tuple[float, float]:
        rows = RowDensity(fit.density.on(data.take(evenly_spaced(data.rows or 0, ROWS))))
        told = tells_new(fit.guide)
        target = target_of(rows, fit.guide if told else rows.prior, new=True)
        found = estimate(target, "ais_guide" if told else "ais", BUDGET, seed)
        each = found.value - log_density(rows.data.values)
        return float(each.mean()), float(each.std(ddof=1)) / math.sqrt(len(each))

    trained, trained_se = gain(fit.data)
    if test is None:
        return Judged(name, trained, trained_se)
    found, se = gain(test)
    return Judged(name, found, se, trained - found, math.hypot(trained_se, se))


def what_loses(gaps: DataFrame, amortised: Collection[str], judged: Judged | None) -> str:
    """A sentence: which guide to take, and whether its family, its encoder or the decoder loses most, nats a row.

    gaps: a row a guide, as `summarised` has them. amortised: the guides that have an encoder.
    """
    known = gaps.dropna(subset=["approximation_gap", "amortisation_gap"])
    if known.empty:
        return ""
    best = str(known["gap"].idxmin())
    row = known.loc[best]
    error = SURE * np.hypot(known["gap_se"], row["gap_se"])
    near = [str(name) for name in known.index[known["gap"] - row["gap"] <= error] if name != best]
    encoder = "its encoder" if best in amortised else "its training"
    losses = {"its family": float(row["approximation_gap"]), encoder: float(row["amortisation_gap"])}
    mends = {"its family": "a richer one", "its encoder": "a guide with a q for each row", "its training": "more steps"}
    said = f"take {best}, whose gap of {row['gap']:.2f} nats a row is the smallest"
    said += f" ({', '.join(near)} within its error)" if near else ""
    said += f": its family loses {losses['its family']:.2f}, {encoder} {losses[encoder]:.2f}; "
    if judged is None:
        said += "the decoder is held to nothing, for these rows have no rival in closed form"
    else:
        losses["the decoder"], mends["the decoder"] = judged.loss, judged.mend
        said += f"of the decoder {judged.said}"
    loser = max(losses, key=lambda name: losses[name])
    if losses[loser] < LEAST:
        return f"{said}; none of them loses {LEAST} nats a row"
    return f"{said}; {loser} loses most, {losses[loser]:.2f}: try {mends[loser]}"


def _rival(fit: RowFit) -> tuple[str, Callable[[Tensor], np.ndarray]] | None:
    """What log p(x) is held to, in words, and its log density of rows (M, *row) -> (M,)."""
    x = fit.data.values
    if len(fit.data.tensors) != 1 or x[:1].numel() < 2 or fit.structure.discrete or hasattr(fit.model, "as_given"):
        return None
    two = fit.data.take(evenly_spaced(fit.data.rows or 0, 2))
    with two.isolated(0), torch.no_grad():
        density = fit.density.on(two)
        z = RowDensity(density).prior_draw()
        supports = list[Any]()
        seen = observed(density, z, lambda node: supports.append(node["fn"].support) or node["value"])  # type: ignore[func-returns-value]
    if seen.shape != two.values.shape or not torch.equal(seen, two.values):  # something else of the rows is observed
        return None
    rows = x.flatten(1).double()
    if all(_kind(support) is constraints.boolean for support in supports):
        mean = rows.mean(0).clamp(RAREST, 1 - RAREST)
        found = Bernoulli(mean, validate_args=False)
        return (
            "independent pixels of the same means",
            lambda x: found.log_prob(x.flatten(1).double()).sum(-1).cpu().numpy(),
        )
    if any(support.is_discrete for support in supports):
        return None
    fitted = pca(rows, fit.latent)
    loadings = fitted.loadings
    noise = loadings.new_full((len(loadings),), fitted.scale**2)
    normal = LowRankMultivariateNormal(fitted.mean, loadings, noise, validate_args=False)
    number = int((loadings.square().sum(0) > 0).sum())
    name = f"probabilistic PCA with {number} dimension{'s' * (number != 1)}"
    return name, lambda x: normal.log_prob(x.flatten(1).double()).cpu().numpy()


def _kind(support: Any) -> Any:
    return getattr(support, "base_constraint", support)
