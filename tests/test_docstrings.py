"""The examples in docstrings are run, and every public function and class has one."""

import doctest
import inspect
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pyrometer
import pytest

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
MODULES: list[ModuleType] = [pyrometer, pyrometer.models, pyrometer.guides, pyrometer.datasets]


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


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_says_what_comes_out(name: str) -> None:
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    said: list[str] = []
    outcome = runner.run(EXAMPLES[name], out=said.append)
    assert outcome.failed == 0, "".join(said)


def test_every_public_function_and_class_has_an_example_and_skips_none() -> None:
    wanted = [f"pyrometer.{name}" for name in pyrometer.__all__ if f"pyrometer.{name}" in PUBLIC]
    assert [name for name in wanted if name not in EXAMPLES] == []
    skipped = [name for name, test in EXAMPLES.items() if any(doctest.SKIP in e.options for e in test.examples)]
    assert skipped == []
