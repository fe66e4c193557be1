"""Pyrometer: how far is this variational approximation from the posterior?"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import datasets, guides, models
    from .errors import InputError
    from .inference.closed_form.cavi import cavi
    from .inference.closed_form.em import em
    from .inference.compare.compare import compare
    from .inference.compare.comparison import Comparison
    from .inference.compare.load import load
    from .inference.components.choose import choose_components
    from .inference.components.selection import Selection
    from .inference.fit.fit import Fit
    from .inference.mcmc.nuts import nuts
    from .inference.svi.svi import svi
    from .inference.svi.train import train

__all__ = [
    "Comparison",
    "Fit",
    "InputError",
    "Selection",
    "cavi",
    "choose_components",
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

_HOMES = {  # of the names that are imported at their first use, so that who needs one does not wait for all
    "Comparison": "inference.compare.comparison",
    "Fit": "inference.fit.fit",
    "InputError": "errors",
    "Selection": "inference.components.selection",
    "cavi": "inference.closed_form.cavi",
    "choose_components": "inference.components.choose",
    "compare": "inference.compare.compare",
    "em": "inference.closed_form.em",
    "load": "inference.compare.load",
    "nuts": "inference.mcmc.nuts",
    "svi": "inference.svi.svi",
    "train": "inference.svi.train",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = import_module(f".{_HOMES.get(name, name)}", __name__)
    globals()[name] = getattr(home, name) if name in _HOMES else home
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
