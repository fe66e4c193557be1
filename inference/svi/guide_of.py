"""A fresh guide for a fit, from whatever names or makes one: told apart by type and signature, never by trying."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch
from pyro.infer.autoguide import AutoGuide

from ...errors import InputError
from ...guides import Guide, GuideFactory, auto, catalogue
from ...guides.auto import Continuous
from ...models.structure import Model, model_name
from ..density.batch_size import with_batch_size

__all__ = ["copied_guide", "guide_of", "is_factory"]


def guide_of(guide: str | GuideFactory | Guide, model: Model, batch_size: int | None = None) -> Guide:
    """A guide that no other fit trains.

    guide: a name in the model's catalogue; a class, made from the model; a factory, which is a callable whose one
    required parameter is called `model`; a module, an AutoGuide instance, AutoGuideList or EasyGuide among them, of
    which a copy is taken; or the guide itself, a callable of the model's own arguments.
    """
    if isinstance(guide, str):
        known = catalogue(model)
        if guide not in known:
            raise InputError(f"model {model_name(model)} has no guide {guide!r}: choose one of {', '.join(known)}")
        return known[guide](model)
    if isinstance(guide, torch.nn.Module):
        return _own_plates(copied_guide(guide), model)
    if isinstance(guide, type) and issubclass(guide, AutoGuide):
        return auto(guide)(model)
    if not callable(guide):
        raise InputError(f"guide {guide!r} is a {type(guide).__name__}: give a name, a factory or a guide")
    made = guide(model) if isinstance(guide, type) or is_factory(guide) else guide
    if batch_size is not None and inspect.isfunction(made) and "batch_size" in inspect.signature(made).parameters:
        return with_batch_size(made, batch_size)
    return made


def is_factory(guide: Callable[..., Any]) -> bool:
    """Whether a callable makes a guide from a model: all that it still requires is one parameter called `model`."""
    if isinstance(guide, functools.partial) and isinstance(guide.func, type):
        return True
    required = [p for p in inspect.signature(guide).parameters.values() if p.default is p.empty and _is_named(p)]
    return [parameter.name for parameter in required] == ["model"]


def _is_named(parameter: inspect.Parameter) -> bool:
    return parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)


def copied_guide(guide: Any) -> Any:
    """A copy of a guide; copying takes Pyro's own their models, the original's too, which both are given back."""
    modules: list[Any] = list(guide.modules()) if isinstance(guide, torch.nn.Module) else []
    kept = [{name: vars(module)[name] for name in ("_model", "master") if name in vars(module)} for module in modules]
    copied = copy.deepcopy(guide)
    for old, new, state in zip(modules, copied.modules() if modules else [], kept, strict=True):
        vars(old).update(state)
        vars(new).update({name: value for name, value in state.items() if name == "_model"})
    return copied


def _own_plates(guide: Any, model: Model) -> Guide:
    """An AutoGuide that enters the model's own plates, where it would enter them at full size."""
    if isinstance(guide, AutoGuide) and guide.create_plates is None:
        guide.create_plates = Continuous(model).create_plates
    return guide
