"""Programs run with parameters given from outside, those of their networks among them.

`pyro.module` makes a network's parameters known to Pyro, but the network goes on using its own tensors, whatever a
handler says the parameters are. Here every function of torch is handed the given values in place of those tensors.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pyro import poutine
from pyro.poutine.messenger import Messenger
from torch import Size, Tensor
from torch.nn import Parameter
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only

from ...models.structure import Model
from ..runtime.pyro_private import MODULE_DIVIDER


class InPlaceOf(TorchFunctionMode):
    """Tensors in place of others wherever torch computes: the id of a tensor -> what stands in for it."""

    def __init__(self, values: dict[int, Tensor]) -> None:
        super().__init__()
        self.values = values

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        instead = lambda tensor: self.values.get(id(tensor), tensor)  # noqa: E731
        # Kept whole: of a tuple in place of its size, `Tensor.new` makes another tensor.
        sizes = lambda value: isinstance(value, Size)  # noqa: E731
        args, kwargs = tree_map_only(Tensor, instead, (args, kwargs or {}), is_leaf=sizes)
        return func(*args, **kwargs)


def with_params(program: Model, params: Mapping[str, Tensor]) -> Model:
    """The program with these values for its parameters, by their names in Pyro's store."""
    given = _Given(params)
    if not any(MODULE_DIVIDER in name for name in params):
        return given(program)

    def run(*args: Any, **kwargs: Any) -> Any:
        with given, InPlaceOf(given.instead):
            return program(*args, **kwargs)

    return run


@dataclass(frozen=True)
class Frozen:
    """A program whose params are given, so that nothing in it is trained."""

    model: Model
    params: Mapping[str, Tensor] = field(repr=False)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the program."""
        return poutine.block(with_params(self.model, self.params), hide_types=["param"])(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in ("model", "params"):
            raise AttributeError(name)
        return getattr(self.model, name)


def frozen(model: Model, params: Mapping[str, Tensor]) -> Model:
    """The model with nothing left to train: its own `frozen()` where it has one, else at these params."""
    offer = getattr(model, "frozen", None)
    return offer() if offer else Frozen(model, params)


class _Given(Messenger):
    """The values of params. `poutine.substitute` knows those of a network by the last part of their names only.

    instead: the id of a network's own tensor -> the value of that param.
    """

    def __init__(self, params: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.params = params
        self.instead: dict[int, Tensor] = {}

    def _pyro_param(self, msg: Any) -> None:
        if msg["name"] in self.params:
            msg["value"] = self.params[msg["name"]]
            msg["done"] = True
            self.instead |= {id(own): msg["value"] for own in msg["args"][1:2] if isinstance(own, Parameter)}
