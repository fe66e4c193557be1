"""Pyro programs: plain models, no inference in here."""

from .bayesian_gmm import BayesianGMM
from .gmm import GMM

__all__ = ["GMM", "BayesianGMM"]
