"""Programs run on some of their rows, whatever their plates say: what a model of rows in a file is looked at by."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor

from ...models.structure import Model, model_name
from ..runtime.pyro_private import Subsample

HEAD_ROWS = 64  # from which the structure of a model is read


def head_of(number: int) -> int:
    """How many rows of so many stand for all where their numbers are no matter: never all of them."""
    return max(1, min(HEAD_ROWS, number - 1))


class OnRows(Messenger):
    """Lets every plate of `number` rows that looks at all of them look at some, as a minibatch does.

    rows: (R,); None takes the first few, or as many as the plate asks for. alone: each of them counts once, and not for
    all that it stands for. cut: the names of the plates that were cut.
    """

    def __init__(self, number: int, rows: Tensor | None = None, alone: bool = False) -> None:
        super().__init__()
        self.number, self.rows, self.alone = number, rows, alone
        self.cut: set[str] = set()

    def _pyro_sample(self, msg: Any) -> None:
        fn = msg["fn"]
        if isinstance(fn, Subsample):
            if fn.size == self.number and msg["value"] is None:
                asked = fn.subsample_size
                first = torch.arange(asked or head_of(self.number), device=fn.device)
                msg["value"] = first if self.rows is None else self.rows
                self.cut |= {msg["name"]} if asked is None else set()
        elif self.alone:
            for frame in msg["cond_indep_stack"]:
                if frame.full_size == self.number:
                    msg["scale"] = msg["scale"] * frame.size / frame.full_size


@dataclass(frozen=True, eq=False)
class SomeRows:
    """A model that is run on some of its rows, whoever blocks what is around it."""

    model: Model
    some: OnRows

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the model on these rows."""
        with self.some:
            return self.model(*args, **kwargs)

    def collapsed(self) -> Model | None:
        """The same with its discrete sites summed out by hand, where the model offers that."""
        offer = getattr(self.model, "collapsed", None)
        return None if offer is None else replace(self, model=offer())

    def __getattr__(self, name: str) -> Any:
        if name == "__name__":
            return model_name(self.model)
        if name.startswith("__") or name in ("model", "some"):
            raise AttributeError(name)
        return getattr(self.model, name)
