"""Methods whose every step is a formula: EM and CAVI on mixtures, and mean field on a correlated Gaussian."""

from .cavi import cavi
from .em import em

__all__ = ["cavi", "em"]
