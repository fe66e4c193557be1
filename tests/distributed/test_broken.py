"""What cannot be shared is refused by all processes in one line; who loses the others ends, and nobody hangs."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import fits
import numpy as np
import pyro
import pyro.distributions as dist
import pyrometer
import pytest
import torch
from fits import WHOLE, X, Y, effects, kept, regression, together
from pyrometer.inference.distributed import group as groups
from pyrometer.inference.svi.training import Start
from torch import Tensor, nn

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # trained for no more than a moment
    pytest.mark.skipif(sys.platform != "linux", reason="it forks"),
]
HALF = WHOLE // 2
EAGER = fits.EAGER


def gamma_effects(x: Tensor, y: Tensor, batch_size: int | None = None) -> None:
    """A latent of each row that is drawn by rejection."""
    beta = pyro.sample("beta", dist.Normal(torch.zeros(2), 2.0).to_event(1))
    with pyro.plate("data", len(x), subsample_size=batch_size) as rows:
        e = pyro.sample("e", dist.Gamma(torch.full((), 2.0), 1.0))
        pyro.sample("y", dist.Normal(x[rows] @ beta + e, 0.5), obs=y[rows])


def gamma_guide(x: Tensor, y: Tensor, batch_size: int | None = None) -> None:
    pyro.sample("beta", dist.Normal(pyro.param("loc", lambda: torch.zeros(2)), 0.1).to_event(1))
    with pyro.plate("data", len(x), subsample_size=batch_size) as rows:
        pyro.sample("e", dist.Gamma(pyro.param("a", lambda: torch.ones(len(x)))[rows].exp(), 1.0))


def one_sign(x: Tensor, y: Tensor, batch_size: int | None = None) -> None:
    """A discrete latent that all rows share, and so a logarithm around the sum over all of them."""
    beta = pyro.sample("beta", dist.Normal(torch.zeros(2), 2.0).to_event(1))
    sign = 2.0 * pyro.sample("sign", dist.Bernoulli(0.5)) - 1.0
    with pyro.plate("data", len(x), subsample_size=batch_size) as rows:
        pyro.sample("y", dist.Normal(sign * (x[rows] @ beta), 0.5), obs=y[rows])


def all_rows(x: Tensor, y: Tensor) -> None:
    regression(x, y)


def normalising() -> Any:
    return fits.vae(encoder=nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Linear(8, 4)).double())


REFUSED: dict[str, tuple[Callable[[int], Any], str]] = {
    "another seed": (
        lambda rank: fits.svi(regression, "auto_normal", (X, Y), seed=rank, **EAGER)(HALF),
        "process 1 was given another seed than process 0: give every process the same data",
    ),
    "other rows": (
        lambda rank: fits.svi(regression, "auto_normal", (X + rank, Y), **EAGER)(HALF),
        "process 1 was given another data than process 0",
    ),
    "another rate": (
        lambda rank: fits.svi(regression, "auto_normal", (X, Y), lr=0.1 + rank, **EAGER)(HALF),
        "process 1 was given another options than process 0",
    ),
    "noise by rejection": (
        lambda rank: fits.svi(gamma_effects, gamma_guide, (X, Y), **EAGER)(HALF),
        "site 'e' draws by rejection for each row (Gamma, Beta, Chi2 and StudentT), which several processes cannot",
    ),
    "a discrete latent of all rows": (
        lambda rank: fits.svi(one_sign, "auto_normal", (X, Y), **EAGER)(HALF),
        "Expected all enumerated sample sites to share a common poutine.scale",
    ),
    "batch normalisation": (
        lambda rank: fits.train(normalising(), compile=False)(HALF),
        "not the mean of its shares, as by batch normalisation",
    ),
    "a parameter by the batch": (
        lambda rank: fits.svi(effects, "auto_diagonal_normal", (X, Y), **EAGER)(HALF),
        "guide auto_diagonal_normal has one vector for all latents, and a minibatch has those of some rows",
    ),
    "a model without batches": (
        lambda rank: fits.svi(all_rows, "auto_normal", (X, Y), **EAGER)(None),
        "2 processes share the rows of a step, and all_rows takes no batch_size: write it as",
    ),
    "one row": (
        lambda rank: fits.svi(regression, "auto_normal", (X[:1], Y[:1]), **EAGER)(None),
        "1 rows are too few for 2 processes: start fewer",
    ),
    "nuts": (
        lambda rank: pyrometer.nuts(regression, (X, Y)),
        "nuts is done by one process, and these are 2: start it without torchrun; svi and train are what several share",
    ),
    "compare": (lambda rank: pyrometer.compare(regression, (X, Y)), "compare is done by one process, and these are 2"),
    "calibrate": (
        lambda rank: pyrometer.calibrate(regression, "auto_normal", 10),
        "calibrate is done by one process",
    ),
    "choose_components": (
        lambda rank: pyrometer.choose_components(X),
        "choose_components is done by one process",
    ),
}


def refusals(rank: int) -> dict[str, str]:
    said = {}
    for name, (work, _) in REFUSED.items():
        try:
            said[name] = repr(work(rank))
        except pyrometer.InputError as error:
            said[name] = str(error)
    said["and then"] = str(kept(fits.FITS["local latents"](HALF))["losses"].sum())  # it goes on after all of these
    return said


def test_what_cannot_be_shared_is_refused_by_all_in_one_line(tmp_path: Path) -> None:
    (_, first), (_, second) = together(refusals, 2, tmp_path)
    assert isinstance(first, dict), first
    assert first == second
    for name, (_, line) in REFUSED.items():
        assert line in first[name], name
        assert "\n" not in first[name]
    assert float(first["and then"]) == pytest.approx(kept(fits.FITS["local latents"](WHOLE))["losses"].sum())


class Fails:
    """A regression that cannot go on with row 7 once it has met it so many times: in one of the processes."""

    def __init__(self, after: int, compute: Callable[[Tensor], Tensor]) -> None:
        self.after, self.compute, self.met = after, compute, 0

    def __call__(self, x: Tensor, y: Tensor, batch_size: int | None = None) -> None:
        beta = pyro.sample("beta", dist.Normal(torch.zeros(2), 2.0).to_event(1))
        with pyro.plate("data", len(x), subsample_size=batch_size) as rows:
            loc = x[rows] @ beta
            if len(rows) < len(x) and bool((rows == 7).any()):
                self.met += 1
                loc = self.compute(loc) if self.met > self.after else loc
            pyro.sample("y", dist.Normal(loc, 0.5), obs=y[rows])


def raises(loc: Tensor) -> Tensor:
    raise ValueError("row 7 again")


def spoils(loc: Tensor) -> Tensor:
    return loc * float("nan")


@pytest.mark.parametrize("compute", [raises, pytest.param(spoils, marks=pytest.mark.slow)])
def test_what_fails_in_one_process_stops_all_at_its_last_good_parameters(
    tmp_path: Path, compute: Callable[[Tensor], Tensor]
) -> None:
    def model(x: Tensor, y: Tensor, batch_size: int | None = None) -> None:
        failing(x, y, batch_size)

    failing = Fails(6, compute)
    run = fits.svi(model, "auto_normal", (X, Y), **{**EAGER, "steps": 60})
    (_, first), (_, second) = together(lambda rank: kept(run(HALF)), 2, tmp_path)
    assert isinstance(first, dict), first
    assert 10 < len(first["losses"]) < 60
    assert first["message"] == second["message"]
    assert ("ValueError: row 7 again" if compute is raises else "the loss became nan at step") in first["message"]
    for name, value in first["params"].items():
        assert np.isfinite(value).all()
        assert np.array_equal(value, second["params"][name])


def from_step(number: int, act: Callable[[Start], None]) -> Callable[..., Any]:
    """Start._block that does something more from a step on."""
    own = Start._block

    def block(self: Start, size: int) -> Any:
        if len(self.losses) >= number:
            act(self)
        return own(self, size)

    return block


def moved(start: Start) -> None:
    value = next(iter(start.svi.optim.optim_objs))
    value.data.mul_(1 + 2**-50)


def draws(start: Start) -> None:
    torch.rand(1)


@pytest.mark.parametrize("act", [moved, pytest.param(draws, marks=pytest.mark.slow)])
def test_processes_that_no_longer_agree_are_told(
    tmp_path: Path, act: Callable[[Start], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(rank: int) -> Any:
        if rank == 1:
            monkeypatch.setattr(Start, "_block", from_step(30, act))
        return kept(fits.svi(regression, "auto_normal", (X, Y), **{**EAGER, "steps": 110})(HALF))

    for _, said in together(work, 2, tmp_path):
        assert said.startswith("BrokenGroup: the processes have other parameters or noise than one another after step")
        assert "\n" not in said


def test_who_loses_another_process_ends_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def work(rank: int, compile: bool | str, how: Callable[[Start], None]) -> tuple[str, float]:
        if rank == 1:
            monkeypatch.setattr(Start, "_block", from_step(20, how))
        began = time.perf_counter()
        options = {**EAGER, "steps": 100_000, "compile": compile}
        with pytest.raises(groups.BrokenGroup) as caught:
            fits.svi(regression, "auto_normal", (X, Y), **options)(HALF)
        return str(caught.value), time.perf_counter() - began

    killed = lambda start: os.kill(os.getpid(), signal.SIGKILL)  # noqa: E731
    late = lambda start: time.sleep(20.0)  # noqa: E731 # twice as long as the group waits
    for compile, how, code in ((False, killed, -signal.SIGKILL), ("auto", killed, -signal.SIGKILL), (False, late, 0)):
        results = together(partial(work, compile=compile, how=how), 2, tmp_path)
        (_, (said, seconds)), (ended, _) = results
        assert "process 0: another of the 2 processes has ended, or did not answer" in said
        assert "\n" not in said
        assert seconds < 90.0  # of a busy machine; 10 of them are the group's patience
        assert ended == code


DYING = """
import os, signal, sys, pyrometer
sys.path.insert(0, {folder!r})
import fits
from pyrometer.inference.svi.training import Start
own = Start._block
def block(self, size):
    if os.environ["RANK"] == "1" and len(self.losses) > 30:
        os.kill(os.getpid(), signal.SIGKILL)
    return own(self, size)
Start._block = block
fits.svi(fits.regression, "auto_normal", (fits.X, fits.Y), steps=100_000, compile=False)(21)
"""


@pytest.mark.slow
def test_torchrun_ends_the_others_of_one_that_is_killed(tmp_path: Path) -> None:
    from test_shared_fits import torchrun

    (tmp_path / "dying.py").write_text(DYING.format(folder=str(Path(fits.__file__).parent)))
    run = torchrun(2, str(tmp_path / "dying.py"), seconds=300.0)
    assert run.returncode != 0
    assert "Signal 9 (SIGKILL) received by PID" in run.stderr
