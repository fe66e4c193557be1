"""Coordinate ascent variational inference on conjugate mixtures, in closed form."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import InputError
from ...guides import Guide
from ...guides.bayesian_gmm import Structured
from ...guides.univariate_mixture import MeanField
from ...models import BayesianGMM, UnivariateMixture
from ...models.gaussians.covariance import structured
from ...models.gaussians.moments import kmeans_moments
from ...models.gaussians.sufficient import Components, Sums, expected_terms
from ...models.structure import model_name
from ..data.as_data import DataLike
from ..fit.fit import Fit
from .ascent import Ascent, Options, mixture_fit, row_likelihood
from .conjugate import Family, MixtureFamily, prior_of
from .e_step import EStep, WorkerPool, e_step, log_totals, normal_components, weighted_sums
from .row_blocks import RowBlocks, as_row_blocks


def cavi(
    model: BayesianGMM | UnivariateMixture,
    x: DataLike,
    *,
    responsibilities: object = None,
    max_steps: int = 2000,
    tol: float = 1e-9,
    starts: int = 5,
    draws: int = 1000,
    seed: int = 0,
    jobs: int | None = None,
    progress: bool = True,
    name: str = "cavi",
) -> Fit:
    """Mean-field variational inference by coordinate ascent.

    BayesianGMM: q(z) q(weights, locs, precisions), the families found by the updates (Bishop 2006, section 10.2,
    equations 10.46 to 10.70). DirichletProcessGMM: sticks in place of weights, and q(alpha) (Blei and Jordan 2006,
    section 3.1); components change places where that raises the bound. UnivariateMixture: Blei, Kucukelbir and
    McAuliffe (2017), section 3.

    Parameters
    ----------
    model : BayesianGMM, DirichletProcessGMM or UnivariateMixture. Minibatches are switched off.
    x : DataFrame, Series, array, tensor, path or data set name: (N, D) or (N,). Rows in a file, a NumPy memmap say,
        are read in blocks, in bounded memory; their Fit then holds no log-likelihood by row.
    responsibilities : (N, K), each row summing to 1: q(z) of the one start, in place of k-means++.
    max_steps, tol : a start ends after so many steps, or where the ELBO changes by less than tol times itself.
    starts : from k-means++ with K clusters down to two, the other components empty, each run to its end;
        `start_losses` keeps them all.
    draws : exact draws from q; k-hat comes from their weights, which take a pass over x for each two draws.
    seed : the same seed gives the same numbers.
    jobs : processes that share the blocks of a file, with the numbers of one; -1 is one a core. None is 1, or what
        `joblib.parallel_config` around the call says.
    progress : show a bar with the ELBO; a line every ten seconds where there is no terminal or notebook.
    name : what the Fit is called in tables.

    Returns
    -------
    Fit
        losses: minus the ELBO of each step with every constant, nats, never rising; the last is that of the q
        returned. elbo_draws: their mean estimates the same bound. log_weights: with z summed out. params: those of
        the guide `structured`.

    Raises
    ------
    InputError
        Another model, bad data or options.

    Examples
    --------
    >>> import pyrometer
    >>> from pyrometer.models import BayesianGMM
    >>> fit = pyrometer.cavi(BayesianGMM(components=2), "faithful", progress=False)
    >>> bool((fit.losses[1:] <= fit.losses[:-1] + 1e-8).all())  # minus the ELBO, which never falls
    True
    """
    options = Options("CAVI", name, responsibilities, max_steps, tol, starts, seed, progress, draws, jobs)
    check_cavi(model)
    blocks = as_row_blocks(x, model)
    columns = len(blocks.units.loc)
    if isinstance(model, UnivariateMixture) and columns != 1:
        raise InputError(f"UnivariateMixture is a model of one column, and x has {columns}: choose one of them")
    # The best q may leave components empty (Bishop 2006, figure 10.6), which coordinate ascent alone, once they
    # hold a few rows, seldom finds. Where the weights are fixed none is ever empty.
    fewest = model.components if isinstance(model, UnivariateMixture) else min(model.components, 2)
    clusters = [round(number) for number in np.linspace(model.components, fewest, starts)]
    return mixture_fit(model, blocks, CAVIUpdates, clusters, options)


def check_cavi(model: object) -> None:
    """Raise InputError for a model that `cavi` does not fit."""
    if not isinstance(model, BayesianGMM | UnivariateMixture):
        what = "a BayesianGMM, DirichletProcessGMM or UnivariateMixture"
        raise InputError(f"cavi fits {what}, not {model_name(model)}: use em, svi or nuts")


@dataclass(frozen=True, eq=False)
class CAVIUpdates:
    """The updates of one start: q(z) given q(theta), and q(theta) given q(z). The state: q(theta)."""

    model: BayesianGMM | UnivariateMixture
    blocks: RowBlocks
    pool: WorkerPool
    seed: int = 0
    notes: tuple[str, ...] = ()

    @cached_property
    def prior(self) -> Family:
        """The model's prior; what it reads from the data comes from all rows, mapped or not."""
        return prior_of(self.model, self.blocks.units)

    def evaluate(self, q: Family) -> tuple[float, Sums]:
        """The ELBO of q(theta) and the best q(z) for it (eqs. 10.49 and 10.70), nats; and the moments under q(z).

        With that q(z) all terms in z add up to the sum of its log normalizers.
        """
        log_total, sums = self._e_step(q.expected_components())
        return (log_total - q.kl(self.prior)).item(), sums  # type: ignore[arg-type] # of one kind, both from one model

    def update(self, sums: Sums) -> Family:
        """The best q(theta) for q(z) of these moments (eqs. 10.57 and 10.59), in the best order where that matters."""
        if isinstance(self.prior, MixtureFamily):
            order = self.prior.weights.order(sums.counts)
            sums = Sums(*(part[order] for part in sums))
        return self.prior.updated(sums)

    def from_kmeans(self, clusters: int) -> Family:
        """q(theta) after the responsibilities of k-means++ clusters; any further components start empty."""
        weights, locs, free = kmeans_moments(self.blocks.sample(self.seed), clusters, self.seed)
        covariances = structured(self.model.covariance, free, weights)
        sums = self._e_step(normal_components(weights, locs, covariances)).sums
        empty = self.model.components - clusters
        padded = Sums(*(torch.cat([part, part.new_zeros(empty, *part.shape[1:])]) for part in sums))
        return self.update(padded)

    def from_responsibilities(self, responsibilities: Tensor) -> Family:
        """q(theta) after responsibilities (N, K); nothing of it is random."""
        return self.update(weighted_sums(self.blocks, responsibilities))

    def result(self, end: Ascent[Family], draws: int) -> dict[str, Any]:
        """Exact draws from q; the ELBO draw by draw, q(z) included; log p(x, theta) - log q(theta), z summed out."""
        q = end.state
        sites = q.sample(draws)
        log_total, sums = self._e_step(q.expected_components())
        entropy = log_total - expected_terms(q.expected_components(), sums).sum()
        log_ratio = self.prior.log_prob(sites) - q.log_prob(sites)
        drawn = q.drawn_components(sites)
        bound = expected_terms(drawn, sums).sum(-1) + entropy + log_ratio
        flat = Components(*(part.flatten(0, 1) for part in drawn))
        likelihood = row_likelihood(self.blocks, flat, len(log_ratio))
        if likelihood is None:
            total = log_totals(self.blocks, flat, self.blocks.units, len(log_ratio), self.pool)
        else:
            total = torch.as_tensor(likelihood.sum(1)).to(log_ratio)
        return {
            "draws": {name: value.unsqueeze(0) for name, value in sites.items()},
            "params": q.params(),
            "guide": None if likelihood is None else _guide_of(self.model),  # too many rows to look at again
            "elbo_draws": bound.cpu().numpy(),
            "log_weights": (total + log_ratio).cpu().numpy(),
            "likelihood": likelihood,
        }

    def _e_step(self, components: Components) -> EStep:
        return e_step(self.blocks, components, self.blocks.units, self.pool)


def _guide_of(model: BayesianGMM | UnivariateMixture) -> Guide:
    """The guide whose params a family's are."""
    return Structured(model) if isinstance(model, BayesianGMM) else MeanField(model)
