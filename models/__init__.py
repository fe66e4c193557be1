"""Pyro programs: plain models, no inference in here."""

from .bayesian_gmm import BayesianGMM
from .gaussian import CorrelatedGaussian
from .gmm import GMM
from .univariate_mixture import UnivariateMixture

__all__ = ["GMM", "BayesianGMM", "CorrelatedGaussian", "UnivariateMixture"]
