"""NUTS in effective draws a second: ours against NumPyro's, and against Pyro's as it comes.

Warm: seconds for a thousand effective draws (the least over the locations, in one labelling), a run of the same size
having gone before in the same process; from the call until all draws are there. Cold: seconds of that first run.
Accuracy: the largest R-hat of the locations, a single chain counted as its two halves.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from peers.pairs import Pairs, report, run_pairs, say
from peers.problems import data, locs_of
from pyrometer.inference.runtime.arviz import ess, rhat

CASES = {"faithful": "BayesianGMM, Old Faithful, K=2", "bumps": "UnivariateMixture, N=1000, K=2"}
SIZES = {"numpyro": (4, 500, 1000), "pyro": (1, 200, 300)}  # chains, warmup, draws; Pyro's runs take minutes


def main(folder: Path = Path("build/bench")) -> list[Pairs]:
    """Run the pairs, print them, and write them to `nuts_speed.json`."""
    results = (
        run_pairs(f"NUTS, {what}", peer, [__file__, "ours", case, peer], [__file__, peer, case, peer], cold=True)
        for peer in SIZES
        for case, what in CASES.items()
    )
    return report(results, folder / "nuts_speed.json")


Run = Callable[[int], tuple[np.ndarray, float]]  # seed -> locations (chains, draws, K, ...), seconds


def ours(x: np.ndarray, k: int, chains: int, warmup: int, draws: int) -> Run:
    """nutpie on our density."""
    import pyrometer
    from pyrometer.models import BayesianGMM, UnivariateMixture

    model = BayesianGMM(k) if x.ndim > 1 else UnivariateMixture(k)
    options: dict[str, Any] = {"chains": chains, "warmup": warmup, "draws": draws, "progress": False}

    def run(seed: int) -> tuple[np.ndarray, float]:
        began = time.perf_counter()
        fit = pyrometer.nuts(model, x, seed=seed, compile=True, **options)
        whole = time.perf_counter() - began
        return fit.posterior["locs"].values, whole if seed == 0 else fit.idata["sample_stats"].attrs["sampling_time"]

    return run


def numpyro(x: np.ndarray, k: int, chains: int, warmup: int, draws: int) -> Run:
    """NumPyro's sampler."""
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={chains}"  # before JAX: chains side by side
    import jax
    from numpyro.infer import MCMC, NUTS, init_to_value
    from peers import numpyro_models

    jax.config.update("jax_enable_x64", True)
    model = numpyro_models.bayesian_gmm if x.ndim > 1 else numpyro_models.univariate_mixture
    kernel = NUTS(model, init_strategy=init_to_value(values={"locs": locs_of(x, k)}))
    mcmc = MCMC(kernel, num_warmup=warmup, num_samples=draws, num_chains=chains, progress_bar=False)

    def run(seed: int) -> tuple[np.ndarray, float]:
        began = time.perf_counter()
        mcmc.run(jax.random.PRNGKey(seed), x, k)
        locs = np.asarray(mcmc.get_samples(group_by_chain=True)["locs"])
        return locs, time.perf_counter() - began

    return run


def pyro(x: np.ndarray, k: int, chains: int, warmup: int, draws: int) -> Run:
    """Pyro's sampler as it comes."""
    import torch
    from pyro.infer import MCMC, NUTS
    from pyro.infer.autoguide.initialization import init_to_value
    from pyrometer.models import BayesianGMM, UnivariateMixture

    torch.set_default_dtype(torch.float64)
    model = BayesianGMM(k) if x.ndim > 1 else UnivariateMixture(k)
    rows = torch.as_tensor(x)

    def run(seed: int) -> tuple[np.ndarray, float]:
        torch.manual_seed(seed)
        began = time.perf_counter()
        kernel = NUTS(model, init_strategy=init_to_value(values=model.init(rows, 0)))
        mcmc = MCMC(kernel, draws if seed else 2, warmup if seed else 2, num_chains=chains, disable_progbar=True)
        mcmc.run(rows)
        return mcmc.get_samples(group_by_chain=True)["locs"].numpy(), time.perf_counter() - began

    return run


def _in_one_labelling(locs: np.ndarray) -> np.ndarray:
    """Each draw's components in the order of their first coordinate."""
    order = np.argsort(locs.reshape(*locs.shape[:3], -1)[..., 0], -1)
    return np.take_along_axis(locs, order.reshape(*order.shape, *[1] * (locs.ndim - 3)), 2)


def measure(run: Run) -> None:
    """A first run, cold, and two warm ones; what they took for a thousand effective draws."""
    _, cold = run(0)
    seconds, rhats = [], []
    for seed in (1, 2):
        locs, taken = run(seed)
        chains = _in_one_labelling(locs)
        if len(chains) == 1:  # its halves tell whether it moved
            chains = np.concatenate(np.array_split(chains, 2, axis=1))
        seconds.append(1000 * taken / float(ess(chains).min()))
        rhats.append(float(rhat(chains).max()))
    say(seconds=sum(seconds) / 2, cold=cold, accuracy=max(rhats))


if __name__ == "__main__":
    side, case, peer = sys.argv[1:]
    measure({"ours": ours, "numpyro": numpyro, "pyro": pyro}[side](*data(case), *SIZES[peer]))
