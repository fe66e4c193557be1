"""One start of SVI: its guide, its parameters, its random state; stopped and resumed at will."""

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyro
import torch
from pyro.infer import SVI
from pyro.optim import PyroOptim
from torch import Tensor
from tqdm import std

from ...guides import Guide
from ...models.structure import one_line
from ..data.data import Data
from ..distributed.averaging import Averaging
from ..distributed.group import BrokenGroup
from ..steps.compiled_steps import CompiledSteps, Schedule, compiled_steps
from ..steps.minibatches import Minibatches
from ..steps.objective import not_finite
from ..steps.pairing import Pairing

CHECK_EVERY = 100  # steps between two looks whether all processes still have the same parameters
SNAPSHOT_EVERY = 10  # steps between two copies of the parameters, that a NaN falls back on and averages are made of


@dataclass
class Start:
    """One start on its way: what it has learnt so far, in a param store of its own.

    minibatches: which rows each step sees. schedule: what is to come if it wins. losses: minus the ELBO a step, nats.
    compiled: how the steps are taken, empty before the first. message: why it stopped, empty while it may go on.
    failure: what was raised in the last step, empty where nothing was.
    judged: whether it is at its optimum, None where that was not asked, and why. units: of parameters, by name, in
    which compiled steps move them. averaging: of losses and gradients, where several processes take the steps.
    rows: that the ELBO is told by where no two of them share a latent, else 1.
    initial, values: the unconstrained parameters at the beginning and by now; the store holds `values` only while the
    start is at work.
    """

    pairing: Pairing
    svi: SVI
    data: Data
    minibatches: Minibatches
    seed: int
    schedule: Schedule
    store: dict[str, Any]
    initial: dict[str, Tensor]
    values: dict[str, Tensor]
    rows: int = 1
    losses: list[float] = field(default_factory=list)
    message: str = ""
    compiled: str = ""
    failure: str = ""
    judged: tuple[bool | None, str] = (None, "")
    units: Mapping[str, Tensor] = field(default_factory=dict, repr=False)
    fast: CompiledSteps | None = field(default=None, repr=False)
    averaging: Averaging | None = field(default=None, repr=False)

    def advance(self, steps: int, bar: std.tqdm) -> dict[str, Tensor]:
        """Take so many more steps, and give the mean of their later half's parameters.

        A NaN stops them and puts the last good parameters back.
        """
        average, averaged = dict[str, Tensor](), 0
        with self.at_work(self.seed + len(self.losses)) as params, warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Encountered NaN")  # Pyro's; ours names step and sites
            if not self.compiled:
                self._compile()
            good = _copied(params)
            for taken in range(0, steps, SNAPSHOT_EVERY):
                candidate, before = _copied(params), len(self.losses)
                odd = self._block(min(SNAPSHOT_EVERY, steps - taken))
                sound = len(self.losses) - before
                bar.update(sound)
                if odd is not None:
                    self.message = self._said_of(odd)
                    _restore(params, candidate if sound else good)
                    break
                good = candidate
                bar.set_postfix(elbo=f"{-self.losses[-1]:.1f}", refresh=False)
                if self.averaging and (len(self.losses) % CHECK_EVERY == 0 or taken + SNAPSHOT_EVERY >= steps):
                    self.averaging.check_equal(params, len(self.losses))
                if taken >= steps // 2:
                    averaged += 1
                    for name, value in params.items():
                        average.setdefault(name, torch.zeros_like(value)).add_(value.detach())
        return {name: value / averaged for name, value in average.items()} if averaged else self.values

    def losses_at(self, values: Mapping[str, Tensor], number: int) -> list[float]:
        """Minus the ELBO at these parameters so many times, in `unit`; noise and batches are the same in every call."""
        batches = Minibatches(self.schedule.plates, 0, share=self.schedule.share).draw(number)
        kept, self.values = self.values, dict(values)
        try:
            with self.at_work(0), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                losses = list[float]()
                for batch in batches:
                    self.data.touched(len(batch))
                    losses.append(self._loss(batch) / self.rows)
        except BrokenGroup:
            raise
        except Exception:  # a factorization of NaNs, or a program that fails there
            losses = [math.nan] * number
        finally:
            self.values = kept
        return losses

    @property
    def unit(self) -> str:
        """Of the ELBOs that are compared."""
        return "nats a row" if self.rows > 1 else "nats"

    def scale_rate(self, factor: float) -> None:
        """Multiply the step size, from the next step on."""
        if self.fast:
            self.fast.adam.lr *= factor
        else:
            for optimizer in self.svi.optim.optim_objs.values():
                for group in optimizer.param_groups:
                    group["lr"] *= factor

    @contextmanager
    def at_work(self, seed: int) -> Iterator[dict[str, Tensor]]:
        """Pyro's store with this start's parameters so far, unconstrained; at the end they are kept aside.

        A parameter may be a tensor that its model or guide took from outside, which is left as it was found.
        """
        with self.data.isolated(seed, self.store), self.data.some_rows():
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
        return sum(last) / len(last) if last else math.inf

    def record(self) -> dict[str, Any]:
        """What a Fit tells of its training; to be called at work."""
        params = {name: value.detach().clone() for name, value in pyro.get_param_store().items()}
        how = {"steps": len(self.losses), "message": self.message, "compiled": self.compiled}
        converged, why = self.judged
        return {"losses": np.array(self.losses), "params": params, "converged": converged, "why": why, **how}

    def warn(self, name: str, mend: str) -> None:
        """Say to who called the caller that the training stopped early, or was not compiled although it might be."""
        if self.schedule.share and not self.schedule.share.group.first:
            return
        if self.message:
            said = f"{name}: {self.message}; the last good parameters are kept: {mend}"
            warnings.warn(said, stacklevel=3)
        asked = "eager" if self.schedule.compile is True else "eager:"
        if self.compiled.startswith(asked):
            warnings.warn(f"{name}: the steps are not compiled but {self.compiled}", stacklevel=3)

    def _block(self, size: int) -> float | None:
        """Take so many steps, each loss kept at once, as Ctrl-C may end them; one that is not finite ends them too."""
        for batch in self.minibatches.draw(size):
            self.data.touched(len(batch))
            try:
                loss = self._step(batch, len(self.losses))
            except BrokenGroup:
                raise
            except Exception as error:  # a factorization of NaNs, or a program that fails late
                if not (self.fast or self.losses):
                    raise
                loss, self.failure = math.nan, one_line(error)
            if not math.isfinite(loss):
                return loss
            self.losses.append(loss)
        return None

    def _compile(self) -> None:
        """Make the steps ready, before the first."""
        options = (self.svi.optim, self.data, self.minibatches, self.schedule)
        self.fast, self.compiled = compiled_steps(self.pairing, *options)
        self._share()
        if self.fast:
            self.fast.in_units(self.units)

    def _share(self) -> None:
        """Take the steps together with other processes, where there are some: compiled if they are in all of them."""
        share = self.schedule.share
        if share is None:
            return
        self.averaging = Averaging(share)
        self.averaging.take_over(self.svi, self.pairing.elbo)
        eager = [how for how in share.group.every(self.compiled) if how.startswith("eager")]
        if eager:
            self.fast, self.compiled = None, eager[0]
        elif self.fast:
            self.fast.gradient = self.averaging.gradient(self.fast.gradient)

    def _step(self, batch: Tensor, number: int) -> float:
        if self.fast:
            return self.fast.take(batch, number)
        with self.minibatches.messenger(batch, number):
            return self.data.run(self.svi.step)

    def unclip(self) -> None:
        """Clip gradients no more: that helps from far away, and where it happens often there is another optimum.

        In units of the posterior's own it happens to outliers alone, and goes on.
        """
        if self.units:
            return
        if self.fast and self.fast.adam.clip is not None:
            self.fast.adam.clip = math.inf
        for optimizer in self.svi.optim.optim_objs.values():
            for group in optimizer.param_groups:
                if "clip_norm" in group:
                    group["clip_norm"] = math.inf

    def _loss(self, batch: Tensor) -> float:
        if self.fast:
            return float(self.fast.gradient(*self.fast.training.inputs(batch, len(self.losses)))[0])
        with self.minibatches.messenger(batch, len(self.losses)):
            return self.data.run(self.svi.evaluate_loss)

    def _said_of(self, odd: float) -> str:
        """Why the training stops at a loss that is not finite: the same in all processes, by the first that knows."""
        told = not_finite(self.pairing, self.data), self.failure or (self.averaging.failure if self.averaging else "")
        if self.averaging:
            culprits, failures = zip(*self.averaging.share.group.every(told), strict=True)
            told = next(filter(None, culprits), ""), next(filter(None, failures), "")
        at, (bad, failure) = len(self.losses), told
        return f"step {at} failed, {failure}" if failure and not bad else f"the loss became {odd} at step {at}{bad}"


def begin(
    make: Callable[[], Pairing],
    optimizer: PyroOptim,
    data: Data,
    seed: int,
    schedule: Schedule,
    place: Callable[[Guide, int], Mapping[str, Tensor]] | None = None,
    rows: int = 1,
) -> Start:
    """A fresh start: the guide made and paired under its own seed.

    optimizer: no other start's. place: puts the guide where it is to begin, and gives the units of its parameters.
    rows: see `Start`.
    """
    with data.isolated(seed), data.some_rows():
        pairing = make()
        units = place(pairing.guide, seed) if place else {}
        data = replace(data, mixed=data.mixed or pairing.mixed)
        svi = SVI(pairing.program, pairing.guide, optimizer, pairing.elbo)
        store = pyro.get_param_store().get_state()
        minibatches = Minibatches(schedule.plates, seed, schedule.warmup, schedule.beta, schedule.share)
        initial, values = _copied(store["params"]), _copied(store["params"])
        return Start(pairing, svi, data, minibatches, seed, schedule, store, initial, values, rows, units=units)


def _copied(params: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in params.items()}


def _restore(params: dict[str, Tensor], good: dict[str, Tensor]) -> None:
    for name, value in good.items():
        params[name].data.copy_(value)
