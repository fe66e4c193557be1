"""In what order the tests run, and what the collector of garbage need not look at."""

import gc
from pathlib import Path

import pytest

LONGEST = (  # begun first, so that none runs alone at the end; the rest follow in the order of their names
    "workers/test_clusters.py",
    "test_notebooks.py",
    "test_documents.py",
    "any_model/test_local_latents.py",
    "compare/test_compare_rows.py",
    "compilation/test_native.py",
    "runtime/test_processes.py",
    "runtime/test_signals.py",
    "workers/test_workers.py",
    "distributed/test_shared_fits.py",
    "fuzz/test_command_line.py",
    "runtime/test_threads.py",
    "compare/test_faithful.py",
    "svi/test_vem.py",
    "distributed/test_broken.py",
    "resume/test_finished.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, each as a whole."""
    place = {path: number for number, path in enumerate(LONGEST)}
    here = Path(__file__).parent
    items.sort(key=lambda item: place.get(item.path.relative_to(here).as_posix(), len(place)))


def pytest_collection_finish() -> None:
    """Set aside what all tests share, torch and its like, which to look through again and again takes a twentieth."""
    gc.collect()
    gc.freeze()
