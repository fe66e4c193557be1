"""Pictures of fits and comparisons, each a function that gives back matplotlib Axes.

They take a Comparison or a Fit first, and `ax`, `figsize` and, where parameters are drawn, `var_names` and `num`, as
ArviZ's do. A method has one colour in all of them, with dashes and markers that tell it apart in grey; the reference is
black. `plot`, `plot_gaps`, `plot_marginal`, `plot_unbiasedness` and `plot_components` give back a Figure.
"""

from .inference.components.plot import plot_components
from .inference.plots.comparison import plot, plot_fit
from .inference.plots.evidence import plot_evidence, plot_khat
from .inference.plots.forest import plot_forest
from .inference.plots.latent.codes import plot_latent
from .inference.plots.latent.decoded import plot_decoded
from .inference.plots.losses import plot_losses
from .inference.plots.marginal import plot_gaps, plot_marginal, plot_unbiasedness
from .inference.plots.posterior import plot_densities, plot_pairs
from .inference.plots.rows.predictive import plot_predictive
from .inference.plots.rows.responsibilities import plot_responsibilities

__all__ = [
    "plot",
    "plot_components",
    "plot_decoded",
    "plot_densities",
    "plot_evidence",
    "plot_fit",
    "plot_forest",
    "plot_gaps",
    "plot_khat",
    "plot_latent",
    "plot_losses",
    "plot_marginal",
    "plot_pairs",
    "plot_predictive",
    "plot_responsibilities",
    "plot_unbiasedness",
]
