"""Training a VAE, an MLP 784-400-400-20 with Bernoulli pixels, in batches of 128: rows a second.

Against the same networks in plain PyTorch, loss and loop written by batch without Pyro; against those compiled by
`torch.compile`; and against `pyro.infer.SVI` with `Trace_ELBO`. All by Adam, with the same starting values' law and the
same number of steps on the same 10,000 pictures; seconds are of a step, the difference between a long and a short
training over the difference of their steps. Accuracy: minus the ELBO over the last hundred steps, nats a row.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from peers.pairs import Pairs, report, run_pairs, say

ROWS, SIDE, LATENT, HIDDEN, BATCH, LR = 10_000, 28, 20, (400, 400), 128, 1e-3
SHORT, LONG = 200, 1200
Run = Callable[[int], float]  # steps -> minus the ELBO of the last hundred, nats a row


def main(folder: Path = Path("build/bench")) -> list[Pairs]:
    """Run the pairs, print them, and write them to `vae_training.json`."""
    return report(_all(), folder / "vae_training.json")


def _all() -> Iterator[Pairs]:
    for ours, peer in (("script", "torch"), ("inductor", "torch"), ("inductor", "torch.compile"), ("script", "pyro")):
        yield run_pairs(f"VAE step, batch 128 ({ours})", peer, [__file__, ours], [__file__, peer], threads=2)


def pictures(device: str) -> torch.Tensor:
    """Digits blown up to 28 by 28, in [0, 1]: (ROWS, 784)."""
    from sklearn.datasets import load_digits

    small = torch.as_tensor(load_digits().images / 16, dtype=torch.float32)[:, None]
    large = torch.nn.functional.interpolate(small, (SIDE, SIDE), mode="bilinear")
    rows = np.random.default_rng(0).integers(len(large), size=ROWS)
    return large.flatten(1)[rows].to(device)


def ours(compile: bool | Literal["auto"], x: torch.Tensor) -> Run:
    """`pyrometer.svi`."""
    import pyrometer
    from pyrometer.models import VAE

    def run(steps: int) -> float:
        model = VAE(LATENT, "mlp", "bernoulli", hidden=HIDDEN)
        options: dict[str, Any] = {"batch_size": BATCH, "optimizer": "Adam", "lr": LR, "draws": 1, "progress": False}
        fit = pyrometer.svi(model, "encoder", x, steps=steps, compile=compile, estimator="Trace", **options)
        return float(fit.losses[-100:].mean()) / ROWS

    return run


class Plain(torch.nn.Module):
    """The same VAE by batch. Source of the loss: Kingma and Welling (2014), appendix B."""

    def __init__(self) -> None:
        super().__init__()
        layer, relu = torch.nn.Linear, torch.nn.ReLU()
        a, b, pixels = *HIDDEN, SIDE * SIDE
        self.encoder = torch.nn.Sequential(layer(pixels, a), relu, layer(a, b), relu, layer(b, 2 * LATENT))
        self.decoder = torch.nn.Sequential(layer(LATENT, b), relu, layer(b, a), relu, layer(a, pixels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        loc, free = self.encoder(x).chunk(2, -1)
        scale = torch.nn.functional.softplus(free) + 1e-4
        logits = self.decoder(loc + scale * torch.randn_like(scale))
        miss = torch.nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="sum")
        return miss + 0.5 * (loc.square() + scale.square() - 1 - 2 * scale.log()).sum()


def plain(x: torch.Tensor, compiled: bool) -> Run:
    """A loop by batch."""

    def run(steps: int) -> float:
        torch.manual_seed(0)
        model = Plain().to(x.device)
        optimizer = torch.optim.Adam(model.parameters(), LR)
        loss_of = torch.compile(model) if compiled else model
        losses, order = [], torch.randperm(len(x), device=x.device)
        for step in range(steps):
            if (at := step * BATCH % (len(x) - BATCH)) < BATCH:
                order = torch.randperm(len(x), device=x.device)
            optimizer.zero_grad()
            loss = loss_of(x[order[at : at + BATCH]])
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        return float(torch.stack(losses[-100:]).mean()) / BATCH

    return run


def pyro(x: torch.Tensor) -> Run:
    """A loop around `pyro.infer.SVI`."""
    import pyro
    from pyro.infer import SVI, Trace_ELBO
    from pyro.optim import Adam
    from pyrometer.guides import catalogue
    from pyrometer.models import VAE

    pyro.enable_validation(False)

    def run(steps: int) -> float:
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        model = VAE(LATENT, "mlp", "bernoulli", hidden=HIDDEN, batch_size=BATCH)
        svi = SVI(model, catalogue(model)["encoder"](model), Adam({"lr": LR}), Trace_ELBO())
        losses = [svi.step(x) for _ in range(steps)]
        return sum(losses[-100:]) / 100 / ROWS

    return run


def measure(run: Run, device: str) -> None:
    """One training to warm up, then a short and a long one."""

    def timed(steps: int) -> tuple[float, float]:
        began = time.perf_counter()
        loss = run(steps)
        if device != "cpu":
            torch.cuda.synchronize()
        return time.perf_counter() - began, loss

    timed(SHORT)
    brief, _ = timed(SHORT)
    whole, loss = timed(LONG)
    seconds = (whole - brief) / (LONG - SHORT)
    say(seconds=seconds, rows_a_second=BATCH / seconds, accuracy=loss)


if __name__ == "__main__":
    side, device = (*sys.argv[1:], "cpu")[:2]
    x = pictures(device)
    sides = {"script": lambda: ours("auto", x), "inductor": lambda: ours(True, x), "eager": lambda: ours(False, x)}
    sides |= {"torch": lambda: plain(x, False), "torch.compile": lambda: plain(x, True), "pyro": lambda: pyro(x)}
    measure(sides[side](), device)
