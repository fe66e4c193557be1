"""Pyro programs: plain models, no inference in here."""

from .bayesian_gmm import BayesianGMM
from .dirichlet_process_gmm import DirichletProcessGMM
from .gaussian import CorrelatedGaussian
from .gmm import GMM
from .sequences.sequence_vae import SequenceVAE
from .univariate_mixture import UnivariateMixture
from .vae import VAE, LabelledVAE

__all__ = [
    "GMM",
    "VAE",
    "BayesianGMM",
    "CorrelatedGaussian",
    "DirichletProcessGMM",
    "LabelledVAE",
    "SequenceVAE",
    "UnivariateMixture",
]
