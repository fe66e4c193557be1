"""Guides, and the catalogue: which guides go with which model."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ..models import (
    GMM,
    VAE,
    BayesianGMM,
    CorrelatedGaussian,
    DirichletProcessGMM,
    LabelledVAE,
    SequenceVAE,
    UnivariateMixture,
)
from ..models.structure import Model
from . import bayesian_gmm, correlated_gaussian, dirichlet_process_gmm, gaussian, gmm, univariate_mixture, vae
from .auto import AUTO, auto
from .gaussian import GaussianGuide
from .vae import families

__all__ = ["CATALOGUE", "DEFAULTS", "USUAL", "Guide", "GuideFactory", "auto", "catalogue", "defaults"]

Guide = Callable[..., Any]
GuideFactory = Callable[..., Guide]  # of the model; its class differs from guide to guide

CATALOGUE: dict[type, dict[str, GuideFactory]] = {
    GMM: {
        "marginal": gmm.Marginal,
        "responsibilities": gmm.RowAssignments,
        "amortized": gmm.AmortizedAssignments,
        "sampled": gmm.SampledAssignments,
    },
    BayesianGMM: {
        "mean_field": bayesian_gmm.MeanField,
        "structured": bayesian_gmm.Structured,
        "full_mean_field": bayesian_gmm.FullMeanField,
        "amortized": bayesian_gmm.Amortized,
        "sampled": bayesian_gmm.Sampled,
        "gaussian_diagonal": partial(GaussianGuide, family=gaussian.diagonal),
        "gaussian_full": partial(GaussianGuide, family=gaussian.full),
        "gaussian_low_rank": partial(GaussianGuide, family=gaussian.low_rank),
        **AUTO,
    },
    DirichletProcessGMM: {
        "mean_field": dirichlet_process_gmm.MeanField,
        "structured": dirichlet_process_gmm.Structured,
        "full_mean_field": dirichlet_process_gmm.FullMeanField,
        "amortized": dirichlet_process_gmm.Amortized,
        **AUTO,
    },
    UnivariateMixture: {
        "mean_field": univariate_mixture.MeanField,
        "full_mean_field": univariate_mixture.FullMeanField,
        "amortized": univariate_mixture.Amortized,
        **AUTO,
    },
    CorrelatedGaussian: {
        "mean_field": correlated_gaussian.MeanField,
        "full": correlated_gaussian.Full,
        **AUTO,
    },
    VAE: {
        "encoder": vae.Encoder,
        "encoder_full": partial(vae.Encoder, family=families.full()),
        "encoder_low_rank": partial(vae.Encoder, family=families.low_rank()),
        "encoder_flow": vae.FlowEncoder,
        "free": vae.Free,
        "semi_amortized": vae.SemiAmortized,
        **AUTO,
    },
    LabelledVAE: {"encoder": vae.LabelledEncoder, **AUTO},
}

CATALOGUE[SequenceVAE] = CATALOGUE[VAE]  # whose guides ask the model for its encoder

USUAL = ("auto_normal", "auto_mvn")  # of a model that has no defaults of its own
DEFAULTS: dict[type, tuple[str, ...]] = {
    GMM: ("marginal", "responsibilities", "amortized"),
    BayesianGMM: ("mean_field", "structured", "auto_normal", "auto_mvn"),
    DirichletProcessGMM: ("mean_field", "structured", "auto_normal", "auto_mvn"),
    UnivariateMixture: ("mean_field", "full_mean_field"),
    VAE: ("encoder", "encoder_full", "encoder_flow"),
    SequenceVAE: ("encoder", "encoder_full", "encoder_flow"),
    LabelledVAE: ("encoder",),
}


def catalogue(model: Model) -> dict[str, GuideFactory]:
    """The guides that go with a model or a subclass of it, name -> factory; for a user's own model, the AutoGuides."""
    return next((CATALOGUE[kind] for kind in type(model).__mro__ if kind in CATALOGUE), AUTO)


def defaults(model: Model) -> tuple[str, ...]:
    """The sensible few that `compare` takes where no guides are named."""
    return next((DEFAULTS[kind] for kind in type(model).__mro__ if kind in DEFAULTS), USUAL)
