"""Every notebook runs from its first cell to its last, at smoke size, and is committed with its pictures."""

from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))
SMOKE = 'sizes = {"steps": 60, "warmup": 60, "draws": 60, "chains": 2}'
# A kernel as one begins, and C for however few draws, the trees of a short warmup being deep; not of networks, whose C
# takes the compiler long. Chains of allocations are long however few draws are asked for: here short.
AFRESH = """
import matplotlib.pyplot
import pyro
import torch
from pyrometer.inference.compilation import compiled
from pyrometer.inference.components import allocations
matplotlib.pyplot.close("all"), matplotlib.rcdefaults()
pyro.clear_param_store(), torch.set_default_dtype(torch.float32)
compiled.MIN_SECONDS_FOR_NATIVE = {least}
allocations.BURN, allocations.SWEEPS = 40, 20
%reset -f
"""


@pytest.fixture(scope="module")
def client() -> Iterator[NotebookClient]:
    """A kernel for one notebook after the other, for to begin one costs more than many a notebook."""
    client = NotebookClient(nbformat.v4.new_notebook(), timeout=600, kernel_name="python3")
    with client.setup_kernel():
        yield client


@pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])
def test_the_notebook_runs_at_smoke_size(path: Path, client: NotebookClient) -> None:
    notebook = nbformat.read(path, as_version=4)
    (sizes,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    sizes.source = SMOKE
    notebook.cells.insert(0, nbformat.v4.new_code_cell(AFRESH.format(least=float("VAE(" in str(notebook.cells)))))
    client.nb = notebook
    client.execute(cleanup_kc=False)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])
def test_the_notebook_is_committed_executed_with_pictures_and_no_errors(path: Path) -> None:
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    outputs = [output for cell in cells for output in cell.outputs]
    assert all(cell.execution_count for cell in cells)
    assert not [output for output in outputs if output.output_type == "error"]
    assert any("image/png" in output.get("data", {}) for output in outputs)


def test_a_verdict_on_a_dataframe_takes_at_most_eight_lines() -> None:
    """Those cells are tagged: a regression and a mixture, imports included."""
    cells = [cell for path in NOTEBOOKS for cell in nbformat.read(path, as_version=4).cells]
    tagged = [cell for cell in cells if "eight-lines" in cell.metadata.get("tags", [])]
    lines = [[line for line in cell.source.splitlines() if line.strip()] for cell in tagged]
    assert len(lines) == 2
    assert all("pyrometer.compare(" in each[-1] and len(each) <= 8 for each in lines)
