"""What lets any Pyro program run on any data: flat priors, observed whole numbers, tensors of another precision."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from pyro.distributions import ImproperUniform
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import effectful
from torch import Tensor
from torch.distributions import Distribution, transform_to
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only

__all__ = ["Promoted", "in_training", "is_flat", "permissive"]

REACH = 2.0  # a flat prior's draws lie within it in unconstrained space, as Stan's starting points do
KEEPS_PRECISION = {"copy_", "to", "type_as", "__set__", "_to_copy"}


@contextmanager
def permissive(promote: bool = False) -> Iterator[Promoted]:
    """Let programs draw from flat priors, observe whole numbers, and, where asked, mix float32 with float64."""
    mode = Promoted()
    with _Permissive():
        if promote:
            with mode:
                yield mode
        else:
            yield mode


@effectful(type="in_training")
def in_training() -> bool:
    """Whether a program runs for a step of training, and not to be scored: for dropout and the like."""
    return False


def is_flat(fn: Any) -> bool:
    """Whether a site's distribution is flat, and so has no draws: `ImproperUniform`, masked or not."""
    while not isinstance(fn, ImproperUniform) and isinstance(getattr(fn, "base_dist", None), Distribution):
        fn = fn.base_dist
    return isinstance(fn, ImproperUniform)


class _Permissive(Messenger):
    """A value for flat sites that nobody else has given one; observed whole numbers as floats.

    Where validation is off, distributions that were made while it was on are as if made now.
    """

    def _pyro_sample(self, msg: Any) -> None:
        value = msg["value"]
        if not Distribution._validate_args:
            msg["fn"] = _unchecked(msg["fn"])
        if msg["is_observed"]:
            if isinstance(value, Tensor) and not (value.is_floating_point() or value.is_complex()):
                msg["value"] = value.to(torch.get_default_dtype())
        elif value is None and is_flat(msg["fn"]):
            msg["value"] = _draw(msg["fn"])


def _unchecked(fn: Any) -> Any:
    """A distribution that checks nothing, nor do those in it: a check looks at values, which no graph can."""
    inside = {name: _unchecked(value) for name, value in vars(fn).items() if isinstance(value, Distribution)}
    if not vars(fn).get("_validate_args") and all(vars(fn)[name] is value for name, value in inside.items()):
        return fn
    made = copy.copy(fn)
    vars(made).update(inside, _validate_args=False)
    return made


def _draw(fn: Any) -> Tensor:
    """A point of the support, uniform in unconstrained space within REACH."""
    transform = transform_to(fn.support)
    shape = transform.inverse_shape(fn.shape())
    return transform(REACH * (2 * torch.rand(shape) - 1))


class Promoted(TorchFunctionMode):
    """Operations on float32 and float64 together are done in float64. happened: whether there was one."""

    def __init__(self) -> None:
        super().__init__()
        self.happened = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name not in KEEPS_PRECISION and {torch.float32, torch.float64} <= _kinds((*args, *kwargs.values())):
            self.happened = True
            double = lambda t: t.double() if t.dtype == torch.float32 else t  # noqa: E731
            if name.endswith("_") and not name.endswith("__"):  # in place: the first keeps its own
                args = (args[0], *tree_map_only(Tensor, double, tuple(args[1:])))
            else:
                args, kwargs = tree_map_only(Tensor, double, (tuple(args), kwargs))
        return func(*args, **kwargs)


def _kinds(values: Iterable[Any]) -> set[torch.dtype]:
    """The dtypes of the tensors among what an operation is given; torch's own walk costs as much as the operation."""
    kinds = set[torch.dtype]()
    for value in values:
        if isinstance(value, Tensor):
            kinds.add(value.dtype)
        elif isinstance(value, tuple | list):
            kinds |= _kinds(value)
    return kinds
