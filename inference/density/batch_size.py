"""Minibatches: the same model or guide with another batch size, all rows among them."""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any

from ...errors import InputError
from ...models.structure import model_name


def with_batch_size(program: Callable[..., Any], batch_size: int | None) -> Callable[..., Any]:
    """A model or guide that takes `batch_size` rows a step, all of them where None.

    Looked for in this order: a dataclass field `batch_size`, a dataclass field `model` that has one, a parameter
    `batch_size` of a function, whose other arguments may be bound. Raises InputError where none is there and a size is
    asked for.
    """
    if isinstance(program, type):
        raise InputError(f"{model_name(program)} is a class: give one of it, {model_name(program)}(...)")
    fields = {field.name for field in dataclasses.fields(program)} if dataclasses.is_dataclass(program) else set()
    if "batch_size" in fields:
        return dataclasses.replace(program, batch_size=batch_size)  # type: ignore[type-var]
    if "model" in fields:
        return dataclasses.replace(program, model=with_batch_size(program.model, batch_size))  # type: ignore
    function = program
    while isinstance(function, functools.partial):
        function = function.func
    if inspect.isfunction(function) and "batch_size" in inspect.signature(function).parameters:
        return functools.update_wrapper(functools.partial(program, batch_size=batch_size), function)
    if batch_size is not None:
        mend = "def model(x, batch_size=None) with pyro.plate('data', len(x), subsample_size=batch_size)"
        raise InputError(f"{model_name(program)} takes no batch_size: write it as {mend}")
    return program


def on_all_rows(program: Callable[..., Any]) -> Callable[..., Any]:
    """The model or guide without minibatches, for scoring."""
    return with_batch_size(program, None)
