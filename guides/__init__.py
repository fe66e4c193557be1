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

__all__ = ["CATALOGUE", "DEFAULTS", "USUAL", "WORDS", "Guide", "GuideFactory", "auto", "catalogue", "defaults"]

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

WORDS = {  # what each guide is, whatever the model
    "marginal": "a point by maximum likelihood; labels are summed out exactly",
    "responsibilities": "a point by maximum likelihood, and the label probabilities of each row",
    "mean_field": "a factor of its own for every parameter; labels are summed out exactly",
    "structured": "each component's location leans on its precision, as in the conjugate posterior",
    "full_mean_field": "factors for the parameters and the label of each row: the family of CAVI",
    "amortized": "label probabilities of a row by a small network that reads it",
    "sampled": "as amortized, with labels drawn instead of summed: black-box VI by the score function",
    "gaussian_diagonal": "one Gaussian for all parameters, without correlations",
    "gaussian_full": "one Gaussian for all parameters, with every correlation",
    "gaussian_low_rank": "one Gaussian for all parameters, with a few directions of correlation",
    "full": "one Gaussian with every correlation: the posterior's own family",
    "encoder": "a network reads a row and gives its code a normal, whose entries are independent",
    "encoder_full": "as encoder, with every correlation between the entries of a code",
    "encoder_low_rank": "as encoder, with a few directions of correlation between the entries of a code",
    "encoder_flow": "as encoder, bent by inverse autoregressive flows",
    "free": "no network: a normal for the code of each training row, found for that row alone",
    "semi_amortized": "what the encoder says of a row, then a few steps up that row's own bound",
    "auto_delta": "a point: the mode (AutoDelta)",
    "auto_normal": "a normal for every scalar, independent of the others (AutoNormal)",
    "auto_diagonal_normal": "one Gaussian for all scalars, without correlations (AutoDiagonalNormal)",
    "auto_mvn": "one Gaussian for all scalars, with every correlation (AutoMultivariateNormal)",
    "auto_low_rank": "one Gaussian, a few directions of correlation (AutoLowRankMultivariateNormal)",
    "auto_laplace": "the Gaussian at the mode, as wide as the curvature says (AutoLaplaceApproximation)",
    "auto_iaf": "a Gaussian bent by an inverse autoregressive flow (AutoIAFNormal)",
    "auto_structured": "a normal for every site, which leans on the sites before it (AutoStructured)",
}

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
