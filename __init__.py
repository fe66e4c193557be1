"""Pyrometer: how far is this variational approximation from the posterior?"""

from . import datasets, guides, models
from .errors import InputError
from .inference.compare import Comparison, compare
from .inference.fit import Fit
from .inference.nuts import nuts
from .inference.svi import svi

__all__ = ["Comparison", "Fit", "InputError", "compare", "datasets", "guides", "models", "nuts", "svi"]
