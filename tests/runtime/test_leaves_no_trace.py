"""No public call moves a random generator or changes anything else that belongs to the caller."""

from __future__ import annotations

import inspect
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pyro
import pyro.distributions as dist
import pyrometer
import pytest
import torch
from caller import state
from programs import X, Y
from pyrometer import Comparison, Fit
from pyrometer.inference.runtime.isolation import seed_torch
from pyrometer.models import GMM, VAE, BayesianGMM, SequenceVAE
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset
from truths import two_clusters

pytestmark = pytest.mark.filterwarnings("ignore")  # trained for no more than a moment
CLUSTERS = two_clusters(30)
PIXELS = torch.rand(40, 6, generator=torch.Generator().manual_seed(0)).double()
STRINGS = ["ab", "ba", "aab", "b"] * 5
CHAINS: dict[str, Any] = {"warmup": 60, "draws": 60, "chains": 2, "progress": False}
SMALL: dict[str, Any] = {**CHAINS, "steps": 20, "starts": 1, "compile": False}
BRIEF: dict[str, Any] = {"steps": 20, "draws": 20, "progress": False}
QUICK_CAVI = partial(pyrometer.cavi, starts=1, max_steps=2)
MIXTURE = BayesianGMM(2, loc=0.0, scale=1.0)


def restless(X: Tensor, y: Tensor) -> None:
    """A regression that draws from every generator there is, to no effect."""
    nothing = 0.0 * (random.random() + float(np.random.rand()))  # noqa: NPY002
    beta = pyro.sample("beta", dist.Normal(torch.zeros(2) + nothing, 2.0).to_event(1))
    with pyro.plate("data", len(X)):
        pyro.sample("y", dist.Normal(X @ beta, 0.5), obs=y)


class Restless(Dataset[Tensor]):
    """Rows that draw from every generator as they are read."""

    def __len__(self) -> int:
        return len(CLUSTERS)

    def __getitem__(self, place: int) -> Tensor:
        return CLUSTERS[place] + 0.0 * (random.random() + float(np.random.rand()) + float(torch.rand(())))  # noqa: NPY002


def a_method(model: Any, data: Any, *, seed: int, progress: bool, name: str) -> Fit:
    """A method of a user's, which seeds what it likes."""
    random.seed(seed), np.random.seed(seed), torch.manual_seed(seed)  # noqa: NPY002
    return svi(name=name)


def svi(guide: Any = "auto_normal", **options: Any) -> Fit:
    return pyrometer.svi(restless, guide, (X, Y), **{**BRIEF, "compile": False, **options})


def refused(guide: Any) -> None:
    with pytest.raises(pyrometer.InputError):
        svi(guide)


def fails_late() -> Any:
    """A guide that fails once it is trained, with everything moved."""
    calls: list[int] = []

    def guide(X: Tensor, y: Tensor) -> None:
        calls.append(len(calls))
        random.random(), np.random.rand(), torch.rand(())  # noqa: NPY002
        torch.set_default_dtype(torch.float32)
        loc = pyro.param("loc", torch.zeros(2))
        if len(calls) > 3:
            raise RuntimeError("out of paper")
        pyro.sample("beta", dist.Normal(loc, 0.1).to_event(1))

    return guide


@cache
def fit() -> Fit:
    return svi()


@cache
def chains() -> Fit:
    return pyrometer.nuts(restless, (X, Y), compile=False, **CHAINS)


@cache
def cavi() -> Fit:
    return pyrometer.cavi(MIXTURE, CLUSTERS, draws=50, progress=False)


@cache
def trained() -> Any:
    model = VAE(2, "mlp", "bernoulli", hidden=(8,))
    return pyrometer.train(model, "encoder", PIXELS, epochs=2, draws=5, progress=False)


@cache
def of_strings() -> Any:
    return pyrometer.train(SequenceVAE(2, hidden=8), "encoder", STRINGS, epochs=1, draws=2, progress=False)


@cache
def compared() -> Comparison:
    return compare()


def compare(guides: Any = ("auto_normal", "auto_mvn"), **options: Any) -> Comparison:
    return pyrometer.compare(restless, (X, Y), guides, **{**SMALL, **options})


def loads(folder: Path) -> None:
    compared().save(folder)
    pyrometer.load(folder, restless)


def loads_networks(folder: Path) -> None:
    trained().save(folder)
    pyrometer.load(folder, VAE(2, "mlp", "bernoulli", hidden=(8,)))


def mixtures(**options: Any) -> Comparison:
    return pyrometer.compare(MIXTURE, CLUSTERS, ["structured"], **{**SMALL, **options})


FUNCTIONS: dict[str, Callable[[], Any]] = {
    "svi": svi,
    "svi, compiled": partial(svi, compile="auto", seed=3),
    "svi, two starts": partial(svi, starts=2, optimizer="Adam"),
    "nuts": partial(pyrometer.nuts, restless, (X, Y), **CHAINS),
    "nuts, by pyro": partial(pyrometer.nuts, restless, (X, Y), engine="pyro", **{**CHAINS, "draws": 10, "warmup": 10}),
    "laplace": partial(pyrometer.laplace, restless, (X, Y), draws=20, progress=False),
    "pathfinder": partial(pyrometer.pathfinder, restless, (X, Y), draws=20, progress=False),
    "dadvi": partial(pyrometer.dadvi, restless, (X, Y), draws=20, progress=False),
    "bam": partial(pyrometer.bam, restless, (X, Y), draws=20, max_steps=5, progress=False),
    "em": partial(pyrometer.em, GMM(2), CLUSTERS, progress=False),
    "cavi": partial(pyrometer.cavi, MIXTURE, CLUSTERS, progress=False),
    "compare": lambda: compare(x_test=(X[:5], Y[:5])),
    "compare, a DataLoader": lambda: pyrometer.compare(
        MIXTURE, DataLoader(Restless(), 10, shuffle=True), ["structured"], reference=None, **{**BRIEF, "starts": 1}
    ),
    "compare, more methods": partial(mixtures, methods=["svi", "cavi"], reference=None),
    "compare, a method of one's own": partial(compare, {"mine": a_method}, reference=None),
    "choose_components": partial(
        pyrometer.choose_components, CLUSTERS, [1], folds=2, starts=1, draws=20, progress=False
    ),
    "calibrate": partial(pyrometer.calibrate, MIXTURE, QUICK_CAVI, 5, simulations=50, draws=9, progress=False),
    "train": lambda: pyrometer.train(VAE(2, hidden=(8,)), "encoder", PIXELS, epochs=1, draws=2, progress=False),
    "train, a DataLoader": lambda: pyrometer.train(
        VAE(2, hidden=(8,)), "encoder", DataLoader(TensorDataset(PIXELS), 10, shuffle=True), epochs=1, progress=False
    ),
    "compare, a VAE": lambda: pyrometer.compare(
        VAE(2, hidden=(4,)), PIXELS, ["encoder", "free"], rows=1, steps=5, starts=1, warmup=5, draws=5, progress=False
    ),
    "explore": partial(pyrometer.explore, restless, (X, Y), reference=None),
    "score_strings": lambda: pyrometer.score_strings(of_strings(), samples=5),
    "bridge": lambda: pyrometer.bridge(chains()),
    "thames": lambda: pyrometer.thames(chains()),
    "log_evidence": lambda: pyrometer.log_evidence(cavi()),
    "widened_evidence": lambda: pyrometer.widened_evidence(cavi()),
    "exact_log_evidence": partial(pyrometer.exact_log_evidence, MIXTURE, CLUSTERS[:6]),
}
IN_A_FOLDER: dict[str, Callable[[Path], Any]] = {
    "load": loads,
    "load, a VAE": loads_networks,
    "compare, resumed": lambda folder: [compare(folder=folder, resume=resume) for resume in (False, True)],
    "Comparison.save": lambda folder: compared().save(folder),
    "Fit.save": lambda folder: cavi().save(folder),
}
METHODS: dict[str, Callable[[], Any]] = {
    "Comparison.add": lambda: compared().add(["auto_delta"]),
    "Comparison.plot": lambda: compared().plot(),
    "Comparison repr": lambda: (repr(compared()), compared()._repr_html_()),
    "Fit.log_predictive": lambda: fit().log_predictive((X[:3], Y[:3])),
    "Fit.posterior_predictive": lambda: fit().posterior_predictive(),
    "Fit.prior_predictive": lambda: fit().prior_predictive(20),
    "Fit.sample": lambda: cavi().sample(5),
    "Fit.predict": lambda: cavi().predict(),
    "Fit.occupied": lambda: cavi().occupied(),
    "Fit.responsibilities": lambda: cavi().responsibilities(CLUSTERS[:4]),
    "RowFit.encode": lambda: trained().encode(PIXELS[:3]),
    "RowFit.decode": lambda: trained().decode(np.zeros((2, 2))),
    "RowFit.reconstruct": lambda: trained().reconstruct(PIXELS[:3]),
    "RowFit.interpolate": lambda: trained().interpolate(PIXELS[:1], PIXELS[1:2]),
    "RowFit.complete": lambda: trained().complete(PIXELS[:2], np.ones((2, 6)) * np.arange(6) < 3, steps=3),
    "RowFit.prior_draws": lambda: trained().prior_draws(3),
    "RowFit.log_likelihood": lambda: trained().log_likelihood(PIXELS[:2], draws=5),
    "RowFit.marginal_likelihood": lambda: trained().marginal_likelihood(PIXELS[:2], ("elbo", "iwae_50")),
    "RowFit.cluster": lambda: trained().cluster(2),
    "RowFit.as_transformer": lambda: trained().as_transformer().transform(PIXELS[:2].numpy()),
    "RowFit.plot": lambda: trained().plot(),
    "datasets": lambda: [pyrometer.datasets.load(name) for name in ("faithful", "iris", "blobs", "digits", "grammar")],
    "catalogue": lambda: pyrometer.guides.catalogue(MIXTURE),
    "a refusal": lambda: refused("none"),
    "a failure": lambda: refused(fails_late()),
}


@pytest.fixture(autouse=True)
def _caller() -> Iterator[None]:
    """A caller with a param, and generators somewhere on their way."""
    random.seed(5), np.random.seed(5), torch.manual_seed(5)  # noqa: NPY002
    pyro.param("mine", torch.ones(2))
    yield
    pyro.clear_param_store()
    plt.close("all")


@pytest.mark.parametrize("name", [*FUNCTIONS, *METHODS, *IN_A_FOLDER])
def test_a_call_leaves_everything_as_it_was(name: str, tmp_path: Path) -> None:
    call = {**FUNCTIONS, **METHODS}.get(name) or partial(IN_A_FOLDER[name], tmp_path)
    before = state()
    call()
    after = state()
    assert [key for key in before if before[key] != after[key]] == []


def test_every_public_function_is_called_here() -> None:
    functions = {name for name in pyrometer.__all__ if inspect.isfunction(getattr(pyrometer, name))}
    assert functions <= {name.split(",")[0] for name in [*FUNCTIONS, *IN_A_FOLDER]}


IMPORTS = """
import random, sys
import numpy as np
def state(): return random.getstate(), str(np.random.get_state())
before = state()
import pyrometer
{first}
assert state() == before, "at first"
for name in pyrometer.__all__:
    getattr(pyrometer, name)
    assert state() == before, name
"""
FIRST = {
    "a data set": "pyrometer.datasets.load('iris')",
    "k-means": "pyrometer.models.GMM(2).init(__import__('torch').arange(6.0)[:, None], 0)",
}


@pytest.mark.parametrize("first", FIRST)
def test_what_is_imported_at_its_first_use_moves_no_generator(first: str) -> None:
    script = IMPORTS.format(first=FIRST[first])
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_torch_is_seeded_as_it_seeds_itself() -> None:
    torch.manual_seed(3)
    expected = torch.rand(3)
    seed_torch(3)
    assert torch.equal(torch.rand(3), expected)
