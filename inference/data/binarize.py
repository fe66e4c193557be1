"""Pixels in [0, 1] made black and white: once for all, or anew whenever they are looked at."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ...errors import InputError
from ...models.structure import Model, model_name
from ...models.vae.networks import check_choices
from .data import Data

Binarize = Literal["fixed", "stochastic"]


def check_binarize(binarize: Binarize, model: Model, *all_rows: Data | None) -> None:
    """Refuse a way that is unknown, rows that lie in a file, and strings."""
    if any(data is not None and data.mapped is not None for data in all_rows):
        raise InputError("binarize makes other pixels of all rows, and these lie in a file: write them there as 0 or 1")
    check_choices(binarize=(binarize, Binarize))
    if hasattr(model, "codes"):
        what = f"model {model_name(model)} is of strings, whose characters are not black or white"
        raise InputError(f"binarize is of pixels, and {what}: leave it out")


def binarized(data: Data, seed: int, name: str) -> Data:
    """Data in black and white. Raises InputError, naming them, where they are not within [0, 1]."""
    for grey in data.tensors:
        if grey.min() < 0 or grey.max() > 1:
            span = f"{grey.min().item():g} to {grey.max().item():g}"
            raise InputError(f"binarize wants pixels within [0, 1], and {name} has {span}: rescale it")
    return data.map(lambda grey: black_and_white(grey, seed))


def black_and_white(grey: Tensor, seed: int, draw: int = 0) -> Tensor:
    """Pixels of 0 or 1, white with the probability that a grey one in [0, 1] is: of the shape of `grey`."""
    generator = torch.Generator().manual_seed((seed + 1) * 1_000_003 + draw)
    return torch.bernoulli(grey.cpu(), generator=generator).to(grey)
