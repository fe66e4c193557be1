"""What EM and CAVI share: the rows a component holds, the likelihood of each row, and the Fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...models import GMM, BayesianGMM, UnivariateMixture
from ...models.moments import as_matrix
from ...models.sufficient import Components, Units
from ..fit import Fit
from .head import HeadDensity
from .e_step import log_sums, terms
from ..posterior import LARGEST, fit_of
from .row_blocks import Stream

__all__ = ["held_rows", "mixture_fit", "row_likelihood", "squares_only"]

HEAD = 64  # rows that the model's structure is read off


def squares_only(covariance: str) -> bool:
    """Whether the products of two columns are not needed."""
    return covariance in ("diagonal", "spherical")


def held_rows(stream: Stream, components: Components, units: Units, k: int) -> Tensor:
    """The rows of which component k has more than half: (M,)."""
    held = [chunk.softmax(0)[k] > 0.5 for chunk in terms(stream.blocks(), components, units)]
    return torch.cat(held).nonzero().flatten()


def mixture_fit(
    name: str,
    estimator: str,
    model: GMM | BayesianGMM | UnivariateMixture,
    stream: Stream,
    draws: dict[str, Tensor],
    likelihood: np.ndarray | None,
    **rest: Any,
) -> Fit:
    """A Fit from S draws, name -> (S, ...), without running the model on all rows; within `isolated`.

    likelihood: of each draw and row, (S, N), nats.
    """
    head = as_matrix(stream.data.values)[: max(HEAD, 2 * model.components)].double()
    density = HeadDensity(model, head, rest["params"] if isinstance(model, GMM) else {}, stream.rows)
    chain = {key: value.unsqueeze(0) for key, value in draws.items()}
    return fit_of(name, estimator, density, stream.data, chain, likelihood=likelihood, **rest)


def row_likelihood(stream: Stream, components: Components, units: Units, draws: int) -> np.ndarray | None:
    """log p(x_n | theta_s), (S, N), nats; None for a mapped file, or where there would be too many."""
    if stream.mapped is not None or draws * stream.rows > LARGEST:
        return None
    return torch.cat(list(log_sums(stream.blocks(), components, units, draws)), -1).cpu().numpy()
