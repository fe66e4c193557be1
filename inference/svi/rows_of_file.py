"""What SVI does otherwise with rows in a file: minibatches always; fewer draws, or a sample of the rows, to score."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ...errors import InputError
from ...models.structure import Model
from ..data.data import Data

MINIBATCH = 2048  # rows
ROW_DRAWS = 1_000_000_000  # log likelihoods of a row that scoring takes
FEWEST = 10  # draws
SAMPLED = 10_000  # rows, of a model with latents a row


def minibatch_of_file(model: Model, data: Data) -> int | None:
    """Rows a step of data in a file, where the model does not say; None of what is in memory."""
    if data.mapped is None or getattr(model, "batch_size", None) is not None:
        return None
    return min(MINIBATCH, max(1, (data.rows or 1) // 2))


def draws_of_file(data: Data, draws: int) -> int:
    """How many draws can be weighed on all rows of a file; as many as are asked for of what is in memory."""
    return draws if data.mapped is None else min(draws, max(FEWEST, ROW_DRAWS // (data.rows or 1)))


def sample_of_file(data: Data) -> Data:
    """Evenly spaced rows of a file, in memory, that stand for all where each has latents of its own."""
    return data.sampled(SAMPLED)


def with_remark(fit: Any, data: Data, batch_size: int) -> Any:
    """The fit, with what a reader must know where rows lie in a file."""
    if data.mapped is None:
        return fit
    whole = f"{fit.number} draws weighed on all of them"
    part = f"scored on {fit.data.rows} of them, evenly spaced, which are the rows of this fit"
    said = (
        f"steps of {batch_size} rows at random of {data.rows} in a file, {part if fit.data.mapped is None else whole}"
    )
    return replace(fit, remarks=(*fit.remarks, said))


def check_guide_of_file(name: str, amortized: bool, data: Data) -> None:
    """Refuse a guide with numbers of its own for every row of a file."""
    if data.mapped is not None and not amortized:
        what = f"guide {name} has a q of its own for each of the {data.rows} rows of a file"
        raise InputError(f"{what}: choose an encoder, which has one for all")
