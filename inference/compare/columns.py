"""The columns of the table, one list a kind of model: the table, its text and the README's table of columns follow it.

Beside them the distances that do not depend on how components are labelled, which show a relabelling that failed.

NaN means "does not apply" and nothing else; what could not be computed is NaN too, and named in a note.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from ...display import table as display
from ...errors import first_line
from ..compilation.batched import over_draws
from ..compilation.graph import changed
from ..data.data import SHOWN_ROWS, Data
from ..evidence.log_evidence import Evidence, log_evidence
from ..fit.convergence import convergence, unconverged
from ..fit.fit import Fit
from ..fit.predictive import RowPredictive
from ..local_latents.row_fit import RowFit
from ..local_latents.target import tells_new, tells_q
from ..mapped.blocks import evenly_spaced
from ..runtime.interrupts import asked_to_end
from ..runtime.isolation import one_thread_if_small
from .verdict import Verdict, parameters_of, standard_of, verdict_by_row, verdict_on

NAN = float("nan")
ROWS, DRAWS = 300, 200  # at most so many, evenly spaced, for co-clustering: it needs no more
WEIGHTS = 200  # of importance sampling, a held-out row with latents of its own


@dataclass(frozen=True)
class Scored:
    """A fit and what it is measured against; what several columns need is computed once.

    reference: already relabelled alike; None leaves bias and sd_ratio NaN. test: held-out rows. gaps: of a model with
    latents a row only; see `inference.local_latents.gaps.summarised`. first: the fit that label-invariant distances
    are from; None where it is this one. var_names: the variables that count; None for all.
    """

    fit: Fit
    reference: Fit | None = None
    test: Data | None = None
    gaps: Mapping[str, Any] = field(default_factory=dict)
    first: "Scored | None" = None
    var_names: tuple[str, ...] | None = None

    @cached_property
    def elbo(self) -> tuple[float, float]:
        """The ELBO and its Monte Carlo standard error, nats; of one draw nobody knows that."""
        draws = self.fit.elbo_draws
        error = float(draws.std() / math.sqrt(len(draws))) if len(draws) > 1 else NAN
        return (float(draws.mean()), error) if len(draws) else (NAN, NAN)

    @cached_property
    def evidence(self) -> Evidence:
        """log p(x), nats, its standard error and k-hat."""
        return log_evidence(self.fit)

    @cached_property
    def predictive(self) -> RowPredictive | None:
        """Of the held-out rows."""
        return None if self.test is None or self.fit.structure.rows is None else self.fit.predictive_of_rows(self.test)

    def remarks(self) -> list[str]:
        """Where the evidence is not what it might be; how the latents of held-out rows were integrated."""
        return [*self._of_evidence(), *self._of_predictive()]

    def _of_evidence(self) -> list[str]:
        found = self.__dict__.get("evidence")
        if found is None or not found.remark:
            return []
        return [f"{self.fit.name}: {found.remark}"]

    def _of_predictive(self) -> list[str]:
        found = self.__dict__.get("predictive")
        if found is None or not found.how:
            return []
        what = f"lpd_test integrates each new row's latents by importance sampling from {found.how}"
        up_to = "" if np.isnan(found.khat).all() else f", k-hat up to {np.nanmax(found.khat):.2f}"
        return [f"{self.fit.name}: {what}{up_to}"]

    @cached_property
    def lpd(self) -> tuple[float, float]:
        """Sum over the held-out rows of log p(y_n | x), and its standard error over rows, as `az.loo` has them.

        One row has no standard error.
        """
        if self.predictive is None:
            return NAN, NAN
        rows = self.predictive.log_density
        return float(rows.sum()), float(math.sqrt(len(rows)) * rows.std()) if len(rows) > 1 else NAN

    @cached_property
    def parameters(self) -> pd.DataFrame:
        """A row a scalar, held to the reference where there is one; see `verdict.parameters_of`."""
        reference, standard = self.reference, None
        if reference is not None and reference is not self.fit and not reference.is_point:
            standard = standard_of(self.fit, reference, self.var_names)
        return parameters_of(self.fit, standard, self.var_names)

    def farthest(self, column: str, which: str = "max") -> float:
        """The largest, or smallest, entry of a column of `parameters`; NaN where there is nothing to hold it to."""
        known = self.parameters[column].dropna()
        return NAN if known.empty else float(getattr(known, which)())

    @property
    def worst(self) -> Any:
        """The scalar whose mean is farthest off."""
        known = self.parameters["bias"].dropna()
        return NAN if known.empty else str(known.idxmax())

    @cached_property
    def verdict(self) -> Verdict | None:
        """What may be believed of the fit; None where that cannot be said."""
        if isinstance(self.fit, RowFit):
            names = ("bias", "sd_ratio", "approximation_gap", "amortisation_gap")
            return verdict_by_row(self.fit, *(self.gap(name) for name in names))
        settled = self.reference is None or bool(unconverged(self.reference)) or self.reference.is_point
        return verdict_on(self.fit, None if settled else self.reference, self.var_names)

    @cached_property
    def chains(self) -> dict[str, float]:
        """Of Markov chains."""
        return convergence(self.fit)

    @cached_property
    def bounds(self) -> pd.DataFrame:
        """The ELBO and importance sampling of the held-out rows, nats a row; empty where the guide tells of none."""
        fit = self.fit
        if self.test is None or not isinstance(fit, RowFit) or not tells_new(fit.guide):
            return pd.DataFrame()
        return fit.marginal_likelihood(self.test, ("elbo", "importance"), draws=WEIGHTS)

    def bound(self, column: str, method: str = "importance") -> float:
        """One entry of `bounds`."""
        return float(self.bounds.loc[method, column]) if len(self.bounds) else NAN

    def gap(self, column: str) -> float:
        """One entry of `gaps`."""
        return float(self.gaps.get(column, NAN))

    @property
    def active(self) -> float:
        """How many latent units tell rows apart."""
        fit = self.fit
        return float(fit.active_units().sum()) if isinstance(fit, RowFit) and tells_q(fit.guide) else NAN

    @cached_property
    def log_predictive(self) -> np.ndarray:
        """log p(x_n | x) of the fitted rows, of a file some of them, nats: (N,)."""
        data = self.fit.data
        return self.fit.log_predictive(None if data.mapped is None else data.sampled(SHOWN_ROWS))

    @cached_property
    def co_clustering(self) -> np.ndarray:
        """p(z_i = z_j | x) for pairs of rows: (M, M), M at most 300; NaN where no site labels rows."""
        fit = self.fit
        if not fit.structure.labels or fit.structure.local:
            return np.array(NAN)
        data = fit.data.take(evenly_spaced(fit.data.rows or 0, ROWS))

        with one_thread_if_small(data.numel), data.isolated(0):
            sites = {name: value[evenly_spaced(fit.number, DRAWS)] for name, value in fit.sites().items()}
            together = changed(fit.density.on(data).of_data("assignment_logits"), _together)
            return over_draws(together, sites, fit.density.chunk(ROWS)).mean(0).cpu().numpy()

    def distance(self, figure: str) -> float:
        """The mean absolute difference of a figure, `log_predictive` for example, from that of the first fit."""
        return float(np.abs(getattr(self, figure) - getattr(self.first or self, figure)).mean())


def _together(logits: Callable[[dict[str, Tensor]], Tensor]) -> Callable[[dict[str, Tensor]], Tensor]:
    """p(z_i = z_j | x, theta) of each pair of rows, (M, M), given logits (M, K) at theta."""

    def of(sites: dict[str, Tensor]) -> Tensor:
        share = logits(sites).softmax(-1)
        return share @ share.mT

    return of


@dataclass(frozen=True)
class Column:
    """name. decimals: in text. says: one line. compute: its value, a number or text."""

    name: str
    decimals: int
    says: str
    compute: Callable[[Scored], Any]


ESTIMATOR = Column("estimator", 0, "what was minimised, or which sampler ran", lambda s: s.fit.estimator)
WORK = (
    Column("steps", 0, "steps of training, or of each chain", lambda s: s.fit.steps),
    Column("seconds", 1, "wall clock, scoring included", lambda s: s.fit.seconds),
)
VERDICT = Column(
    "verdict", 0, "what may be believed; the notes say why", lambda s: s.verdict.word if s.verdict else NAN
)
COLUMNS = (
    VERDICT,
    ESTIMATOR,
    Column("elbo", 2, "the guide's evidence lower bound at the end, nats", lambda s: s.elbo[0]),
    Column("elbo_se", 2, "its Monte Carlo standard error", lambda s: s.elbo[1]),
    Column("log_evidence", 2, "log p(x), nats: a guide's weights, or bridge sampling", lambda s: s.evidence.value),
    Column("log_evidence_se", 2, "its Monte Carlo standard error", lambda s: s.evidence.se),
    Column("khat", 2, "Pareto k of its weights, discrete sites summed out: good below 0.7", lambda s: s.evidence.khat),
    Column("lpd_test", 2, "log predictive density of the held-out rows, summed, nats", lambda s: s.lpd[0]),
    Column("lpd_test_se", 2, "its standard error over rows", lambda s: s.lpd[1]),
    Column("bias", 2, "the worst distance of a mean from the reference's, in its sd", lambda s: s.farthest("bias")),
    Column("worst", 0, "the scalar of that mean", lambda s: s.worst),
    Column("mc_error", 2, "the largest Monte Carlo error of such a distance", lambda s: s.farthest("bias_se")),
    Column(
        "sd_ratio",
        2,
        "the smallest sd over the reference's: below 1 it is overconfident",
        lambda s: s.farthest("sd_ratio", "min"),
    ),
    Column("sd_ratio_max", 2, "the largest", lambda s: s.farthest("sd_ratio")),
    Column("rhat", 3, "the worst R-hat of Markov chains", lambda s: s.chains["rhat"]),
    Column("ess_bulk", 0, "their least bulk effective sample size", lambda s: s.chains["ess_bulk"]),
    Column("divergences", 0, "their divergences", lambda s: s.chains["divergences"]),
    *WORK,
)
ROW_COLUMNS = (
    VERDICT,
    ESTIMATOR,
    Column("elbo", 2, "the bound on the training rows", lambda s: s.elbo[0] / s.fit.number_of_rows),
    Column("elbo_se", 2, "its Monte Carlo standard error", lambda s: s.elbo[1] / s.fit.number_of_rows),
    Column("elbo_test", 2, "the bound on the held-out rows", lambda s: s.bound("nats", "elbo")),
    Column("log_p_test", 2, "their log p(x) by importance sampling from the guide", lambda s: s.bound("nats")),
    Column("log_p_test_se", 3, "its Monte Carlo standard error", lambda s: s.bound("se")),
    Column("khat", 2, "Pareto k of its weights, a mean over rows", lambda s: s.bound("khat")),
    Column("gap", 3, "log p(x) by annealed importance sampling less the ELBO, chosen rows", lambda s: s.gap("gap")),
    Column("gap_se", 3, "its Monte Carlo standard error", lambda s: s.gap("gap_se")),
    Column("approximation_gap", 3, "what the best of its family still lacks", lambda s: s.gap("approximation_gap")),
    Column("amortisation_gap", 3, "what its own q(z \\| x) lacks of that", lambda s: s.gap("amortisation_gap")),
    Column("bias", 2, "against NUTS over z: the median row's worst mean, in sd", lambda s: s.gap("bias")),
    Column("sd_ratio", 2, "the median row's smallest sd over NUTS's", lambda s: s.gap("sd_ratio")),
    Column("active", 0, "latent units that tell rows apart", lambda s: s.active),
    *WORK,
)
AT_HAND = ("estimator", "elbo", "elbo_se", *(column.name for column in WORK))  # whatever the haste
INVARIANTS = (
    Column("lpd_gap", 3, "mean |log p(x_n | x) - the reference's|", lambda s: s.distance("log_predictive")),
    Column("co_clustering_gap", 3, "mean |p(z_i = z_j | x) - the reference's|", lambda s: s.distance("co_clustering")),
)


def scores(scored: Scored, columns: Iterable[Column]) -> tuple[dict[str, Any], list[str]]:
    """A row of the table, name -> value; and a note for each column that could not be computed.

    Who is interrupted, or was before, computes no more of a row than what takes no time.
    """
    row: dict[str, Any] = dict.fromkeys([column.name for column in columns], NAN)
    failed: dict[str, list[str]] = {}
    stopped = ""
    for column in columns:
        if column.name not in AT_HAND and (stopped := stopped or asked_to_end()):
            continue
        try:
            row[column.name] = column.compute(scored)
        except KeyboardInterrupt:
            stopped = asked_to_end() or "interrupted"
        except Exception as error:  # a column that fails costs its own cell and nothing else
            failed.setdefault(first_line(error), []).append(column.name)
    notes = [f"{stopped} before it was scored"] if stopped else []
    notes += [f"no {', '.join(names)} ({why})" for why, names in failed.items()]
    return row, [f"{scored.fit.name}: {note}" for note in notes]


def table_of(fits: Iterable[Scored], columns: Iterable[Column]) -> tuple[pd.DataFrame, list[str]]:
    """A row a fit, and the notes of all."""
    scored = {each.fit.name: scores(each, columns) for each in fits}
    table = pd.DataFrame.from_dict({name: row for name, (row, _) in scored.items()}, orient="index")
    return table.infer_objects(), [note for _, notes in scored.values() for note in notes]


DECIMALS = {column.name: column.decimals for column in (*ROW_COLUMNS, *COLUMNS)}
DECIMALS |= {"nats": 3, "se": 3, "log_bias": 3, "ess": 0, "draws": 0, "log_weight_sd": 2}  # of the marginal likelihood
DECIMALS |= {"bic": 1, "aic": 1, "probability": 3, "log_evidence_se": 2}  # of numbers of components


def as_text(table: pd.DataFrame) -> str:
    """The table with each column at its own precision, and a dash where it does not apply."""
    return display.as_text(display.table_of(table, DECIMALS))
