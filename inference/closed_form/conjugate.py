"""The conjugate families over the parameters of K components: of prior, posterior and q(theta) alike.

Weights x Normal-Wishart for BayesianGMM and DirichletProcessGMM, independent normals for UnivariateMixture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from ...models import BayesianGMM, UnivariateMixture
from ...models.gaussians.covariance import Covariance, as_trils, inverse_tril, laid_out, precision_site, structured
from ...models.gaussians.distributions import NormalPrecisionCholesky, WishartCholesky
from ...models.gaussians.sufficient import Components, Sums, Units
from .e_step import weighted_normals, whiteners
from .weights import Weights, weights_prior


@dataclass(frozen=True, eq=False)
class MixtureFamily:
    """p(weights) prod_k Normal(loc_k | locs_k, (loc_precision_k precision_k)^-1) p(precisions).

    p(precisions) is, as in `models.gaussians.covariance.precision_trils`, a Wishart(df_k, scales_k^-1) a component, one
    in all where tied, Gammas on the diagonal of scales_k where diagonal or spherical.

    loc_precision, df: (K,). locs: (K, D). scales: (K, D, D), W^-1 of Bishop. Where tied, df and scales
    are the same for each k.
    """

    covariance: Covariance
    weights: Weights
    loc_precision: Tensor
    locs: Tensor
    df: Tensor
    scales: Tensor

    @property
    def size(self) -> int:
        """D."""
        return self.locs.shape[-1]

    def updated(self, sums: Sums) -> MixtureFamily:
        """The posterior, this being the prior, given weighted moments (Bishop 2006, eqs. 10.60 to 10.63)."""
        counts = sums.counts
        precision, away = self.loc_precision + counts, sums.means - self.locs
        shrunk = (self.loc_precision * counts / precision)[:, None, None]
        free = sums.scatters + shrunk * away.unsqueeze(-1) * away.unsqueeze(-2)
        weighted = self.loc_precision.unsqueeze(-1) * self.locs + counts.unsqueeze(-1) * sums.means
        locs = weighted / precision.unsqueeze(-1)
        df = self.df + (counts.sum() if self.covariance == "tied" else counts)
        scales = self.scales + structured(self.covariance, free, torch.ones_like(counts))
        return MixtureFamily(self.covariance, self.weights.updated(counts), precision, locs, df, scales)

    def expected_components(self) -> Components:
        """E[log weights_k + log Normal(x | loc_k, precision_k^-1)] as a function of x (eqs. 10.46, 10.64, 10.65)."""
        constant = (self._expected_log_det() - self.size * math.log(2 * math.pi) - self.size / self.loc_precision) / 2
        scaled = self.df.sqrt()[:, None, None] * whiteners(self.scales)
        return Components(self.weights.expected_log() + constant, self.locs, scaled)

    def kl(self, prior: MixtureFamily) -> Tensor:
        """KL(this || prior) in nats (the terms 10.73, 10.74, 10.76 and 10.77): ()."""
        ratio = prior.loc_precision / self.loc_precision
        away = self.expected_components().whiteners @ (self.locs - prior.locs).unsqueeze(-1)
        of_locs = (self.size * (ratio - 1 - ratio.log()) + prior.loc_precision * away.square().sum((-2, -1))) / 2
        of_weights = self.weights.kl(prior.weights)  # type: ignore[arg-type] # of one kind, both from one model
        return of_weights + of_locs.sum() + self._kl_precisions(prior)

    def sample(self, draws: int) -> dict[str, Tensor]:
        """Exact draws of the model's sites, name -> (S, ...); random as torch's generator has it."""
        name, precisions = self._precisions()
        sites = self.weights.sample(draws) | {name: precisions.sample((draws,))}
        return sites | {"locs": self._locs(sites).sample()}

    def log_prob(self, sites: dict[str, Tensor]) -> Tensor:
        """The log density of each draw, over the model's own sites: (S,)."""
        name, precisions = self._precisions()
        of_locs = self._locs(sites).log_prob(sites["locs"]).sum(-1)
        of_precisions = precisions.log_prob(sites[name]).reshape(len(of_locs), -1).sum(-1)
        return self.weights.log_prob(sites) + of_locs + of_precisions

    def log_prob_of_components(self, sites: dict[str, Tensor]) -> Tensor:
        """The log density of each component's own sites, weights left out, covariances not tied: (S, K).

        sites: name -> (S, K, ...), or (S, 1, ...) for one value under all K.
        """
        name, precisions = self._precisions()
        return self._locs(sites).log_prob(sites["locs"]) + precisions.log_prob(sites[name])

    def drawn_components(self, sites: dict[str, Tensor]) -> Components:
        """log weights_k + log Normal(x | loc_k, precision_k^-1) of each draw: (S, K), (S, K, D), (S, K, D, D)."""
        return weighted_normals(self.weights.log_weights(sites), sites["locs"], self.trils(sites).mT)

    def trils(self, sites: dict[str, Tensor]) -> Tensor:
        """The Cholesky factors of the precisions drawn: (S, K, D, D)."""
        return as_trils(self.covariance, sites, *self.locs.shape)

    def params(self) -> dict[str, Tensor]:
        """This as the trained parameters of the guide `structured`."""
        return {
            **self.weights.params(),
            "locs_loc": self.locs,
            "locs_precision": self.loc_precision,
            "precision_df": self.df[0] if self.covariance == "tied" else self.df,
            **laid_out(self.covariance, inverse_tril(self.scales), prefix="precision_"),
        }

    def _locs(self, sites: dict[str, Tensor]) -> NormalPrecisionCholesky:
        """Of the locations, given the precisions drawn: batch (S, K)."""
        return NormalPrecisionCholesky(self.locs, self.loc_precision.sqrt()[:, None, None] * self.trils(sites))

    def _precisions(self) -> tuple[str, TorchDistribution]:
        """The precisions' site and its distribution: batch () where tied, else (K,)."""
        tied = self.covariance == "tied"
        df, scales = (self.df[0], self.scales[0]) if tied else (self.df, self.scales)
        return precision_site(self.covariance, df, inverse_tril(scales))

    def _expected_log_det(self) -> Tensor:
        """E[log |precision_k|] (eq. 10.65): (K,), or () where tied."""
        _, precisions = self._precisions()
        if isinstance(precisions, WishartCholesky):
            return precisions.expected_log_det()
        joint = self.size if self.covariance == "spherical" else 1  # dims that have one precision in common
        digammas = self.size * ((self.df * joint / 2).digamma() - math.log(joint / 2))
        return digammas - torch.logdet(self.scales)

    def _kl_precisions(self, prior: MixtureFamily) -> Tensor:
        ours, theirs = self._precisions()[1], prior._precisions()[1]
        if isinstance(ours, WishartCholesky) and isinstance(theirs, WishartCholesky):
            return ours.divergence(theirs).sum()
        return kl_divergence(ours, theirs).sum()


@dataclass(frozen=True, eq=False)
class UnivariateFamily:
    """prod_k Normal(locs_k | loc_k, variance_k), and the known standard deviation of a row. loc, variance: (K,)."""

    sd: float
    loc: Tensor
    variance: Tensor

    def updated(self, sums: Sums) -> UnivariateFamily:
        """m_k and s_k^2, this being the prior (Blei et al. 2017, eq. 34)."""
        precision = 1 / self.variance + sums.counts / self.sd**2
        weighted = self.loc / self.variance + sums.counts * sums.means[:, 0] / self.sd**2
        return UnivariateFamily(self.sd, weighted / precision, 1 / precision)

    def expected_components(self) -> Components:
        """E[log Normal(x | locs_k, sd^2)] - log K as a function of x (eq. 26, its constants kept)."""
        return self._components(self.loc, self.variance)

    def kl(self, prior: UnivariateFamily) -> Tensor:
        """KL(this || prior) in nats: ()."""
        return kl_divergence(self._normal, prior._normal).sum()

    def sample(self, draws: int) -> dict[str, Tensor]:
        """Exact draws of locs: (S, K)."""
        return {"locs": self._normal.sample((draws,))}

    def log_prob(self, sites: dict[str, Tensor]) -> Tensor:
        """The log density of each draw: (S,)."""
        return self._normal.log_prob(sites["locs"]).sum(-1)

    def log_prob_of_components(self, sites: dict[str, Tensor]) -> Tensor:
        """The log density of each component's loc: (S, K). sites: locs (S, K), or (S, 1) for one under all K."""
        return self._normal.log_prob(sites["locs"])

    def drawn_components(self, sites: dict[str, Tensor]) -> Components:
        """log Normal(x | locs_k, sd^2) - log K of each draw: (S, K), (S, K, 1), (S, K, 1, 1)."""
        return self._components(sites["locs"], torch.zeros_like(sites["locs"]))

    def params(self) -> dict[str, Tensor]:
        """This as the trained parameters of the guide `mean_field`."""
        return {"locs_loc": self.loc, "locs_scale": self.variance.sqrt()}

    @property
    def _normal(self) -> Normal:
        return Normal(self.loc, self.variance.sqrt())

    def _components(self, locs: Tensor, variances: Tensor) -> Components:
        log_weights = -variances / (2 * self.sd**2) - math.log(locs.shape[-1])
        return weighted_normals(log_weights, locs.unsqueeze(-1), torch.full_like(locs, 1 / self.sd)[..., None, None])


Family = MixtureFamily | UnivariateFamily


def prior_of(model: BayesianGMM | UnivariateMixture, units: Units) -> Family:
    """A model's prior as a member of its family. units: mean and standard deviation of the data's columns, (D,)."""
    loc, scale = units.loc, units.scale
    if isinstance(model, UnivariateMixture):
        zeros = loc.new_zeros(model.components)
        return UnivariateFamily(model.sd, zeros, zeros + model.sigma**2)
    number, size = model.components, len(loc)
    prior = model.prior(torch.stack([loc - scale, loc + scale]))  # two rows with the moments of them all
    matrix, each = prior.scale, loc.new_ones(number)
    if model.covariance in ("diagonal", "spherical"):  # whose rates the model reads off W's Cholesky factor
        matrix = torch.diag_embed(inverse_tril(matrix).diagonal().square().reciprocal())
    if model.covariance == "spherical":
        matrix = matrix[0, 0].expand(size).diag()
    locs, scales = prior.loc.expand(number, size), matrix.expand(number, size, size)
    loc_precision, df = prior.loc_precision * each, prior.df * each
    return MixtureFamily(model.covariance, weights_prior(model, prior.concentration), loc_precision, locs, df, scales)
