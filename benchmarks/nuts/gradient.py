"""One gradient of the log posterior of a Bayesian Gaussian mixture against NumPyro's, both compiled.

Accuracy: the log joint density of data and parameters at the same parameters, which both sides must agree on. Cold is
the time from a model to its first gradient, compilation and all.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
from peers.pairs import Pairs, report, run_pairs, say
from peers.problems import data, least_seconds, locs_of

CASES = ("5000,8,10", "500,2,3")
PEERS = ("numpyro", "numpyro_by_hand")


def main(folder: Path = Path("build/bench")) -> list[Pairs]:
    """Run the pairs, print them, and write them to `gradient.json`."""
    results = (
        run_pairs(f"gradient, N,D,K={case}", peer, [__file__, "ours", case], [__file__, peer, case], cold=True)
        for case in CASES
        for peer in PEERS
    )
    return report(results, folder / "gradient.json")


def ours(x: np.ndarray, k: int) -> None:
    """Our density."""
    import torch
    from pyrometer.inference.compilation.compiled import value_and_gradient
    from pyrometer.inference.data.data import Data
    from pyrometer.inference.density.log_density import Density
    from pyrometer.inference.mcmc.chains import start_of
    from pyrometer.inference.runtime.isolation import isolated
    from pyrometer.models import BayesianGMM

    torch.set_num_threads(1)
    with isolated(0, torch.float64):
        began = time.perf_counter()
        density = Density(BayesianGMM(k), Data((torch.as_tensor(x),), rows=len(x)))
        start = start_of(density, 0)
        gradient, how = value_and_gradient(density.log_density, start, start + 0.1, tiers=("inductor",))
        gradient(start)
        cold = time.perf_counter() - began
        locs = torch.as_tensor(locs_of(x, k))
        trils = torch.eye(x.shape[1]).expand(k, -1, -1)
        joint = density.log_joint({"weights": torch.full((k,), 1 / k), "locs": locs, "precision_trils": trils})
        say(seconds=least_seconds(lambda: gradient(start)), cold=cold, accuracy=float(joint))
    if how != "inductor":
        raise RuntimeError(how)


def theirs(x: np.ndarray, k: int, by_hand: bool) -> None:
    """NumPyro's log density, its program as users write it or by hand."""
    import jax
    from jax.flatten_util import ravel_pytree
    from numpyro.infer.util import initialize_model, log_density
    from peers import numpyro_models

    jax.config.update("jax_enable_x64", True)
    model = numpyro_models.bayesian_gmm_by_hand if by_hand else numpyro_models.bayesian_gmm
    began = time.perf_counter()
    info = initialize_model(jax.random.PRNGKey(0), model, model_args=(x, k))
    start, unravel = ravel_pytree(info.param_info.z)
    gradient = jax.jit(jax.value_and_grad(lambda flat: info.potential_fn(unravel(flat))))
    run = lambda: jax.block_until_ready(gradient(start))  # noqa: E731
    run()
    cold = time.perf_counter() - began
    trils = np.broadcast_to(np.eye(x.shape[1]), (k, x.shape[1], x.shape[1]))
    at = {"weights": np.full(k, 1 / k), "locs": locs_of(x, k), "precision_trils": trils}
    joint, _ = log_density(model, (x, k), {}, at)
    say(seconds=least_seconds(run), cold=cold, accuracy=float(joint))


if __name__ == "__main__":
    if sys.argv[1] == "ours":
        ours(*data(sys.argv[2]))
    else:
        theirs(*data(sys.argv[2]), by_hand=sys.argv[1] == "numpyro_by_hand")
