"""Fits in several threads have the numbers that they have alone, and leave torch and Pyro as they were."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pyro
import pyrometer
import torch
from pyrometer.models import GMM, BayesianGMM
from truths import two_clusters

X = two_clusters(30)
SVI = partial(pyrometer.svi, BayesianGMM(2), "auto_normal", X, steps=100, progress=False)
JOBS: tuple[Callable[..., pyrometer.Fit], ...] = (
    partial(SVI, seed=0),
    partial(pyrometer.nuts, BayesianGMM(1), X, draws=100, warmup=100, chains=2, seed=1, progress=False),
    partial(SVI, seed=2, batch_size=10),
    partial(pyrometer.cavi, BayesianGMM(2), X, seed=3, progress=False),
    partial(pyrometer.em, GMM(2), X, seed=4, progress=False),
    partial(pyrometer.dadvi, BayesianGMM(1), X, seed=5, progress=False),
)


def state() -> tuple[object, ...]:
    """What all threads share."""
    return (
        torch.get_rng_state().tolist(),
        torch.get_default_dtype(),
        torch.get_num_threads(),
        dict(pyro.get_param_store()),
    )


def test_fits_in_threads_are_what_they_are_alone() -> None:
    alone, before = [job() for job in JOBS], state()
    with ThreadPoolExecutor(len(JOBS)) as threads:
        together = [future.result() for future in [threads.submit(job) for job in JOBS]]
    for one, other in zip(alone, together, strict=True):
        for name, draws in one.posterior.items():
            assert np.array_equal(draws.values, other.posterior[name].values), (one.name, name)
    assert state() == before
