"""A fresh guide for a fit, from whatever names or makes one: told apart by type and signature, never by trying."""

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
from ..runtime.pyro_private import copied_guide

NETWORK_LR, BATCH = 1e-3, 128  # of networks, which see rows and not their numbers: step size, and rows a step


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
        copied = copied_guide(guide)
        if isinstance(copied, AutoGuide) and copied.create_plates is None:  # which would enter plates at full size
            copied.create_plates = Continuous(model).create_plates
        return copied
    if isinstance(guide, type) and issubclass(guide, AutoGuide):
        return auto(guide)(model)
    if not callable(guide):
        raise InputError(f"guide {guide!r} is a {type(guide).__name__}: give a name, a factory or a guide")
    if isinstance(guide, type) and not _takes_one(guide):
        raise InputError(f"guide {guide.__name__} is a class that is not made from a model: give one of it")
    made = guide(model) if isinstance(guide, type) or is_factory(guide) else guide
    if batch_size is not None and inspect.isfunction(made) and "batch_size" in inspect.signature(made).parameters:
        return with_batch_size(made, batch_size)
    return made


def local_kind(guide: str | GuideFactory | Guide, model: Model) -> tuple[bool, bool]:
    """Whether a guide has a q(z | x) a row, and whether by a network that rows share; none is made to tell.

    A guide of the first kind is trained at the rate of networks, one of the second in minibatches too.
    """
    made: Any = catalogue(model).get(guide) if isinstance(guide, str) else guide
    kind = getattr(made, "func", made)  # of a partial, the guide's class
    return hasattr(kind, "posterior"), bool(getattr(kind, "amortized", False))


def _takes_one(kind: type) -> bool:
    """Whether a class can be called with one argument."""
    try:
        inspect.signature(kind).bind(None)
    except (TypeError, ValueError):  # of a class written in C that does not say
        return False
    return True


def is_factory(guide: Callable[..., Any]) -> bool:
    """Whether a callable makes a guide from a model: all that it still requires is one parameter called `model`."""
    if isinstance(guide, functools.partial) and isinstance(guide.func, type):
        return True
    parameters = inspect.signature(guide).parameters.values()
    needed = [p.name for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    return needed == ["model"]
