"""Pictures of comparisons, of single fits, of gaps and of marginal likelihoods: matplotlib Figures."""

from .comparison import plot, plot_fit, plot_forest, plot_losses
from .gaps import plot_gaps
from .latent import (
    plot_completion,
    plot_interpolation,
    plot_latent,
    plot_plane,
    plot_portrait,
    plot_reconstructions,
    plot_samples,
)
from .marginal import plot_marginal, plot_unbiasedness

__all__ = [
    "plot",
    "plot_completion",
    "plot_fit",
    "plot_forest",
    "plot_gaps",
    "plot_interpolation",
    "plot_latent",
    "plot_losses",
    "plot_marginal",
    "plot_plane",
    "plot_portrait",
    "plot_reconstructions",
    "plot_samples",
    "plot_unbiasedness",
]
