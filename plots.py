"""Pictures of fits and comparisons, each a function that gives back matplotlib Axes.

They take a Comparison or a Fit first, and what ArviZ's take by the same names: `ax`, one Axes for each panel, row by
row, or one in whose place all are drawn, where None makes a new figure of `figsize` inches; and where parameters are
drawn, `num`, how many scalars at most (None for all), and `var_names`, the variables, or scalars by the names that
tables give them (`locs[0, waiting]`), where None leaves out what would flood the picture: deterministic sites with an
entry a row of the data, and of latents with one all but the worst three.

A method has one colour in all of them, with dashes and markers that tell it apart in grey; the reference is black.
`plot`, `plot_gaps`, `plot_marginal`, `plot_unbiasedness` and `plot_components` give back a Figure.
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
