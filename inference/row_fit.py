"""The Fit of a model with a latent vector a row: what people do with a trained VAE."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import arviz as az
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from pyro import poutine
from pyro.infer.autoguide import AutoGuide, AutoNormal
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from ..errors import InputError
from ..guides.vae import Free
from ..models.vae import VAE
from .data import Data, DataLike
from .estimators import USUAL, Budget
from .fit import Fit
from .gaps import amortisation_gaps
from .isolation import isolated
from .marginal import log_likelihood, marginal_likelihood
from .plots.latent import plot_portrait
from .steps.pairing import Pairing

__all__ = ["RowFit", "row_fit", "tells_new", "tells_q"]

BLOCK = 512  # rows at once
KEPT = 4_000_000  # numbers of z in the posterior
ACTIVE = 0.01  # variance over rows of E[z_l | x] from which a unit counts as active (Burda et al. 2016)


@dataclass(frozen=True)
class RowPosterior:
    """q(z | x) of a trained guide. new: whether it is asked about rows that it was not trained on."""

    name: str
    guide: Any
    new: bool

    def posterior(self, x: Tensor, rows: Tensor | None = None) -> Distribution:
        """q(z | x) of rows x (M, ...): batch (M,), event (latent,). rows (M,): which training rows these are.

        Raises InputError where the guide has no q for rows that it was not trained on, or does not tell it.
        """
        if self.new and _bound_to_rows(self.guide):
            raise InputError(f"guide {self.name} has a q for each training row and for no other: choose an encoder")
        if not tells_q(self.guide):
            mend = "give it a method posterior(x, rows), or choose an encoder, free or auto_normal"
            raise InputError(f"guide {self.name} does not tell its q(z | x): {mend}")
        if isinstance(self.guide, AutoNormal):
            locs, scales = self.guide.locs.z, self.guide.scales.z
            return Independent(Normal(locs[rows], scales[rows]), 1)
        return self.guide.posterior(x, None if self.new else rows)


@dataclass(frozen=True, eq=False, repr=False)
class RowFit(Fit):
    """A trained VAE and its guide.

    test_losses: minus the held-out ELBO after each epoch, nats a row: (epochs,).
    `elbo_draws` are of the whole data, nats; the posterior holds draws of z for as many draws as fit.
    """

    test_losses: np.ndarray = field(default_factory=lambda: np.zeros(0), repr=False)

    def rows(self, x_new: DataLike | None = None) -> np.ndarray:
        """The rows that were fitted, or others brought to their shape: (M, *row)."""
        return self._rows(x_new)[0].cpu().numpy()

    def encode(self, x_new: DataLike | None = None) -> np.ndarray:
        """E_q[z | x] of each row: (M, latent). x_new: None takes the rows that were fitted."""
        return self._each(x_new, lambda x, rows: _mean(self.q(x_new).posterior(x, rows)))

    def decode(self, z: DataLike) -> np.ndarray:
        """E[x | z] of latent vectors (M, latent): (M, *row)."""
        values = torch.as_tensor(np.asarray(z), dtype=self.data.values.dtype, device=self.data.values.device)
        if values.dim() != 2 or values.shape[1] != self.vae.latent:
            raise InputError(f"z has shape {tuple(values.shape)}, and the model wants (M, {self.vae.latent})")
        return self._decoded(values).cpu().numpy()

    def reconstruct(self, x_new: DataLike | None = None) -> np.ndarray:
        """E[x | z] at the mean of q(z | x), for each row: (M, *row)."""
        return self.decode(self.encode(x_new))

    def sample(self, n: int, seed: int = 0) -> pd.DataFrame:
        """n new rows, z from the prior and x from p(x | z): a DataFrame (n, D)."""
        if n < 1:
            raise InputError(f"n={n} must be 1 or more")
        with isolated(seed, self.data.values.dtype), torch.no_grad():
            z = self.vae.prior(self.data.values).sample((n,))
            rows = self.vae.network(self.data.values)(z).sample()
        return pd.DataFrame(rows.reshape(n, -1).cpu().numpy(), columns=list(self.data.columns))

    def interpolate(self, a: DataLike, b: DataLike, steps: int = 8) -> np.ndarray:
        """Decoded points on the line from row a to row b in latent space, both ends included: (steps, *row)."""
        if steps < 2:
            raise InputError(f"steps={steps} must be 2 or more: both ends are among them")
        ends = [self.encode(np.asarray(row).reshape(1, *self.data.values.shape[1:]))[0] for row in (a, b)]
        share = np.linspace(0, 1, steps)[:, None]
        return self.decode((1 - share) * ends[0] + share * ends[1])

    def complete(self, x_new: DataLike, mask: np.ndarray, steps: int = 50, seed: int = 0) -> np.ndarray:
        """Rows with their missing entries filled in: (M, *row).

        mask: True where an entry was observed, of the shape of x_new; what x_new holds elsewhere is not looked at. The
        chain z ~ q(z | x), x_missing ~ p(x | z) is run for so many steps (Rezende, Mohamed and Wierstra 2014, appendix
        F), which converges to p(x_missing | x_observed) where q is the posterior; the mean over its second half is
        given back.
        """
        if steps < 2:
            raise InputError(f"steps={steps} must be 2 or more")
        known = torch.as_tensor(np.asarray(mask, bool), device=self.data.values.device)
        given = torch.as_tensor(np.where(np.asarray(mask, bool), np.asarray(x_new), 0.0)).to(self.data.values)
        if known.shape != given.shape or given.shape[1:] != self.data.values.shape[1:]:
            raise InputError(
                f"mask {tuple(known.shape)} and x_new {tuple(given.shape)} must have the shape of the rows"
            )
        network, total = self.vae.network(self.data.values), torch.zeros_like(given)
        with isolated(seed, given.dtype), torch.no_grad():
            fn = network(self.vae.prior(given).sample((len(given),)))
            for step in range(steps):
                filled = torch.where(known, given, fn.sample())
                fn = network(self.q(x_new).posterior(filled).sample())
                total += fn.mean if step >= steps // 2 else 0.0
        mean = total / (steps - steps // 2)
        return torch.where(known, given, mean).cpu().numpy()

    def log_likelihood(
        self, x_new: DataLike | None = None, method: str = "importance", draws: int = 500, seed: int = 0
    ) -> pd.DataFrame:
        """log p(x) of each row by `method`, nats: a DataFrame (M, 5) with estimate, se, ess, log_weight_sd and khat.

        method: naive, elbo, iwae_5, iwae_50, iwae_500, importance, ais or ais_guide.
        """
        x, rows = self._rows(x_new)
        return log_likelihood(self.vae, self.q(x_new), x, method, budget=Budget(draws=draws), rows=rows, seed=seed)

    def marginal_likelihood(
        self, x_new: DataLike | None = None, methods: Sequence[str] = USUAL, seed: int = 0, **budget: int
    ) -> pd.DataFrame:
        """log p(x) a row by every method, side by side; see `inference.marginal.marginal_likelihood`.

        budget: draws, chains, temperatures and leapfrogs of `inference.estimators.Budget`.
        """
        x, rows = self._rows(x_new)
        return marginal_likelihood(self.vae, self.q(x_new), x, methods, budget=Budget(**budget), rows=rows, seed=seed)

    def gaps(self, rows: Sequence[int], **options: Any) -> pd.DataFrame:
        """Approximation and amortisation gap on chosen training rows, NUTS beside; see `inference.gaps`."""
        chosen = torch.as_tensor(list(rows))
        x = self.data.values[chosen]
        return amortisation_gaps(self.vae, {self.name: self.by_row()}, x, rows=chosen, **options)

    def active_units(self) -> np.ndarray:
        """Whether each latent entry tells rows apart: Var over rows of E_q[z | x] above 0.01: (latent,)."""
        return self.encode().var(0) > ACTIVE

    def plot(self, labels: Any = None) -> Figure:
        """Training, latent space, reconstructions and the latent plane; `inference.plots.latent` has each.

        labels: what the latent space is coloured by, one a row.
        """
        return plot_portrait(self, labels)

    @property
    def vae(self) -> VAE:
        """The model."""
        assert isinstance(self.model, VAE)
        return self.model

    def q(self, x_new: DataLike | None = None) -> RowPosterior:
        """q(z | x), for the training rows, or for others where x_new is given."""
        return RowPosterior(self.name, self.guide, x_new is not None)

    def by_row(self) -> Any:
        """What tells q(z | x) of the training rows: the guide itself where it can, to be tuned on a row alone."""
        return self.guide if hasattr(self.guide, "posterior") else self.q()

    def _decoded(self, z: Tensor) -> Tensor:
        network = self.vae.network(self.data.values)
        with torch.no_grad():
            return torch.cat([network(part).mean for part in z.split(BLOCK)])

    def _rows(self, x_new: DataLike | None) -> tuple[Tensor, Tensor | None]:
        if x_new is None:
            return self.data.values, torch.arange(len(self.data.values))
        return self.new_data(x_new).values, None

    def _each(self, x_new: DataLike | None, fn: Callable[[Tensor, Tensor | None], Tensor]) -> np.ndarray:
        """fn of some rows at a time, end to end."""
        x, rows = self._rows(x_new)
        with isolated(0, x.dtype), torch.no_grad():
            places = torch.arange(len(x)).split(BLOCK)
            parts = [fn(x[place], None if rows is None else rows[place]) for place in places]
        return torch.cat(parts).cpu().numpy()


def tells_q(guide: Any) -> bool:
    """Whether q(z | x) of a row can be had from a guide."""
    return isinstance(guide, AutoNormal) or hasattr(guide, "posterior")


def tells_new(guide: Any) -> bool:
    """Whether q(z | x) can be had of rows that the guide was not trained on."""
    return tells_q(guide) and not _bound_to_rows(guide)


def _bound_to_rows(guide: Any) -> bool:
    return isinstance(guide, Free | AutoGuide)


def _mean(q: Distribution) -> Tensor:
    try:
        return q.mean
    except NotImplementedError:  # a flow's
        return q.sample(torch.Size((200,))).mean(0)


def row_fit(name: str, pairing: Pairing, data: Data, draws: int, **rest: Any) -> RowFit:
    """A RowFit with draws of z and of the ELBO; to be called within `isolated`. draws: of the ELBO, and of z."""
    x, guide = data.values, pairing.guide
    nothing = az.from_dict(posterior={"z": np.zeros((1, 1, 1, 1))})
    fit = RowFit(name, pairing.estimator, pairing.model, data, nothing, guide=guide, **rest)
    with torch.no_grad():
        z, elbo = _draws_by_row(fit, draws) if tells_q(guide) else _draws_of_all(fit, draws)
    idata = az.from_dict(posterior={"z": z.unsqueeze(0).cpu().numpy()}, dims={"z": ["data", "latent"]})
    idata.extend(az.from_dict(observed_data={"x": x.cpu().numpy()}, dims={"x": ["data"]}))
    return replace(fit, idata=idata, elbo_draws=elbo.cpu().numpy())


def _draws_by_row(fit: RowFit, draws: int) -> tuple[Tensor, Tensor]:
    """Draws of z, (S, N, latent), as many as memory holds, and of the ELBO, (draws,), a block of rows at a time."""
    x, model = fit.data.values, fit.vae
    number, z, elbo = _held(fit, draws), [], torch.zeros(draws, dtype=torch.float64)
    for place in torch.arange(len(x)).split(BLOCK):
        q = fit.q().posterior(x[place], place)
        samples = [q.sample() for _ in range(draws)]
        elbo += torch.stack([(model.log_joint(s, x[place]) - q.log_prob(s)).double().sum() for s in samples]).cpu()
        z.append(torch.stack(samples[:number]))
    return torch.cat(z, 1), elbo


def _draws_of_all(fit: RowFit, draws: int) -> tuple[Tensor, Tensor]:
    """The same of a guide that only draws all rows at once."""
    x, z, elbo = fit.data.values, [], []
    for _ in range(draws):
        trace = poutine.trace(fit.guide).get_trace(x)
        z.append(trace.nodes["z"]["value"])
        elbo.append((fit.vae.log_joint(z[-1], x).double().sum() - trace.log_prob_sum().double()).cpu())
    return torch.stack(z[: _held(fit, draws)]), torch.stack(elbo)


def _held(fit: RowFit, draws: int) -> int:
    return max(1, min(draws, KEPT // (len(fit.data.values) * fit.vae.latent)))
