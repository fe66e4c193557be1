"""Pyrometer: how far is this variational approximation from the posterior?"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .imports import undrawn

if TYPE_CHECKING:
    from . import datasets, guides, models, plots
    from .errors import InputError
    from .inference.calibration.calibrate import calibrate
    from .inference.calibration.calibration import Calibration
    from .inference.closed_form.cavi import cavi
    from .inference.closed_form.em import em
    from .inference.compare.compare import compare
    from .inference.compare.comparison import Comparison
    from .inference.compare.load import load
    from .inference.components.choose import choose_components
    from .inference.components.selection import Selection
    from .inference.deterministic.bam import bam
    from .inference.deterministic.dadvi import dadvi
    from .inference.deterministic.laplace import laplace
    from .inference.deterministic.pathfinder import pathfinder
    from .inference.evidence.bridge import bridge
    from .inference.evidence.exact import exact_log_evidence
    from .inference.evidence.log_evidence import log_evidence
    from .inference.evidence.thames import thames
    from .inference.evidence.widened import widened_evidence
    from .inference.explore.explore import explore
    from .inference.fit.fit import Fit
    from .inference.local_latents.string_scores import score_strings
    from .inference.mcmc.nuts import nuts
    from .inference.svi.svi import svi
    from .inference.svi.train import train

__all__ = [
    "Calibration",
    "Comparison",
    "Fit",
    "InputError",
    "Selection",
    "bam",
    "bridge",
    "calibrate",
    "cavi",
    "choose_components",
    "compare",
    "dadvi",
    "datasets",
    "em",
    "exact_log_evidence",
    "explore",
    "guides",
    "laplace",
    "load",
    "log_evidence",
    "models",
    "nuts",
    "pathfinder",
    "plots",
    "score_strings",
    "svi",
    "thames",
    "train",
    "widened_evidence",
]

_HOMES = {  # of the names that are imported at their first use, so that who needs one does not wait for all
    "Calibration": "inference.calibration.calibration",
    "Comparison": "inference.compare.comparison",
    "Fit": "inference.fit.fit",
    "InputError": "errors",
    "Selection": "inference.components.selection",
    "bam": "inference.deterministic.bam",
    "bridge": "inference.evidence.bridge",
    "calibrate": "inference.calibration.calibrate",
    "cavi": "inference.closed_form.cavi",
    "choose_components": "inference.components.choose",
    "compare": "inference.compare.compare",
    "dadvi": "inference.deterministic.dadvi",
    "em": "inference.closed_form.em",
    "laplace": "inference.deterministic.laplace",
    "exact_log_evidence": "inference.evidence.exact",
    "explore": "inference.explore.explore",
    "load": "inference.compare.load",
    "log_evidence": "inference.evidence.log_evidence",
    "nuts": "inference.mcmc.nuts",
    "pathfinder": "inference.deterministic.pathfinder",
    "score_strings": "inference.local_latents.string_scores",
    "svi": "inference.svi.svi",
    "thames": "inference.evidence.thames",
    "train": "inference.svi.train",
    "widened_evidence": "inference.evidence.widened",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with undrawn():
        home = import_module(f".{_HOMES.get(name, name)}", __name__)
    globals()[name] = getattr(home, name) if name in _HOMES else home
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
