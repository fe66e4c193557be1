"""Pictures of comparisons and fits; all that are public stand in `pyrometer.plots`."""

from .comparison import plot, plot_fit
from .evidence import plot_evidence, plot_khat
from .forest import plot_forest
from .losses import plot_losses
from .marginal import plot_gaps, plot_marginal, plot_unbiasedness
from .posterior import plot_densities, plot_pairs
from .rows.predictive import plot_predictive
from .rows.responsibilities import plot_responsibilities

__all__ = [
    "plot",
    "plot_densities",
    "plot_evidence",
    "plot_fit",
    "plot_forest",
    "plot_gaps",
    "plot_khat",
    "plot_losses",
    "plot_marginal",
    "plot_pairs",
    "plot_predictive",
    "plot_responsibilities",
    "plot_unbiasedness",
]
