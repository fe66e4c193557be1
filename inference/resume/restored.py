"""A Fit from what was saved of it, its guide made again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ...errors import InputError
from ...guides import catalogue
from ...models.structure import Model, exchangeable_dims
from ..data.data import Data
from ..density.batch_size import on_all_rows
from ..fit.fit import Fit
from ..fit.relabel import Labels
from ..fit.saved import FACTS
from ..local_latents.row_fit import RowFit
from ..runtime.arviz import InferenceData
from ..svi.guide_of import guide_of


def restored(
    facts: Mapping[str, Any], kept: Mapping[str, Any], idata: InferenceData, model: Model, data: Data, guide: Any
) -> Fit:
    """A Fit as it was. facts: of `fit.saved.facts_of`. kept: its tensors. guide: what made it; None where it has none.

    Raises InputError where it is of another model.
    """
    actions = exchangeable_dims(model)
    rest: dict[str, Any] = {name: facts[name] for name in FACTS}
    rest |= {name: value.numpy() for name, value in kept["arrays"].items()}
    rest["labels"] = tuple(Labels(dim, actions.get(dim, {})) for dim in facts["exchangeable"])
    rest |= {"params": kept["params"], "remarks": tuple(facts["remarks"]), "guide": guide}
    found = (RowFit if "test_losses" in rest else Fit)(model=model, data=data, idata=idata, **rest)
    known = {site.name for site in found.structure.sites}
    for name in found.posterior.data_vars:
        if name not in known:
            raise InputError(f"{found.name} is a fit of another model: it has a site {name!r}; give the one it is of")
    return found


def trained_model(model: Model, kept: Mapping[str, Any], data: Data) -> Model:
    """The model with the params that were trained with a guide, where it holds them itself."""
    if not hasattr(model, "restored"):
        return model
    with data.isolated(0):  # whose networks begin at random
        restored: Model = model.restored(kept["params"], *data.args)
    return restored


def guide_with(guide: Any, model: Model, data: Data, state: Mapping[str, Tensor]) -> Any:
    """A guide with the parameters that it had; None where it is a name that nobody knows."""
    if isinstance(guide, str) and guide not in catalogue(model):
        return None
    with data.isolated(0):
        made: Any = on_all_rows(guide_of(guide, model))
        if state:
            data.run(made)  # makes its networks
            made.load_state_dict(state)
    return made
