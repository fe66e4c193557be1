"""Pictures of comparisons, fits, gaps and marginal likelihoods: matplotlib Figures; of rows with latents, `latent`."""

from .comparison import plot, plot_fit, plot_forest, plot_losses
from .marginal import plot_gaps, plot_marginal, plot_unbiasedness

__all__ = ["plot", "plot_fit", "plot_forest", "plot_gaps", "plot_losses", "plot_marginal", "plot_unbiasedness"]
