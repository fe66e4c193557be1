"""What a fit is known by: everything that its numbers follow from, in words that another process finds too."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from types import CodeType, FunctionType, MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..data.data import Data
from ..mapped.references import reference_to
from ..mapped.tensor import Mapped

ASIDE = ("name", "progress")  # options that change no number
PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, torch.Size)
PACKAGES = {"pyrometer", "pyro", "torch", "numpy", "functools", "builtins"}  # known by their versions
DEEP = 8  # things within things
DIGITS = 16  # of a digest


def known_of(job: Any, model: Any, data: Data) -> dict[str, str]:
    """What the Fit of a job is known by: model, data, method, and each option by its name.

    job: a function of the model, its options bound, the data among them. model: and whatever else it came from.
    """
    options = {name: value for name, value in job.keywords.items() if name not in ASIDE and value is not data}
    given = {"model": said(model), "data": digest_of(data), "method": said(job.func)}
    return {**given, **{name: said(value) for name, value in sorted(options.items())}}


def digest_of(data: Data) -> str:
    """That of every argument, of what they are called, and of their categories."""
    plain = (data.args, sorted(data.kwargs.items()), data.rows, data.columns, data.names, data.floating, data.mixed)
    return _digest(said((*plain, sorted(data.tables.items()), sorted(data.coords.items()))))


def said(value: Any, deep: int = 0) -> str:
    """A value in words: what is equal has the same, in whatever process, and what is not has others."""
    if isinstance(value, PLAIN):
        return repr(value)
    if isinstance(value, Mapped):
        return f"{value.dtype}{list(value.shape)} {reference_to(value)['digest']}"
    if isinstance(value, Tensor | np.ndarray | np.generic):
        return _array(value)
    if deep > DEEP:
        return type(value).__qualname__
    inner = partial(said, deep=deep + 1)
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{inner(key)}: {inner(each)}' for key, each in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(inner, value))}]"
    if isinstance(value, set | frozenset):
        return f"{{{', '.join(sorted(map(inner, value)))}}}"
    if isinstance(value, partial):
        return f"{inner(value.func)}({inner(value.args)}, {inner(value.keywords)})"
    if isinstance(value, MethodType):
        return f"{inner(value.__self__)}.{inner(value.__func__)}"
    if isinstance(value, FunctionType):
        return _function(value, deep)
    if isinstance(value, type):
        return _class(value, deep)
    return f"{inner(type(value))}({_held(value, deep)})"


def _held(value: Any, deep: int) -> str:
    """What an object holds: its fields, its tensors, or whatever attributes it has."""
    inner = partial(said, deep=deep + 1)
    if is_dataclass(value):
        held = {each.name: getattr(value, each.name, None) for each in fields(value) if each.repr}
    elif isinstance(value, nn.Module):
        held = {**value.state_dict()}
    else:
        held = getattr(value, "__dict__", {})
    return ", ".join(f"{name}={inner(each)}" for name, each in sorted(held.items()))


def _array(value: Any) -> str:
    """An array by its dtype, shape and content."""
    array = value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
    plain = None if array.dtype.hasobject else np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
    content = repr(array.tolist()).encode() if plain is None else plain
    return f"{array.dtype}{list(array.shape)} {_digest(content)}"


def _function(fn: FunctionType, deep: int) -> str:
    """A function by its name; one of a user's by its code too, what it closes over, and what it names of its module."""
    name = f"{fn.__module__}.{fn.__qualname__}"
    if fn.__module__.partition(".")[0] in PACKAGES:
        return name
    inner = partial(said, deep=deep + 1)
    closed = [cell.cell_contents for cell in fn.__closure__ or () if _is_filled(cell)]
    named = {each: fn.__globals__[each] for each in sorted(_names(fn.__code__)) if each in fn.__globals__}
    own = {each: value for each, value in named.items() if _is_own(value, fn)}
    parts = [_code(fn.__code__), inner(fn.__defaults__), inner(fn.__kwdefaults__), *map(inner, closed), inner(own)]
    return f"{name} {_digest(' '.join(parts))}"


def _is_own(value: Any, fn: FunctionType) -> bool:
    """Whether it is a constant, or a function of the same module."""
    if isinstance(value, FunctionType):
        return value.__module__ == fn.__module__ and value is not fn
    return isinstance(value, (*PLAIN, Tensor, np.ndarray, list, tuple, dict, set, frozenset))


def _is_filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:  # a name that is bound later
        return False


def _class(kind: type, deep: int) -> str:
    """A class by its name; one of a user's by its methods too."""
    name = f"{kind.__module__}.{kind.__qualname__}"
    if kind.__module__.partition(".")[0] in PACKAGES:
        return name
    methods = [each for each in vars(kind).values() if isinstance(each, FunctionType)]
    return f"{name} {_digest(' '.join(said(each, deep + 1) for each in methods))}"


def _code(code: CodeType) -> str:
    """What a code does, without where it stands in its file."""
    parts = [_code(each) if isinstance(each, CodeType) else said(each) for each in code.co_consts]
    return f"{code.co_code.hex()} {code.co_names} {code.co_varnames} {parts}"


def _names(code: CodeType) -> set[str]:
    """Every name that a code asks for, functions within it included."""
    within = (_names(each) for each in code.co_consts if isinstance(each, CodeType))
    return set(code.co_names).union(*within)


def _digest(content: str | bytes | memoryview) -> str:
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()[:DIGITS]
