"""Pyrometer: how far is this variational approximation from the posterior?"""

from . import datasets, guides, models
from .errors import InputError
from .inference.closed_form import cavi, em
from .inference.compare.compare import compare
from .inference.compare.comparison import Comparison
from .inference.compare.load import load
from .inference.fit.fit import Fit
from .inference.mcmc.nuts import nuts
from .inference.svi.svi import svi
from .inference.svi.train import train

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
