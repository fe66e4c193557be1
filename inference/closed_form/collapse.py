"""The singularity of maximum likelihood: a component that collapses onto a point, line or plane."""

from __future__ import annotations

import torch
from torch import Tensor

from ...models.sufficient import Sums

__all__ = ["collapsed", "described"]

SHOWN = 3  # rows in a message


def collapsed(sums: Sums, covariances: Tensor, scale: Tensor, floor: float) -> list[int]:
    """The components that hold no rows, or have less than `floor` of the columns' variance in some direction.

    covariances: (K, D, D). scale: (D,), the columns' standard deviations.
    """
    empty = sums.counts < 1e-10
    standard = covariances / (scale * scale.unsqueeze(-1))
    safe = torch.where(
        (empty | ~standard.isfinite().all(-1).all(-1))[:, None, None], torch.zeros_like(standard), standard
    )
    flat = torch.linalg.eigvalsh(safe)[:, 0] <= floor
    return (empty | flat).nonzero().flatten().tolist()


def described(component: int, rows: Tensor, tied: bool) -> str:
    """component 2 collapsed onto rows 3, 4, 5 and 2 more. rows: those it holds."""
    if len(rows) == 0:
        return f"component {component} lost its last row"
    shown = ", ".join(str(row) for row in rows[:SHOWN].tolist())
    more = f" and {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
    where = f"row{'s' if len(rows) > 1 else ''} {shown}{more}"
    return (
        f"the shared covariance collapsed, component {component} on {where}"
        if tied
        else (f"component {component} collapsed onto {where}")
    )
