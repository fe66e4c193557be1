"""The Fit of a model whose continuous latents are all a row's own: what people do with a trained VAE."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ...errors import InputError, check_positive
from ..compilation.batched import over_draws
from ..data.as_data import DataLike
from ..data.data import Data
from ..density.log_density import Density
from ..density.row_density import RowDensity
from ..fit.approximation import approximation
from ..fit.fit import Fit
from ..fit.idata import LARGEST, fit_of
from ..fit.moments import moments
from ..plots.latent.portrait import plot_portrait
from ..steps.pairing import Pairing
from .decoder.completion import completed, completions
from .decoder.observed import expected
from .gaps import amortisation_gaps
from .latent_space import Clusters, LatentFeatures, clusters_of
from .marginal import USUAL, Budget, estimate, marginal_likelihood, weighed
from .target import BLOCK, Target, check_tells, target_of, tells_q

KEPT = 4_000_000  # numbers of z in the posterior
SAMPLED = 10_000  # rows of a file
MEAN_DRAWS = 200  # for the mean of a q that has no formula for it
ACTIVE = 0.01  # variance over rows of E[z_l | x] from which a unit counts as active (Burda et al. 2016)


@dataclass(frozen=True, eq=False, repr=False)
class RowFit(Fit):
    """A trained guide of a model with a latent vector z a row, and none that rows share: a VAE, or any such program.

    z of a row is the vector of its own sites, end to end, in unconstrained space. test_losses: minus the held-out ELBO
    after each epoch, nats a row: (epochs,). `elbo_draws` are of the whole data, nats; the posterior holds as many draws
    as fit.
    """

    test_losses: np.ndarray = field(default_factory=lambda: np.zeros(0), repr=False)

    @property
    def latent(self) -> int:
        """The entries of z."""
        return self.row_density().latent

    def row_density(self, x_new: DataLike | None = None) -> RowDensity:
        """log p(x_n, z_n) and p(z_n), params as trained, of the rows that were fitted, or of others."""
        return RowDensity(self.density.on(self.new_data(x_new)))

    def rows(self, x_new: DataLike | None = None) -> Any:
        """The rows that were fitted, or others brought to their shape: (M, *row), or M strings."""
        return self.as_given(self.new_data(x_new).values.cpu().numpy())

    def encode(self, x_new: DataLike | None = None) -> np.ndarray:
        """E_q[z | x] of each row: (M, latent). x_new: None takes the rows that were fitted."""
        target = self.target(x_new)
        with target.isolated(0):
            means = [moments(block.q, MEAN_DRAWS)[0] for block in target.blocks()]
        return torch.cat(means).cpu().numpy()

    def decode(self, z: DataLike, x_new: DataLike | None = None, beam: int = 1) -> Any:
        """E[x | z] of latent vectors (M, latent), as the observed sites have it: (M, *row); of strings a likely one.

        x_new: M rows, of which the covariates are taken, where the model has any; None takes those that were fitted. Of
        a class that is missing there the mean is over p(y | x, z). beam: of strings, how many the search for the
        likeliest keeps at each character; 1 is greedy. Raises InputError where a site's distribution has no mean.
        """
        check_positive(beam=beam)
        values = torch.as_tensor(np.asarray(z)).to(self.data.like)
        if values.dim() != 2 or values.shape[1] != self.latent:
            raise InputError(f"z has shape {tuple(values.shape)}, and the model wants (M, {self.latent})")
        data = self.new_data(x_new)
        if x_new is None and len(data.tensors) == 1:
            data = data.take(torch.zeros(len(values), dtype=torch.long))  # any rows: what is observed has no say
        if data.rows != len(values):
            raise InputError(f"z has {len(values)} rows, but there are covariates of {data.rows}: give x_new")
        with data.isolated(0), torch.no_grad():
            places = torch.arange(len(values)).split(BLOCK)
            parts = [expected(self.density.on(data.take(place)), values[place], beam) for place in places]
        return self.as_given(torch.cat(parts).cpu().numpy())

    def reconstruct(self, x_new: DataLike | None = None, beam: int = 1) -> Any:
        """E[x | z] at the mean of q(z | x), for each row: (M, *row), or M strings; beam as `decode` has it."""
        return self.decode(self.encode(x_new), x_new, beam)

    def interpolate(self, a: DataLike, b: DataLike, steps: int = 8, beam: int = 1) -> Any:
        """Decoded points on the line from row a to row b in latent space, both ends included: (steps, *row).

        a, b: a row each; where there are covariates, a class say, a tuple (row, class): every point takes those of the
        nearer end. Between two strings, so many strings; beam as `decode` has it.
        """
        if steps < 2:
            raise InputError(f"steps={steps} must be 2 or more: both ends are among them")
        ends = self.new_data(self.together([a, b]))
        z, share = self.encode(ends), np.linspace(0, 1, steps)[:, None]
        nearer = ends.take(torch.as_tensor(share[:, 0] > 0.5).long())
        return self.decode((1 - share) * z[0] + share * z[1], nearer, beam)

    def together(self, rows: Sequence[Any]) -> Any:
        """Rows given one by one, each a string, an array or a tuple of its parts, as `encode` takes them."""
        if isinstance(rows[0], str):
            return list(rows)
        shapes = [tuple(tensor.shape[1:]) for tensor in self.data.tensors]
        each = [[np.asarray(part) for part in (row if isinstance(row, tuple) else (row,))] for row in rows]
        for parts in each:
            if len(parts) != len(shapes):
                what = ", ".join(self.data.names) or "x, labels"
                raise InputError(f"a row has {len(parts)} part{'s' * (len(parts) != 1)}: give each as ({what})")
            for part, shape in zip(parts, shapes, strict=True):
                if part.size != np.prod(shape):
                    raise InputError(f"a row has shape {part.shape}, and the rows that were fitted have {shape}")
        found = tuple(
            np.stack([part.reshape(shapes[k]) for part in parts]) for k, parts in enumerate(zip(*each, strict=True))
        )
        return found if len(found) > 1 else found[0]

    def complete(self, x_new: DataLike, mask: np.ndarray, steps: int = 50, seed: int = 0) -> np.ndarray:
        """Rows with their missing entries filled in: (M, *row).

        mask: True where an entry was observed, of the shape of x_new; what x_new holds elsewhere is not looked at. With
        covariates x_new is a tuple of the rows and these. The chain z ~ q(z | x), x_missing ~ p(x | z) is run for so
        many steps (Rezende, Mohamed and Wierstra 2014, appendix F), which converges to p(x_missing | x_observed) where
        q is the posterior; the mean over its second half is given back.
        """
        return completed(self, x_new, mask, steps, seed)

    def completions(
        self, x_new: DataLike, mask: np.ndarray, draws: int = 3, steps: int = 50, seed: int = 0
    ) -> np.ndarray:
        """Several ways in which rows may be completed: E[x | z] at the end of as many chains, (draws, M, *row).

        Arguments as `complete` has them, of which this is the spread.
        """
        return completions(self, x_new, mask, draws, steps, seed)

    def prior_draws(self, number: int, seed: int = 0) -> np.ndarray:
        """z drawn from the model's own prior: (number, latent)."""
        rows = RowDensity(self.density.on(self.data.take(torch.zeros(number, dtype=torch.long))))
        with rows.data.isolated(seed), torch.no_grad():
            return rows.prior_draw().cpu().numpy()

    def log_likelihood(
        self, x_new: DataLike | None = None, method: str = "importance", draws: int = 500, seed: int = 0
    ) -> pd.DataFrame:
        """log p(x) of each row by `method`, nats: a DataFrame (M, 5) with estimate, se, ess, log_weight_sd and khat.

        method: naive, elbo, iwae_5, iwae_50, iwae_500, importance, ais or ais_guide.
        """
        found = estimate(self.target(x_new), method, Budget(draws=draws), seed)
        return pd.DataFrame(found._asdict()).rename(columns={"value": "estimate"})

    def marginal_likelihood(
        self, x_new: DataLike | None = None, methods: Sequence[str] = USUAL, seed: int = 0, **budget: int
    ) -> pd.DataFrame:
        """log p(x) a row by every method, side by side; see `inference.local_latents.marginal.marginal_likelihood`.

        budget: draws, chains, temperatures and leapfrogs of `inference.local_latents.marginal.Budget`.
        """
        return marginal_likelihood(self.target(x_new), methods, Budget(**budget), seed)

    def gaps(self, rows: Sequence[int], **options: Any) -> pd.DataFrame:
        """Approximation and amortisation gap on chosen training rows; see `inference.local_latents.gaps`."""
        return amortisation_gaps({self.name: self.target().take(torch.as_tensor(list(rows)))}, **options)

    def responsibilities(self, x_new: DataLike | None = None, draws: int = 100) -> pd.DataFrame:
        """p(y_n = k | x) of the discrete site, a mean over draws of q(z | x): a DataFrame (M, K).

        x_new: None takes the rows that were fitted. Raises InputError where no discrete site has one value a row.
        """
        parts, target = [], self.target(x_new)
        with target.isolated(0), torch.no_grad():
            for block in target.blocks():
                z, rows = block.q.sample(torch.Size((draws,))), block.density
                sites = lambda each, rows=rows: {**rows.shared, **rows.sites(each)[0]}  # noqa: E731
                logits = [rows.density.assignment_logits(sites(each)) for each in z]
                parts.append(torch.stack(logits).softmax(-1).mean(0))
        share = torch.cat(parts).cpu().numpy()
        return pd.DataFrame(share, columns=pd.RangeIndex(share.shape[1], name="components"))

    def active_units(self) -> np.ndarray:
        """Whether each latent entry tells rows apart: Var over rows of E_q[z | x] above 0.01: (latent,)."""
        return self.encode().var(0) > ACTIVE

    def cluster(self, components: int | None = None, labels: Any = None, seed: int = 0) -> Clusters:
        """The fitted rows in clusters by their latent vectors; see `inference.local_latents.latent_space`.

        components: of a Bayesian mixture on the means of q(z | x); None reads p(k | x) off the model's mixture prior.
        """
        return clusters_of(self, components, labels, seed)

    def as_transformer(self) -> LatentFeatures:
        """transform and inverse_transform for a pipeline of scikit-learn: encode and decode."""
        return LatentFeatures(self)

    def plot(self, labels: Any = None) -> Figure:
        """Training, latent space, reconstructions and the latent plane; `inference.plots.latent` has each.

        labels: what the latent space is coloured by, one a row.
        """
        return plot_portrait(self, labels)

    def target(self, x_new: DataLike | None = None) -> Target:
        """log p(x, z) and q(z | x) of the training rows, or of others where x_new is given.

        Raises InputError where the guide has no q for rows that it was not trained on, or does not tell it.
        """
        new = x_new is not None
        check_tells(self.name, self.guide, new)
        return target_of(self.row_density(x_new), self.guide, new=new)


def row_fit(name: str, pairing: Pairing, data: Data, draws: int, **rest: Any) -> RowFit:
    """A RowFit with draws of z and of the ELBO; to be called within `isolated`, the guide's parameters in the store.

    pairing: as trained, on all rows. data: where they lie in a file some, evenly spaced, stand for all. draws: of the
    ELBO, and of z. rest: further fields of Fit.
    """
    data = data.sampled(SAMPLED)
    density, guide = Density(pairing.model, data, rest.get("params", {})), pairing.guide
    rows = RowDensity(density)
    held = max(1, min(draws, KEPT // ((data.rows or 1) * rows.latent)))
    if tells_q(guide):
        sites, elbo = _draws_by_row(rows, guide, draws, held)
    else:
        found = approximation(pairing, density, draws)
        sites, elbo = {site: value[:held] for site, value in found.sites.items()}, found.elbo_draws
    chain = {site: value.unsqueeze(0) for site, value in sites.items()}
    numbers = (data.rows or 1) * getattr(pairing.model, "numbers_a_row", data.row_numel)
    likelihood: Any = "computed" if numbers * held <= LARGEST else None
    rest |= {"elbo_draws": elbo, "guide": copy.deepcopy(guide)}  # which may share its tensors with the store
    fit = fit_of(name, pairing.estimator, density, chain, likelihood=likelihood, **rest)
    return RowFit(**{each.name: getattr(fit, each.name) for each in fields(Fit)})


def _draws_by_row(rows: RowDensity, guide: Any, draws: int, held: int) -> tuple[dict[str, Tensor], np.ndarray]:
    """Draws of the local sites, name -> (held, ...), and of the ELBO, (draws,), a block of rows at a time."""
    numbers = torch.arange(rows.data.rows or 0, device=rows.data.like.device)
    z, elbo = [], np.zeros(draws)
    for block in Target(rows, guide, numbers).blocks():
        drawn = [*weighed(block, draws)]
        elbo += torch.cat([weights.sum(-1) for _, weights in drawn]).cpu().numpy()
        z.append(torch.cat([values for values, _ in drawn])[:held])
    return over_draws(lambda draw: rows.sites(draw["z"])[0], {"z": torch.cat(z, 1)}), elbo
