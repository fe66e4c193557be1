"""The examples in docstrings are run, and every public function and class has one."""

import doctest
import inspect
from collections.abc import Iterator
from functools import cache
from types import ModuleType
from typing import Any

import matplotlib as mpl
import pyrometer
import pytest
from pyrometer.models import VAE, BayesianGMM

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
MODULES: list[ModuleType] = [pyrometer]
MODULES += [module for name in pyrometer.__all__ if isinstance(module := getattr(pyrometer, name), ModuleType)]
WITHOUT = {"plot", "plot_components", "plot_gaps", "plot_marginal", "plot_unbiasedness"}  # pictures of tables


def public() -> Iterator[tuple[str, Any]]:
    """Every public function and class, by its full name."""
    for module in MODULES:
        for name in module.__all__:
            documented = getattr(module, name)
            if inspect.isfunction(documented) or inspect.isclass(documented):
                yield f"{module.__name__}.{name}", documented


PUBLIC = dict(public())
EXAMPLES = {
    test.name: test
    for name, documented in PUBLIC.items()
    for test in doctest.DocTestFinder().find(documented, name)
    if test.examples
}


@cache
def shown() -> dict[str, Any]:
    """What the examples of pictures draw: a comparison on Old Faithful, a fit of digits and their classes."""
    sizes: dict[str, Any] = {"warmup": 100, "draws": 100, "chains": 2, "steps": 100, "starts": 1, "progress": False}
    comparison = pyrometer.compare(BayesianGMM(2), "faithful", ["structured", "auto_normal"], **sizes)
    x, classes = pyrometer.datasets.pixels("digits")[:50], pyrometer.datasets.labels("digits")[:50]
    fit = pyrometer.train(VAE(2), "encoder", x, epochs=1, progress=False)
    return {"comparison": comparison, "fit": fit, "classes": classes}


@pytest.mark.filterwarnings("ignore:.*latent units are inactive")
@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_says_what_comes_out(name: str) -> None:
    mpl.use("agg")
    test, said = EXAMPLES[name], list[str]()
    test.globs |= shown() if name.startswith("pyrometer.plots.") else {}
    outcome = doctest.DocTestRunner(optionflags=FLAGS).run(test, out=said.append)
    assert outcome.failed == 0, "".join(said)


def test_every_public_function_and_class_has_an_example_and_skips_none() -> None:
    wanted = [f"pyrometer.{name}" for name in pyrometer.__all__]
    wanted += [f"pyrometer.plots.{name}" for name in pyrometer.plots.__all__ if name not in WITHOUT]
    assert [name for name in wanted if name in PUBLIC and name not in EXAMPLES] == []
    skipped = [name for name, test in EXAMPLES.items() if any(doctest.SKIP in e.options for e in test.examples)]
    assert skipped == []
