"""Guides for GMM, whose only latent site is z: four treatments of q(z)."""

from dataclasses import dataclass

from torch import Tensor

from ..display.objects import described
from ..models import GMM
from .assignments import AmortizedAssignments, RowAssignments, SampledAssignments

__all__ = ["AmortizedAssignments", "Marginal", "RowAssignments", "SampledAssignments"]


@dataclass(frozen=True)
class Marginal:
    """The empty guide: the model sums z out, so that the ELBO is the log-likelihood itself."""

    _repr_html_ = described

    model: GMM

    def __call__(self, x: Tensor) -> None:
        """Sample nothing."""
