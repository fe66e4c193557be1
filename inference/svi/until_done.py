"""Training that ends when it is done: at falling rates, until no further block of steps gains anything.

Judged are averages over a block's iterates, which have less noise than any one of them (Polyak and Juditsky 1992;
Dhaka and others 2020), by what they gain in ELBO under the same noise. That is how far the guide still moved, in nats:
it asks nothing of the parameters' units, and takes neither the noise of the loss for progress nor a walk along which
the ELBO is flat for the lack of an end.
"""

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from torch import Tensor
from tqdm import std

from .training import Start

EXPECTED, CEILING = 2000, 20_000  # steps: that it takes about, and at most
BLOCK, LONGEST = 100, 1000  # steps of the first block, and of the longest
SMALL = 1.0  # nats: a block that gained less is followed by a longer one
GROWTH, FALL = 1.5, 1 / 3  # of a block, and of the rate after a block that gained nothing
SLOWEST = 1e-3  # of the first rate: what hurts at less than this is no matter of the rate
IDLE = 3  # blocks in turn that gained nothing, each at a rate of its own, make an end
TOLERANCE = 0.02  # nats, of a row where no two of them share a latent
DRAWS = (100, 400)  # of ELBOs that are compared: as many as tell a gain from noise
FEW, SHARE = 25, 10  # of ELBOs after a number of steps: a tenth of it, and no fewer than these


class Gain(NamedTuple):
    """What some steps brought in ELBO, and the standard error of that, nats."""

    nats: float
    se: float

    @property
    def counts(self) -> bool:
        """Whether it is beyond the tolerance, and beyond its noise."""
        return self.nats > max(TOLERANCE, 2 * self.se)

    @property
    def hurts(self) -> bool:
        """Whether the steps led away, beyond the tolerance and the noise."""
        return -self.nats > max(TOLERANCE, 2 * self.se)


@dataclass(frozen=True)
class Level:
    """Parameters, and minus their ELBO draw by draw, as far as it was asked for."""

    values: dict[str, Tensor]
    known: dict[int, np.ndarray] = field(default_factory=dict)

    def losses(self, start: Start, draws: int) -> np.ndarray:
        """Nats, (draws,): the noise is the same in every call."""
        if draws not in self.known:
            self.known[draws] = np.array(start.losses_at(self.values, draws))
        return self.known[draws]


def train_until_done(start: Start, bar: std.tqdm) -> None:
    """Train a start until it is done or has taken all steps allowed; the best average of a block is kept."""
    best = anchor = Level(start.values)
    idle, block, gain, last, rate = 0, BLOCK, Gain(math.inf, 0.0), math.inf, 1.0
    while idle < IDLE and not start.message and len(start.losses) < CEILING:
        average = Level(start.advance(min(block, CEILING - len(start.losses)), bar))
        gain = _gain(start, best, average)
        best = average if gain.nats > 0 else best
        block = min(int(GROWTH * block), LONGEST) if gain.nats < SMALL else block
        since = _gain(start, anchor, best)  # of several blocks, each of which gained too little to tell
        if since.counts:
            idle, last, anchor = 0, since.nats, best
        elif not gain.hurts or rate < SLOWEST:  # what hurts says that the rate is too high, and nothing of an end
            idle += 1
        if not gain.counts:
            start.values, rate = best.values, FALL * rate
            start.scale_rate(FALL)
            start.unclip()
    start.values = best.values
    if start.message:
        start.judged = False, start.message
    elif idle < IDLE:
        start.judged = False, f"the last of {CEILING} steps that gained anything still gained {last:.2f} {start.unit}"
    else:
        start.judged = True, f"{block} more steps gained {gain.nats:.3f} {start.unit} (se {gain.se:.3f})"


def judge_fixed(start: Start, bar: std.tqdm, rate: float) -> None:
    """Say of a start that took the steps it was told to whether more of them would gain; it is left as it was.

    rate: what its rate is multiplied by first, as it may have fallen by then.
    """
    if start.message:
        start.judged = False, start.message
        return
    before, taken = Level(start.values), len(start.losses)
    more, most = max(BLOCK, taken // 5), max(FEW, taken // SHARE)
    best = before
    start.scale_rate(rate)
    start.unclip()
    for _ in range(IDLE):
        average = Level(start.advance(more, bar))
        best = average if _gain(start, best, average, most).nats > 0 else best
        start.values = best.values
        start.scale_rate(FALL)
    gain = _gain(start, before, best, most)
    start.values, start.message = before.values, ""
    del start.losses[taken:]
    start.judged = not gain.counts, f"{IDLE * more} more steps gain {gain.nats:.2f} {start.unit} (se {gain.se:.2f})"


def _gain(start: Start, before: Level, after: Level, most: int = DRAWS[-1]) -> Gain:
    """What the ELBO gains between two sets of parameters, under the same noise and on the same minibatches.

    most: draws of it.
    """
    for draws in sorted({min(draws, most) for draws in DRAWS}):
        gains = before.losses(start, draws) - after.losses(start, draws)
        if not np.isfinite(gains).all():  # infinitely far from one of the two
            return Gain(-math.inf if np.isnan(gains).any() or np.isneginf(gains).any() else math.inf, 0.0)
        gain = Gain(float(gains.mean()), float(gains.std() / math.sqrt(draws)))
        if gain.se < TOLERANCE / 2 or abs(gain.nats) > 4 * gain.se:
            break
    return gain
