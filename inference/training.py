"""One start of SVI: its guide, its parameters, its random state; stopped and resumed at will."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pyro
from pyro import poutine
from pyro.infer import SVI
from pyro.optim import PyroOptim
from torch import Tensor
from tqdm import std

from ..models.structure import sites_of
from .isolation import isolated
from .pairing import Pairing

__all__ = ["Start", "begin"]

SNAPSHOT_EVERY = 25  # steps between two copies of the parameters that a NaN falls back on


@dataclass
class Start:
    """One start on its way: what it has learnt so far, in a param store of its own.

    losses: minus the ELBO of each step, nats. message: why it stopped, empty while it may go on. initial, values: the
    unconstrained parameters at the beginning and by now; the store holds `values` only while the start is at work.
    """

    pairing: Pairing
    svi: SVI
    x: Tensor
    seed: int
    store: dict[str, Any]
    initial: dict[str, Tensor]
    values: dict[str, Tensor]
    losses: list[float] = field(default_factory=list)
    message: str = ""

    def advance(self, steps: int, bar: std.tqdm) -> None:
        """Take so many more steps; a NaN stops them and puts the last good parameters back."""
        with self.at_work(self.seed + len(self.losses)) as params, warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Encountered NaN")  # Pyro's; ours names step and sites
            good = candidate = _copied(params)
            for step in range(steps):
                if step % SNAPSHOT_EVERY == 0:
                    candidate = _copied(params)
                loss = self._step()
                if not math.isfinite(loss):
                    self.message = f"the loss became {loss} at step {len(self.losses)}{self._culprits()}"
                    _restore(params, good)
                    break
                good = candidate
                self.losses.append(loss)
                bar.update()
                if step % 50 == 0:
                    bar.set_postfix(elbo=f"{-loss:.1f}", refresh=False)

    @contextmanager
    def at_work(self, seed: int) -> Iterator[dict[str, Tensor]]:
        """Pyro's store with this start's parameters so far, unconstrained; at the end they are kept aside.

        A parameter may be a tensor that its model or guide took from outside, which is left as it was found.
        """
        with isolated(seed, self.x.dtype, self.store):
            params = pyro.get_param_store().get_state()["params"]
            _restore(params, self.values)
            try:
                yield params
            finally:
                self.values = _copied(params)
                _restore(params, self.initial)

    def recent_loss(self) -> float:
        """The mean loss of the last tenth of the steps, nats; infinite before the first."""
        last = self.losses[-max(1, len(self.losses) // 10) :]
        return sum(last) / len(last) if last else float("inf")

    def _step(self) -> float:
        try:
            return self.svi.step(self.x)
        except (ValueError, RuntimeError):  # a factorization of NaNs, say
            if not self.losses:
                raise
            return float("nan")

    def _culprits(self) -> str:
        """The sites and parameters that are not finite now."""
        named = pyro.get_param_store().named_parameters()
        bad = [f"parameter {name!r}" for name, value in named if not value.isfinite().all()]
        try:
            guide = poutine.trace(self.pairing.guide).get_trace(self.x)
            model = poutine.trace(poutine.replay(self.pairing.program, trace=guide)).get_trace(self.x)
            for trace in (guide, model):
                trace.compute_log_prob()
                sites = sites_of(trace).items()
                bad += [f"site {name!r}" for name, node in sites if not node["log_prob"].isfinite().all()]
        except (ValueError, RuntimeError):
            pass  # what the parameters tell must do
        return f" ({', '.join(dict.fromkeys(bad))} not finite)" if bad else ""


def begin(make: Callable[[], Pairing], optimizer: Callable[[], PyroOptim], x: Tensor, seed: int) -> Start:
    """A fresh start: the guide made and paired under its own seed."""
    with isolated(seed, x.dtype):
        pairing = make()
        svi = SVI(pairing.program, pairing.guide, optimizer(), pairing.elbo)
        store = pyro.get_param_store().get_state()
        return Start(pairing, svi, x, seed, store, _copied(store["params"]), _copied(store["params"]))


def _copied(params: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in params.items()}


def _restore(params: dict[str, Tensor], good: dict[str, Tensor]) -> None:
    for name, value in good.items():
        params[name].data.copy_(value)
