"""Fits that several processes share, and what is kept of them; run by torchrun, or by processes of a test's own."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import sys
import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyro
import pyro.distributions as dist
import pyrometer
import torch
from pyrometer.models import GMM, VAE, BayesianGMM
from torch import Tensor, nn
from torch.distributions import constraints

WHOLE = 42  # rows of a step, of all processes together: 2 x 21, 3 x 14
ROWS = 203  # no multiple of it, nor of 2 or 3
BRIEF: dict[str, Any] = {"progress": False, "draws": 20}

_generator = torch.Generator().manual_seed(1)
X = torch.randn(ROWS, 2, generator=_generator, dtype=torch.float64)
Y = X @ torch.tensor([1.0, -0.5]).double() + 0.5 * torch.randn(ROWS, generator=_generator, dtype=torch.float64)
BLOBS = pyrometer.datasets.blobs(ROWS, components=2)
PIXELS = torch.cat([X, Y.unsqueeze(-1), X * Y.unsqueeze(-1)], -1)


def regression(x: Tensor, y: Tensor, batch_size: int | None = None) -> None:
    """beta ~ Normal(0, 2), y_n ~ Normal(x_n beta, 0.5). x: (N, 2). y: (N,)."""
    beta = pyro.sample("beta", dist.Normal(torch.zeros(2), 2.0).to_event(1))
    with pyro.plate("data", len(x), subsample_size=batch_size) as rows:
        pyro.sample("y", dist.Normal(x[rows] @ beta, 0.5), obs=y[rows])


def effects(x: Tensor, y: Tensor, batch_size: int | None = None) -> None:
    """The same with an effect of each row, e_n ~ Normal(0, 1)."""
    beta = pyro.sample("beta", dist.Normal(torch.zeros(2), 2.0).to_event(1))
    with pyro.plate("data", len(x), subsample_size=batch_size) as rows:
        e = pyro.sample("e", dist.Normal(torch.zeros(()), 1.0))
        pyro.sample("y", dist.Normal(x[rows] @ beta + e, 0.5), obs=y[rows])


def amortized(x: Tensor, y: Tensor, batch_size: int | None = None) -> None:
    """A guide of `effects`: q(e_n | x_n, y_n) by one linear map for all rows."""
    loc = pyro.param("loc", lambda: torch.zeros(2))
    scale = pyro.param("scale", lambda: 0.3 * torch.ones(2), constraint=constraints.positive)
    into = pyro.param("into", lambda: torch.zeros(4))
    pyro.sample("beta", dist.Normal(loc, scale).to_event(1))
    with pyro.plate("data", len(x), subsample_size=batch_size) as rows:
        pyro.sample("e", dist.Normal(x[rows] @ into[:2] + y[rows] * into[2], into[3].exp()))


def vae(**options: Any) -> VAE:
    return VAE(2, "mlp", "gaussian", hidden=(8,), dtype=torch.float64, **options)


def dropping() -> VAE:
    """A VAE whose encoder drops some of its units in training: noise that is no site's."""
    layers = nn.Linear(5, 8), nn.Tanh(), nn.Dropout(0.3), nn.Linear(8, 4)
    return vae(encoder=nn.Sequential(*layers).double())


def svi(model: Any, guide: Any, x: Any, steps: Any = 110, **options: Any) -> Callable[[int | None], Any]:
    return lambda rows: pyrometer.svi(model, guide, x, batch_size=rows, steps=steps, **{**BRIEF, **options})


def train(model: VAE, epochs: int = 4, **options: Any) -> Callable[[int | None], Any]:
    return lambda rows: pyrometer.train(
        model, "encoder", PIXELS, batch_size=rows, epochs=epochs, **{**BRIEF, **options}
    )


EAGER: dict[str, Any] = {"steps": 24, "compile": False}
FITS: dict[str, Callable[[int | None], Any]] = {  # rows a step, of one process -> Fit
    "z summed out": svi(BayesianGMM(2), "auto_normal", BLOBS),
    "z enumerated": svi(BayesianGMM(2), "amortized", BLOBS, **EAGER),
    "regression": svi(regression, "auto_normal", (X, Y), starts=2, **EAGER),
    "local latents": svi(effects, amortized, (X, Y), **EAGER),
    "VAE": train(vae(), warmup=2, x_test=PIXELS[:30], compile=False),
    "regression until done": svi(regression, "auto_mvn", (X, Y), steps="auto"),
    "z enumerated, compiled": svi(GMM(2), "amortized", BLOBS),
    "z sampled": svi(GMM(2), "sampled", X + 1.5 * (torch.arange(ROWS) % 2).unsqueeze(-1), **EAGER),
    "local latents, compiled": svi(effects, amortized, (X, Y)),
    "VAE, compiled": train(vae(), 27, x_test=PIXELS[:30], patience=2),
    "VAE with dropout": train(dropping(), compile=False),
    "IWAE": train(vae(), estimator="IWAE", compile=False),
}
BY_TORCHRUN = tuple(FITS)[:5]


def kept(fit: Any) -> dict[str, Any]:
    """The numbers of a fit."""
    params = {name: value.detach().numpy() for name, value in fit.params.items()}
    tests = getattr(fit, "test_losses", ())
    said = {"compiled": fit.compiled, "converged": fit.converged, "message": fit.message}
    return {"losses": fit.losses, "params": params, "test_losses": tests, "draws": fit.elbo_draws, **said}


def together(
    work: Callable[[int], Any], processes: int, folder: Path, seconds: float = 120.0
) -> list[tuple[int | None, Any]]:
    """What a function of the rank gives in each of several processes with a process group: exit code, result by rank.

    The result of one that raises is its error as text; of one that has ended without a word, None.
    """
    fork = multiprocessing.get_context("fork")
    store = folder / "store"
    store.unlink(missing_ok=True)
    for old in folder.glob("result*"):
        old.unlink()

    def run(rank: int) -> None:
        warnings.simplefilter("ignore")
        torch.set_num_threads(1)
        group: Any = {"rank": rank, "world_size": processes, "timeout": timedelta(seconds=10)}
        torch.distributed.init_process_group("gloo", init_method=f"file://{store}", **group)
        try:
            result = work(rank)
        except BaseException as error:
            result = f"{type(error).__name__}: {error}"
        assert torch.distributed.is_initialized()  # left as it was found
        (folder / f"result{rank}").write_bytes(pickle.dumps(result))
        os._exit(0)

    running = [fork.Process(target=run, args=(rank,)) for rank in range(processes)]
    for process in running:
        process.start()
    for process in running:
        process.join(seconds)
        if process.exitcode is None:
            process.kill()
            process.join()
    paths = [folder / f"result{rank}" for rank in range(processes)]
    results = [pickle.loads(path.read_bytes()) if path.exists() else None for path in paths]
    return [(process.exitcode, result) for process, result in zip(running, results, strict=True)]


if __name__ == "__main__":  # by torchrun: a folder for the results, and the rows of a step of each process
    warnings.simplefilter("ignore")
    found = {name: kept(FITS[name](int(sys.argv[2]))) for name in BY_TORCHRUN}
    assert not torch.distributed.is_initialized()
    Path(sys.argv[1], os.environ["RANK"]).write_bytes(pickle.dumps(found))
