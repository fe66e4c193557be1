"""Pyrometer: how far is this variational approximation from the posterior?"""

from . import datasets, guides, models
from .errors import InputError
from .inference.closed_form import cavi, em
from .inference.compare import compare
from .inference.comparison import Comparison
from .inference.fit import Fit
from .inference.load import load
from .inference.nuts import nuts
from .inference.svi import svi
from .inference.train import train

__all__ = [
    "Comparison",
    "Fit",
    "InputError",
    "cavi",
    "compare",
    "datasets",
    "em",
    "guides",
    "load",
    "models",
    "nuts",
    "svi",
    "train",
]
