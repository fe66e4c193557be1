"""From the start of the process to a result: 2,000 steps of SVI on Old Faithful, or 4 x 1,000 draws of ordinary models.

Ours ends with a scored Fit; NumPyro's with its result. Both use whatever threads they like. Cold: no compiler finds
anything on disk. Again: the same, run before. Seconds are those of the whole process. Accuracy: a posterior mean.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from peers.ordinary_models import in_numpyro, in_pyro, inputs
from peers.pairs import PAIRS, Pairs, report, run_pairs, say

CASES = {"eight schools": "tau", "kidscore": "sigma", "mixture": "low"}  # and the parameter whose mean is told


def main(folder: Path = Path("build/bench")) -> list[Pairs]:
    """Run the pairs, print them, and write them to `cold_start.json`."""
    return report(_all(), folder / "cold_start.json")


def _all() -> Iterator[Pairs]:
    for case in (*CASES, "svi"):
        for cold in (True, False) if PAIRS > 1 else (True,):
            ours, theirs = ([__file__, side, case] for side in ("ours", "numpyro"))
            what = f"{'cold start' if cold else 'started again'}, {case}"
            pairs = run_pairs(what, "numpyro", ours, theirs, threads=None, cold=cold)
            mine, its = ([run | {"cold": run["wall"]} for run in side] for side in (pairs.ours, pairs.theirs))
            yield replace(pairs, ours=mine, theirs=its)


def ours(case: str) -> None:
    """A scored Fit."""
    import pyrometer

    if case == "svi":
        from pyrometer.models import BayesianGMM

        fit = pyrometer.svi(BayesianGMM(2), "auto_normal", "faithful", steps=2000, progress=False)
        say(accuracy=float(fit.posterior["locs"].mean(("chain", "draw")).values[:, 1].max()))
        return
    fit = pyrometer.nuts(*in_pyro(case), warmup=500, draws=1000, chains=4, progress=False)
    say(accuracy=float(fit.posterior[CASES[case]].mean()))


def numpyro(case: str) -> None:
    """NumPyro's result and its draws."""
    import jax
    from numpyro.infer import MCMC, NUTS

    jax.config.update("jax_enable_x64", True)
    if case == "svi":
        say(accuracy=_larger_location())
        return
    options = {"num_chains": 4, "chain_method": "vectorized", "progress_bar": False}
    mcmc = MCMC(NUTS(in_numpyro(case)), num_warmup=500, num_samples=1000, **options)
    mcmc.run(jax.random.PRNGKey(0), **inputs(case))
    say(accuracy=float(mcmc.get_samples()[CASES[case]].mean()))


def _larger_location() -> float:
    """NumPyro's SVI on Old Faithful: the mean of the larger location of the second column."""
    import jax
    import numpy as np
    from numpyro.infer import SVI, Trace_ELBO, init_to_value
    from numpyro.infer.autoguide import AutoNormal
    from numpyro.optim import ClippedAdam
    from peers import numpyro_models
    from peers.problems import data, locs_of

    (x, k), model = data("faithful"), numpyro_models.bayesian_gmm
    guide = AutoNormal(model, init_loc_fn=init_to_value(values={"locs": locs_of(x, k)}))
    svi = SVI(model, guide, ClippedAdam(lambda step: 0.01 * 0.01 ** (step / 2000)), Trace_ELBO())
    result = svi.run(jax.random.PRNGKey(0), 2000, x, k, progress_bar=False)
    draws = guide.sample_posterior(jax.random.PRNGKey(1), result.params, sample_shape=(1000,))["locs"]
    return float(np.sort(np.asarray(draws)[..., 1], -1)[:, -1].mean())


if __name__ == "__main__":
    {"ours": ours, "numpyro": numpyro}[sys.argv[1]](sys.argv[2])
