"""Fit: what any method gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property

import arviz as az
import numpy as np
import pandas as pd
import torch
import xarray as xr
from torch import Tensor

from ..errors import InputError
from ..models.structure import Model, model_name
from .batched import over_draws
from .data import Data, Tabular, as_new_data
from .density import Density
from .isolation import isolated, one_thread_if_small
from .relabel import component_features

__all__ = ["Fit"]


@dataclass(frozen=True, eq=False)
class Fit:
    """One approximation of one posterior, by whatever method.

    Attributes
    ----------
    name : what it is called in tables: the guide's name, nuts, em, cavi.
    estimator : TraceEnum_ELBO, NUTS, EM, ...
    model, data : what was fitted.
    idata : posterior, log_likelihood (discrete sites summed out), sample_stats, observed_data. A point estimate has
        one chain of one draw.
    losses : minus the ELBO of each step, nats: (steps,).
    elbo_draws : unbiased estimates of the ELBO at the end, one a draw, nats: (S,).
    log_weights : log p(x, theta) - log q(theta) with discrete sites summed out, nats: (S,).
    in_pivot : whether each weighted draw has the commonest labelling of the components: (S,).
    start_losses : the loss of each start when the best was chosen, nats: (starts,).
    params : the trained parameters.
    steps, seconds : work done, wall clock.
    message : why it stopped early, empty if it did not.
    compiled : what ran the density or the training steps: script (TorchScript), inductor, or eager and why; empty where
        nothing was to be compiled.
    """

    name: str
    estimator: str
    model: Model
    data: Data
    idata: az.InferenceData
    losses: np.ndarray = field(default_factory=lambda: np.zeros(0), repr=False)
    elbo_draws: np.ndarray = field(default_factory=lambda: np.zeros(0), repr=False)
    log_weights: np.ndarray = field(default_factory=lambda: np.zeros(0), repr=False)
    in_pivot: np.ndarray = field(default_factory=lambda: np.zeros(0), repr=False)
    start_losses: np.ndarray = field(default_factory=lambda: np.zeros(0), repr=False)
    params: dict[str, Tensor] = field(default_factory=dict, repr=False)
    steps: int = 0
    seconds: float = float("nan")
    message: str = ""
    compiled: str = ""

    def __repr__(self) -> str:
        sizes = self.posterior.sizes
        draws = f"{sizes['chain']} x {sizes['draw']} draws"
        return f"Fit({self.name!r}, {self.estimator}, {model_name(self.model)}, {draws}, {self.seconds:.1f} s)"

    @property
    def posterior(self) -> xr.Dataset:
        """The posterior draws, dims (chain, draw, ...)."""
        return self.idata["posterior"]

    @property
    def number(self) -> int:
        """How many draws there are, over all chains."""
        return int(self.posterior.sizes["chain"] * self.posterior.sizes["draw"])

    @property
    def is_point(self) -> bool:
        """Whether this is one point and no distribution."""
        return self.number == 1

    @property
    def is_mcmc(self) -> bool:
        """Whether the draws are those of Markov chains."""
        return "sample_stats" in self.idata.groups() and "diverging" in self.idata["sample_stats"]

    @cached_property
    def density(self) -> Density:
        """The log density of the model on the data that were fitted."""
        return Density(self.model, self.data.values, self.params)

    def draws(self) -> dict[str, np.ndarray]:
        """Posterior draws, chains end to end: name -> (S, ...)."""
        posterior = self.posterior
        return {
            str(name): posterior[name].values.reshape(-1, *posterior[name].shape[2:]) for name in posterior.data_vars
        }

    def sites(self) -> dict[str, Tensor]:
        """The draws of the model's own latent sites and params, as tensors like the data: name -> (S, ...)."""
        structure, draws = self.density.structure, self.draws()
        like = self.data.values
        names = [site.name for site in structure.of_kind("latent", "param") if site.name in draws]
        return {name: torch.as_tensor(draws[name], dtype=like.dtype, device=like.device) for name in names}

    def pivot(self) -> np.ndarray | None:
        """The mean of each component, what other fits are matched to: (K, F), or None without components."""
        features = component_features(self.draws(), self.dims())
        return None if features is None else features.mean(0)

    def dims(self) -> dict[str, tuple[str, ...]]:
        """The dims of each posterior variable, chain and draw left out."""
        posterior = self.posterior
        return {str(name): tuple(str(dim) for dim in posterior[name].dims[2:]) for name in posterior.data_vars}

    def log_predictive(self, x_new: Tabular | None = None) -> np.ndarray:
        """log p(x_n | x), the log posterior predictive density of each row, nats: (M,).

        x_new: None takes the data that were fitted.
        """
        density, number = self.density, self.number
        parts = self._each_chunk(
            x_new, lambda sites, x: density.log_likelihood(sites, x), lambda rows: rows.logsumexp(0)
        )
        return (torch.stack(parts).logsumexp(0) - np.log(number)).cpu().numpy()

    def responsibilities(self, x_new: Tabular | None = None) -> pd.DataFrame:
        """p(z_n = k | x), averaged over the posterior draws: a DataFrame (M, K).

        x_new: None takes the data that were fitted. Raises InputError where the model has no discrete site.
        """
        density = self.density
        parts = self._each_chunk(
            x_new, lambda sites, x: density.assignment_logits(sites, x), lambda logits: logits.softmax(-1).sum(0)
        )
        share = (torch.stack(parts).sum(0) / self.number).cpu().numpy()
        index = x_new.index if isinstance(x_new, pd.DataFrame | pd.Series) else None
        return pd.DataFrame(share, index=index, columns=pd.RangeIndex(share.shape[1], name="components"))

    def predict(self, x_new: Tabular | None = None) -> pd.Series:
        """The most probable component of each row: a Series (M,)."""
        return self.responsibilities(x_new).idxmax(axis=1).rename("component")

    def sample(self, n: int, seed: int = 0) -> pd.DataFrame:
        """n new rows from the posterior predictive distribution, each from a draw of its own: a DataFrame (n, D)."""
        if n < 1:
            raise InputError(f"n={n} must be 1 or more")
        with isolated(seed, self.data.values.dtype):
            picked = torch.randint(self.number, (n,)).to(self.data.values.device)
            draws = {name: value[picked] for name, value in self.sites().items()}
            rows = over_draws(self.density.new_row, draws, samples=True)
        return pd.DataFrame(rows.reshape(n, -1).cpu().numpy(), columns=list(self.data.columns))

    def _each_chunk(
        self,
        x_new: Tabular | None,
        fn: Callable[[dict[str, Tensor], Tensor], Tensor],
        reduce: Callable[[Tensor], Tensor],
    ) -> list[Tensor]:
        """reduce(fn over some draws), for all draws some at a time, so that memory stays bounded."""
        x = self.data.values if x_new is None else as_new_data(x_new, self.data)
        with one_thread_if_small(x), isolated(0, self.data.values.dtype):
            sites, size = self.sites(), self.density.chunk(len(x))
            starts = range(0, self.number, size)
            chunks = [{name: value[start : start + size] for name, value in sites.items()} for start in starts]
            return [reduce(over_draws(lambda draw: fn(draw, x), chunk)) for chunk in chunks]

    def with_idata(self, idata: az.InferenceData) -> Fit:
        """The same fit with other draws, after relabelling for example."""
        return replace(self, idata=idata)
