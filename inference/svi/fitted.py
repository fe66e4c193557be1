"""A training as a Fit: at its end, or as its checkpoint has it.

Rows in a file are scored by fewer draws, or, where each has latents of its own, by a sample of the rows.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyro
from torch import Tensor, nn

from ...errors import InputError, check_path
from ...guides import Guide
from ...models.structure import Structure
from ..data.as_data import DataLike, data_for
from ..data.data import Data
from ..density.batch_size import on_all_rows
from ..density.log_density import Density
from ..fit.approximation import approximation
from ..fit.fit import Fit
from ..fit.idata import fit_of
from ..local_latents.row_fit import RowFit, row_fit
from ..runtime.pyro_private import copied_guide
from ..steps.guide_of import guide_of
from ..steps.pairing import Pairing, pair
from ..steps.plan import Plan
from .checkpoint import known_by, read
from .training import Start

ROW_DRAWS = 1_000_000_000  # log likelihoods of a row of a file that scoring takes
FEWEST = 10  # draws


def fit_of_all(plan: Plan, start: Start, draws: int, **rest: Any) -> Fit:
    """What a start has come to where rows share a latent, weighed on all of them; to be called at work.

    draws: of the guide. rest: further fields of Fit.
    """
    how, trained = start.record() | rest, start.pairing.on_all_rows()
    density = Density(trained.model, plan.data, how["params"])
    found = approximation(trained, density, _draws_of(plan, draws))
    sites = {name: value.unsqueeze(0) for name, value in found.sites.items()}
    how |= {"elbo_draws": found.elbo_draws, "log_weights": found.log_weights, "guide": _as_trained(trained.guide)}
    return _with_remark(fit_of(plan.name, trained.estimator, density, sites, **how), plan, start)


def fit_by_row(plan: Plan, start: Start, draws: int, **rest: Any) -> RowFit:
    """What a start has come to where rows share no continuous latent; to be called at work.

    draws: of the ELBO, and of z. rest: further fields of Fit.
    """
    trained = copy.deepcopy(start.pairing).on_all_rows()  # as trained: the start puts its own back
    return _with_remark(row_fit(plan.name, trained, plan.data, draws, **start.record(), **rest), plan, start)


def _draws_of(plan: Plan, draws: int) -> int:
    """How many draws can be weighed on all rows of a file; as many as are asked for of what is in memory."""
    return draws if plan.data.mapped is None else min(draws, max(FEWEST, ROW_DRAWS // (plan.data.rows or 1)))


def _with_remark(fit: Any, plan: Plan, start: Start) -> Any:
    """The fit, with what a reader must know where rows lie in a file."""
    data, rows = plan.data, plan.structure.rows
    if data.mapped is None:
        return fit
    size = next((plate.size for plate in start.schedule.plates if rows and plate.name == rows.name), data.rows)
    whole = f"{fit.number} draws weighed on all of them"
    part = f"scored on {fit.data.rows} of them, evenly spaced, which are the rows of this fit"
    said = f"steps of {size} rows at random of {data.rows} in a file, {part if fit.data.mapped is None else whole}"
    return replace(fit, remarks=(*fit.remarks, said))


def _as_trained(guide: Guide) -> Guide | None:
    """A copy of a guide; None of a flow, which holds on to its last draw and so cannot be copied."""
    try:
        return copied_guide(guide)
    except RuntimeError:
        return None


def trained(folder: str | Path, model: Any, x: DataLike, guide: Any = None, draws: int = 50) -> RowFit:
    """The fit that a training left in its folder, its model frozen; nothing is trained again.

    model: as it was given to `train`. x: the rows it was trained on. guide: what made it, where it is none of the
    catalogue's names. Raises InputError where the checkpoint is none, or of another model or architecture.
    """
    folder = check_path(folder)
    data, structure, kept = _left_in(folder, model, x)
    name, values = kept["owner"]["guide"], kept.get("best") or kept["values"]
    with data.isolated(0), data.some_rows():
        try:
            restored = model.restored(values, data.values).frozen()
            pairing = pair(restored, guide_of(guide or name, restored), name, data, structure, "auto")
            _restore(pairing, values, kept["buffers"])
        except (RuntimeError, KeyError) as error:
            what = f"the checkpoint in {folder} does not fit rows of shape {tuple(data.values.shape[1:])}"
            raise InputError(f"{what}: {_first(error)}") from error
        how = {"losses": np.array(kept["losses"]), "steps": len(kept["losses"]), "params": values}
        found = row_fit(name, pairing, data, draws, **how)
    return replace(found, test_losses=np.array(kept["test_losses"]))


def _left_in(folder: Path, model: Any, x: DataLike) -> tuple[Data, Structure, dict[str, Any]]:
    """The rows that a training was of, what the model is on these, and what it left in its folder."""
    try:
        data, structure = data_for(on_all_rows(model), x, by_rows=True)  # tells a model of strings its alphabet, too
    except InputError:
        read(folder, {"model": known_by(model)})  # another model than was trained is the better reason
        raise
    return data, structure, read(folder, {"model": known_by(model)})


def _restore(pairing: Pairing, values: dict[str, Tensor], buffers: dict[str, Tensor]) -> None:
    """Put the parameters in Pyro's store, and a guide's buffers, where they were when they were kept."""
    for name, value in pyro.get_param_store().get_state()["params"].items():
        if values[name].shape != value.shape:  # which copying might stretch
            raise RuntimeError(f"{name} is {tuple(values[name].shape)}, and {tuple(value.shape)} here")
        value.data.copy_(values[name])
    if isinstance(pairing.guide, nn.Module):
        pairing.guide.load_state_dict(buffers, strict=False)


def _first(error: Exception) -> str:
    """The first fault of those that torch names when tensors are loaded into a network."""
    lines = [line.strip() for line in str(error).splitlines()]
    return lines[min(1, len(lines) - 1)]
