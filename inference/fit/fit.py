"""Fit: what any method gives back."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from torch import Tensor

from ...errors import InputError
from ...models.structure import Model, Structure, model_name
from ..data.as_data import DataLike
from ..data.data import Data
from ..data.new_data import as_new_data
from ..density.log_density import Density
from ..runtime.arviz import InferenceData, group_of
from ..runtime.folder import write_all
from .display.figure import figure
from .display.html import fit_html
from .predictive import RowPredictive, decoded, from_prior, new_rows, occupied, of_rows, replicated, responsibilities
from .relabel import Labels, component_features
from .saved import files_of

NONE = np.zeros(0)
OPTIMA_APART = 5.0  # nats between the ends of the best and the worst start that tell of several optima


@dataclass(frozen=True, eq=False)
class Fit:
    """One approximation of one posterior, by whatever method.

    Attributes
    ----------
    name : what it is called in tables: the guide's name, nuts, em, cavi.
    estimator : TraceEnum_ELBO, NUTS, EM, ...
    model, data : what was fitted.
    idata : posterior, log_likelihood (of each observed site, discrete sites summed out), sample_stats, observed_data;
        with ArviZ 1 a DataTree, else InferenceData. A point estimate has one chain of one draw.
    losses : minus the ELBO of each step, nats: (steps,).
    elbo_draws : unbiased estimates of the ELBO at the end, one a draw, nats: (S,).
    log_weights : log p(x, theta) - log q(theta) with discrete sites summed out, nats: (S,).
    in_pivot : whether each weighted draw has the commonest labelling of the exchangeable dims: (S,).
    labels : the dims that were seen to be exchangeable, put in one order.
    start_losses : the loss of each start at its end, nats: (starts,).
    params : the trained parameters. guide : the trained guide, where there is one.
    steps, seconds : work done, wall clock.
    converged, why : whether training or chains came to their end, and the figure that says so; None where nobody asked.
    message : why it stopped early, empty if it did not. remarks : what else a reader must know.
    compiled : what ran the density or the training steps: native (C), script (TorchScript), inductor, or eager and why;
        empty where nothing was to be compiled.

    Examples
    --------
    >>> import pyrometer
    >>> from pyrometer.models import BayesianGMM
    >>> fit = pyrometer.cavi(BayesianGMM(components=2), "faithful", progress=False)
    >>> fit.estimator, fit.number
    ('CAVI', 1000)
    >>> fit.predict().value_counts().to_list()  # rows in each component
    [175, 97]
    """

    name: str
    estimator: str
    model: Model
    data: Data
    idata: InferenceData
    losses: np.ndarray = field(default_factory=lambda: NONE, repr=False)
    elbo_draws: np.ndarray = field(default_factory=lambda: NONE, repr=False)
    log_weights: np.ndarray = field(default_factory=lambda: NONE, repr=False)
    in_pivot: np.ndarray = field(default_factory=lambda: NONE, repr=False)
    labels: tuple[Labels, ...] = ()
    start_losses: np.ndarray = field(default_factory=lambda: NONE, repr=False)
    params: dict[str, Tensor] = field(default_factory=dict, repr=False)
    guide: Any = field(default=None, repr=False)
    steps: int = 0
    seconds: float = float("nan")
    converged: bool | None = None
    why: str = ""
    message: str = ""
    remarks: tuple[str, ...] = ()
    compiled: str = ""

    def __repr__(self) -> str:
        sizes = self.posterior.sizes
        draws = f"{sizes['chain']} x {sizes['draw']} draws"
        parts = [repr(self.name), self.estimator, model_name(self.model), draws, f"{self.seconds:.1f} s"]
        found = figure(self)
        said = f"not converged: {found.text}" if self.converged is False else found.text
        return f"Fit({', '.join(filter(None, [*parts, said]))})"

    def _repr_html_(self) -> str:
        return fit_html(self)

    @property
    def posterior(self) -> xr.Dataset:
        """The posterior draws, dims (chain, draw, ...)."""
        return group_of(self.idata, "posterior")

    @property
    def number(self) -> int:
        """How many draws there are, over all chains."""
        sizes = self.posterior.sizes
        return int(sizes["chain"] * sizes["draw"])

    @property
    def number_of_rows(self) -> int:
        """How many rows the data have; 1 where the model has no plate of rows."""
        return self.data.rows or 1

    @property
    def is_point(self) -> bool:
        """Whether this is one point and no distribution."""
        return self.number == 1

    @property
    def is_mcmc(self) -> bool:
        """Whether the draws are those of Markov chains."""
        return "diverging" in self.idata.get("sample_stats", ())

    @property
    def exchangeable(self) -> tuple[str, ...]:
        """The dims whose labels were put in one order."""
        return tuple(labels.dim for labels in self.labels)

    @property
    def optima(self) -> np.ndarray:
        """The losses at which starts ended, nats, where they are so far apart as in several optima; else none."""
        ended = self.start_losses[np.isfinite(self.start_losses)]
        return ended if len(ended) > 1 and np.ptp(ended) > OPTIMA_APART else NONE

    @cached_property
    def density(self) -> Density:
        """The log density of the model on the data that were fitted."""
        return Density(self.model, self.data, self.params)

    @property
    def structure(self) -> Structure:
        """The sites of the model on these data."""
        return self.density.structure

    @property
    def linear_response(self) -> dict[str, np.ndarray]:
        """Posterior standard deviations by linear response, where the method finds them (`dadvi`): name -> (...)."""
        return self._of_response("sd")

    @property
    def mean_errors(self) -> dict[str, np.ndarray]:
        """The Monte Carlo error of each posterior mean that is left by a method's fixed draws: name -> (...)."""
        return self._of_response("mean_error")

    def _of_response(self, moment: str) -> dict[str, np.ndarray]:
        found: Mapping[Any, Any] = self.idata.get("linear_response", {})
        return {str(name): each.sel(moment=moment).values for name, each in found.items()}

    def draws(self) -> dict[str, np.ndarray]:
        """Posterior draws, chains end to end: name -> (S, ...)."""
        return {str(name): draws.values.reshape(-1, *draws.shape[2:]) for name, draws in self.posterior.items()}

    def sites(self) -> dict[str, Tensor]:
        """The draws of the model's own latent sites and params, as tensors like the data: name -> (S, ...)."""
        draws, like = self.draws(), self.data.like
        names = [site.name for site in self.structure.of_kind("latent", "param") if site.name in draws]
        return {name: torch.as_tensor(draws[name], dtype=like.dtype, device=like.device) for name in names}

    def dims(self) -> dict[str, tuple[str, ...]]:
        """The dims of each posterior variable, chain and draw left out."""
        return {str(name): tuple(str(dim) for dim in draws.dims[2:]) for name, draws in self.posterior.items()}

    def pivot(self) -> Mapping[str, np.ndarray]:
        """The mean of each label, what other fits are matched to: exchangeable dim -> (K, F)."""
        return {each.dim: component_features(self.draws(), self.dims(), each.dim).mean(0) for each in self.labels}

    def new_data(self, x_new: DataLike | None) -> Data:
        """Rows brought to the shape of those that were fitted, which are taken where x_new is None."""
        return self.data if x_new is None else as_new_data(x_new, self.data, self.model)

    def log_predictive(self, x_new: DataLike | None = None) -> np.ndarray:
        """log p(y_n | x), the log posterior predictive density of each row, nats: (M,).

        x_new: None takes the data that were fitted. New rows of a model with continuous latents a row have these
        integrated; `predictive_of_rows` says how, and how well.
        """
        return self.predictive_of_rows(x_new).log_density

    def predictive_of_rows(self, x_new: DataLike | None = None) -> RowPredictive:
        """log p(y_n | x) of each row, Pareto k-hat of each row's weights, and how its latents were integrated."""
        return of_rows(self, None if x_new is None else self.new_data(x_new))

    def responsibilities(self, x_new: DataLike | None = None) -> pd.DataFrame:
        """p(z_n = k | x), averaged over the posterior draws: a DataFrame (M, K).

        x_new: None takes the data that were fitted. Raises InputError where no discrete site has one value a row.
        """
        index = x_new.index if isinstance(x_new, pd.DataFrame | pd.Series) else None
        return responsibilities(self, self.new_data(x_new), index)

    def occupied(self, seed: int = 0) -> pd.Series:
        """p(k components hold a row | x), the posterior of how many are occupied: a Series by k.

        The labels of all rows are drawn once for each posterior draw, so that it has their Monte Carlo error. Raises
        InputError where no discrete site has one value a row.
        """
        return occupied(self, seed)

    def predict(self, x_new: DataLike | None = None) -> pd.Series | pd.DataFrame:
        """The discrete sites: where one has a value a row, the most probable of each, a Series (M,) called component.

        Other discrete sites, a Markov chain's states for example, are decoded jointly: the most probable assignment of
        all of them at the draw of the highest density, a Series by site, or a DataFrame (rows, sites) under a plate.
        """
        if len(self.structure.discrete) == len(self.structure.labels) == 1:
            return self.responsibilities(x_new).idxmax(axis=1).rename("component")
        return decoded(self, self.new_data(x_new))

    def as_given(self, rows: np.ndarray) -> Any:
        """Rows as those who gave the data know them: text of a model of strings, of any other the rows themselves."""
        return self.model.as_given(rows) if hasattr(self.model, "as_given") else rows

    def sample(self, n: int, seed: int = 0) -> Any:
        """n new rows from the posterior predictive distribution, each from a draw of its own: a DataFrame (n, D).

        Of a model of strings, a list of them. Where the model has covariates, those of rows of the data, drawn at
        random; the index says of which.
        """
        if not isinstance(n, int) or n < 1:
            raise InputError(f"n={n} must be 1 or more")
        found = new_rows(self, n, seed)
        return self.as_given(found.to_numpy()) if hasattr(self.model, "as_given") else found

    def posterior_predictive(self, x_new: DataLike | None = None, seed: int = 0) -> InferenceData:
        """Observations drawn anew at each posterior draw, groups posterior_predictive and observed_data for ArviZ.

        x_new: as `log_predictive` has it; what is observed may be None or left out.
        """
        return replicated(self, None if x_new is None else self.new_data(x_new), seed)

    def save(self, folder: str | Path) -> list[Path]:
        """Write the fit into a folder, for `pyrometer.load`; the model is code, and is given again there."""
        return write_all(folder, files_of(self))

    def prior_predictive(self, draws: int = 500, seed: int = 0) -> InferenceData:
        """Draws from the prior and observations drawn from them: groups prior, prior_predictive and observed_data."""
        return from_prior(self, draws, seed)
