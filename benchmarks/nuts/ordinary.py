"""NUTS on models as people bring them: ours against NumPyro's and against PyMC's by nutpie and numba.

All keep running and are asked in turn, 4 chains of 500 + 1,000 in float64 with each one's own defaults, on two cores.
Warm: seconds a run, from the call until all draws are there; ours until the scored Fit is. Cold: from the start of the
process to its first draws, no compiler finding anything on disk. ESS/s: the least bulk effective size over all
parameters, a warm second. Accuracy: the farthest mean from the published one, in published sds; of the mixture, the
mean of its lower location.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from peers.ordinary_models import CASES, in_numpyro, in_pymc, in_pyro, inputs, published
from peers.pairs import PAIRS, Pairs, ask_in_turn, report, say
from peers.problems import least_seconds
from pyrometer.inference.runtime.arviz import ess

PEERS = ("numpyro", "pymc")
CHAINS, WARMUP, DRAWS = 4, 500, 1000
Draws = dict[str, np.ndarray]  # name -> (chains, draws, ...)
Side = tuple[Callable[[int], Draws], Callable[[], float]]  # seed -> draws; seconds a gradient


def main(folder: Path = Path("build/bench")) -> list[Pairs]:
    """Run the rounds, print them, and write them to `ordinary.json`."""
    return report(_all(), folder / "ordinary.json")


def _all() -> Iterator[Pairs]:
    for case in CASES if PAIRS > 1 else ("eight schools", "kidscore", "mixture"):
        yield from ask_in_turn(f"NUTS, {case}", {side: [__file__, side, case] for side in ("ours", *PEERS)}, PAIRS)


def ours(case: str) -> Side:
    """nutpie on our native density; what is timed ends with the Fit, its pointwise likelihood and its observed data."""
    import pyrometer
    from pyrometer.inference.compilation.compiled import value_and_gradient
    from pyrometer.inference.mcmc.chains import start_of

    model, data = in_pyro(case)

    def run(seed: int) -> Draws:
        options: dict[str, Any] = {"chains": CHAINS, "warmup": WARMUP, "draws": DRAWS, "progress": False}
        kept.append(pyrometer.nuts(model, data, seed=seed, **options))
        latent = [site.name for site in kept[-1].structure.latent]
        return {name: kept[-1].posterior[name].values for name in latent}

    def gradient() -> float:
        density = kept[-1].density
        with density.data.isolated(0):
            start = start_of(density, 0)
            native: Any = value_and_gradient(density.of_data("log_density"), start, start + 0.1, tiers=("native",))[0]
        points = start.expand(1000, -1).contiguous()
        return least_seconds(lambda: native.many(points)) / 1000

    kept: list[Any] = []
    return run, gradient


def numpyro(case: str) -> Side:
    """Four chains side by side, vectorised."""
    import jax
    from jax.flatten_util import ravel_pytree
    from numpyro.infer import MCMC, NUTS
    from numpyro.infer.util import initialize_model

    jax.config.update("jax_enable_x64", True)
    model, data = in_numpyro(case), inputs(case)
    options = {"num_chains": CHAINS, "chain_method": "vectorized", "progress_bar": False}
    mcmc = MCMC(NUTS(model), num_warmup=WARMUP, num_samples=DRAWS, **options)

    def run(seed: int) -> Draws:
        mcmc.run(jax.random.PRNGKey(seed), **data)
        return {name: np.asarray(draws) for name, draws in mcmc.get_samples(group_by_chain=True).items()}

    def gradient() -> float:
        info = initialize_model(jax.random.PRNGKey(0), model, model_kwargs=data)
        start, unravel = ravel_pytree(info.param_info.z)
        fn = jax.jit(jax.value_and_grad(lambda flat: info.potential_fn(unravel(flat))))
        return least_seconds(lambda: jax.block_until_ready(fn(start)))

    return run, gradient


def pymc(case: str) -> Side:
    """PyMC's model, compiled by numba, sampled by nutpie."""
    import nutpie

    model = in_pymc(case)
    compiled = nutpie.compile_pymc_model(model)

    def run(seed: int) -> Draws:
        options = {"chains": CHAINS, "tune": WARMUP, "draws": DRAWS, "progress_bar": False}
        posterior = nutpie.sample(compiled, seed=seed, **options).posterior
        names = [variable.name for variable in model.free_RVs]
        return {name: posterior[name].values for name in names}

    def gradient() -> float:
        x, slope, value = np.full(compiled.n_dim, 0.1), np.zeros(compiled.n_dim), np.zeros(1)
        pointers = [each.ctypes.data_as(ctypes.POINTER(ctypes.c_double)) for each in (x, slope, value)]
        fn = compiled.compiled_logp_func.ctypes
        return least_seconds(lambda: fn(compiled.n_dim, *pointers, compiled.user_data.ctypes.data))

    return run, gradient


def serve(side: Side, case: str, began: float) -> None:
    """Answer each line, a seed, with what a run of it took; the first run is the cold one."""
    run, gradient = side
    for line in sys.stdin:
        start = time.perf_counter()
        draws = run(int(line))
        seconds, numbers = time.perf_counter() - start, {}
        if int(line) == 0:
            numbers = {"cold": time.time() - began, "gradient": gradient()}
        least = min(float(ess(values).min()) for values in draws.values())
        say(seconds=seconds, rate=least / seconds, accuracy=_accuracy(draws, case), **numbers)


def _accuracy(draws: Draws, case: str) -> float:
    off = []
    for scalar, known in published(case).items():
        name, _, place = scalar.rstrip("]").partition("[")
        if name in draws:
            values = draws[name][..., int(place) - 1] if place else draws[name]
            off.append(abs(values.mean() - known["mean"]) / known["sd"])
    return float(max(off)) if off else float(draws["low"].mean())


if __name__ == "__main__":
    name, case = sys.argv[1:]
    began = float(os.environ["BEGAN"])
    serve({"ours": ours, "numpyro": numpyro, "pymc": pymc}[name](case), case, began)
