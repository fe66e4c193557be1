"""Training that ends by itself, against the best of twelve numbers of steps and rates, which is known only afterwards.

On each published posterior, a mean-field and a full Gaussian. The best: the fastest setting that comes within 0.1 nats
of the highest ELBO that any setting reached; its own judge, which asks whether more steps would gain, is left out.
Accuracy: the ELBO, nats. All runs in one process, which has compiled before.
"""

from __future__ import annotations

import resource
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any
from unittest import mock

import pyrometer
from peers.pairs import Pairs, report
from pyrometer.models.gallery import GALLERY, Posterior

GUIDES = ("auto_normal", "auto_mvn")
STEPS, RATES = (500, 1000, 2000, 4000), (0.01, 0.03, 0.1)
CLOSE = 0.1  # nats
DRAWS = 4000  # of each ELBO
TOO_LARGE = ("diamonds-diamonds", "hmm_example-hmm_example")  # of which a dozen settings take too long


def main(folder: Path = Path("build/bench")) -> list[Pairs]:
    """Run, print, and write to `training_end.json`."""
    return report(_all(), folder / "training_end.json")


def _all() -> Iterator[Pairs]:
    for guide, posterior in product(GUIDES, GALLERY.values()):
        if posterior.name not in TOO_LARGE:
            yield _held(guide, posterior)


def _held(guide: str, posterior: Posterior) -> Pairs:
    _fitted(guide, posterior, steps=10)
    ours = _fitted(guide, posterior)
    with mock.patch("pyrometer.inference.svi.starts.judge_fixed"):
        fixed = [_fitted(guide, posterior, steps=steps, lr=lr) for steps, lr in product(STEPS, RATES)]
    highest = max(run["accuracy"] for run in (ours, *fixed))
    close = [run for run in fixed if run["accuracy"] > highest - CLOSE]
    best = min(close, key=lambda run: run["seconds"]) if close else max(fixed, key=lambda run: run["accuracy"])
    return Pairs(f"{guide}, {posterior.name}", "best of 12", [ours], [best])


def _fitted(guide: str, posterior: Posterior, **options: Any) -> dict[str, float]:
    fit = pyrometer.svi(posterior.model, guide, posterior.data(), draws=DRAWS, progress=False, **options)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0
    return {"seconds": fit.seconds, "accuracy": float(fit.elbo_draws.mean()), "peak_bytes": peak}
