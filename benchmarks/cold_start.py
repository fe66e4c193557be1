"""From the start of the process to a result on Old Faithful, nothing cached: 2,000 steps of SVI, or 4 x 1,000 draws.

Ours ends with a scored Fit; NumPyro's with its result. Both use whatever threads and processes they like. Seconds are
those of the whole process. Accuracy: the mean of the larger location of the second column.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

from pairs import Pairs, report, run_pairs, say

WORKS = {"svi": "2,000 SVI steps, AutoNormal", "nuts": "NUTS, 4 x (500 + 1,000)"}


def main(folder: Path = Path("build/bench")) -> list[Pairs]:
    """Run the pairs, print them, and write them to `cold_start.json`."""
    results = []
    for work, what in WORKS.items():
        ours, theirs = ([__file__, side, work] for side in ("ours", "numpyro"))
        pairs = run_pairs(f"cold start, {what}", "numpyro", ours, theirs, threads=None, cold=True)
        mine, its = ([run | {"cold": run["wall"]} for run in side] for side in (pairs.ours, pairs.theirs))
        results.append(replace(pairs, ours=mine, theirs=its))
    report(results, folder / "cold_start.json")
    return results


def ours(work: str) -> None:
    """A scored Fit."""
    import pyrometer
    from pyrometer.models import BayesianGMM

    if work == "svi":
        fit = pyrometer.svi(BayesianGMM(2), "auto_normal", "faithful", steps=2000, progress=False)
    else:
        fit = pyrometer.nuts(BayesianGMM(2), "faithful", warmup=500, draws=1000, chains=4, progress=False)
    say(accuracy=float(fit.posterior["locs"].mean(("chain", "draw")).values[:, 1].max()))


def numpyro(work: str) -> None:
    """NumPyro's result and its draws."""
    os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"  # before JAX: chains side by side
    import jax
    import numpy as np
    import numpyro_models
    from numpyro.infer import MCMC, NUTS, SVI, Trace_ELBO, init_to_value
    from numpyro.infer.autoguide import AutoNormal
    from numpyro.optim import ClippedAdam
    from problems import data, locs_of

    jax.config.update("jax_enable_x64", True)
    x, k = data("faithful")
    model, start = numpyro_models.bayesian_gmm, init_to_value(values={"locs": locs_of(x, k)})
    if work == "svi":
        guide = AutoNormal(model, init_loc_fn=start)
        svi = SVI(model, guide, ClippedAdam(lambda step: 0.01 * 0.01 ** (step / 2000)), Trace_ELBO())
        result = svi.run(jax.random.PRNGKey(0), 2000, x, k, progress_bar=False)
        draws = guide.sample_posterior(jax.random.PRNGKey(1), result.params, sample_shape=(1000,))["locs"]
    else:
        mcmc = MCMC(
            NUTS(model, init_strategy=start), num_warmup=500, num_samples=1000, num_chains=4, progress_bar=False
        )
        mcmc.run(jax.random.PRNGKey(0), x, k)
        draws = mcmc.get_samples()["locs"]
    say(accuracy=float(np.sort(np.asarray(draws)[..., 1], -1)[:, -1].mean()))


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    else:
        {"ours": ours, "numpyro": numpyro}[sys.argv[1]](sys.argv[2])
