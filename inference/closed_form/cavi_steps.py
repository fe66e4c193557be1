"""The updates of coordinate ascent on a conjugate mixture: q(z) given q(theta), and q(theta) given q(z)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...models import BayesianGMM, UnivariateMixture
from ...models.covariance import structured
from ...models.moments import kmeans_moments
from ...models.sufficient import Components, Sums, Units, expected_terms
from .ascent import Objective
from .em_steps import Parameters
from .mixture_fit import row_likelihood, squares_only
from .conjugate import MixtureFamily, mixture_prior
from .e_step import expectation, log_totals, weighted_sums
from .row_blocks import Stream
from .threads import Threads
from .univariate_family import UnivariateFamily, univariate_prior

__all__ = ["CAVISteps", "Family"]

Family = MixtureFamily | UnivariateFamily
Begun = tuple[Family, Objective[Family, Sums]]


@dataclass(frozen=True, eq=False)
class CAVISteps:
    """The updates of one model on one data set."""

    model: BayesianGMM | UnivariateMixture
    stream: Stream
    crew: Threads

    @property
    def units(self) -> Units:
        """Those of the data."""
        return Units(self.stream.loc, self.stream.scale, squares_only(self.model.covariance))

    @property
    def prior(self) -> Family:
        """The model's prior; what it reads from the data comes from all rows, mapped or not."""
        if isinstance(self.model, UnivariateMixture):
            return univariate_prior(self.model, self.stream.loc)
        loc, scale = self.stream.loc, self.stream.scale
        two = torch.stack([loc - scale, loc + scale])  # two rows with the moments of them all
        return mixture_prior(self.model, self.model.prior(two))

    def evaluate(self, q: Family) -> tuple[float, Sums]:
        """The ELBO of q(theta) and the best q(z) for it (eqs. 10.49 and 10.70), nats; and the moments under q(z).

        With that q(z) all terms in z add up to the sum of its log normalizers.
        """
        log_total, sums = self._expectation(q.expected_components())
        return (log_total - q.kl(self.prior)).item(), sums  # type: ignore[arg-type] # of one kind, both from one model

    @property
    def objective(self) -> Objective[Family, Sums]:
        """The ELBO, and the update of q(theta)."""
        return Objective(self.evaluate, self.prior.updated)

    def from_kmeans(self, seed: int, clusters: int) -> Begun:
        """A start at q(theta) after the responsibilities of k-means++ clusters; any further components start empty."""
        weights, locs, free = kmeans_moments(self.stream.sample(seed), clusters, seed)
        start = Parameters(weights, locs, structured(self.model.covariance, free, weights))
        sums = self._expectation(start.components)[1]
        empty = self.model.components - clusters
        padded = Sums(*(torch.cat([part, part.new_zeros(empty, *part.shape[1:])]) for part in sums))
        return self.prior.updated(padded), self.objective

    def from_responsibilities(self, responsibilities: Tensor) -> Begun:
        """A start at q(theta) after responsibilities (N, K)."""
        return self.prior.updated(weighted_sums(self.stream.blocks, responsibilities)), self.objective

    def clusters(self, starts: int) -> list[int]:
        """How many clusters each start has: from K down to two.

        The best q may leave components empty (Bishop 2006, figure 10.6), which coordinate ascent alone, once they hold
        a few rows, seldom finds. Where the weights are fixed none is ever empty.
        """
        number = self.model.components
        if isinstance(self.model, UnivariateMixture):
            return [number] * starts
        return [round(count) for count in np.linspace(number, min(number, 2), starts)]

    def scored(self, q: Family, sites: dict[str, Tensor]) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """The ELBO draw by draw, q(z) included; log p(x, theta) - log q(theta), z summed out; and log p(x_n | theta).

        (S,), (S,), (S, N), in nats.
        """
        log_total, sums = self._expectation(q.expected_components())
        entropy = log_total - expected_terms(q.expected_components(), sums).sum()
        log_ratio = self.prior.log_prob(sites) - q.log_prob(sites)
        drawn = q.drawn_components(sites)
        bound = expected_terms(drawn, sums).sum(-1) + entropy + log_ratio
        flat = Components(*(part.flatten(0, 1) for part in drawn))
        likelihood = row_likelihood(self.stream, flat, self.units, len(log_ratio))
        if likelihood is None:
            total = log_totals(self.stream.blocks(), flat, self.units, len(log_ratio), self.crew)
        else:
            total = torch.as_tensor(likelihood.sum(1)).to(log_ratio)
        return bound.cpu().numpy(), (total + log_ratio).cpu().numpy(), likelihood

    def _expectation(self, components: Components) -> tuple[Tensor, Sums]:
        return expectation(self.stream.blocks(), components, self.units, self.crew)
