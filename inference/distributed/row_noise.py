"""The noise of some rows of a batch, as it is where one process draws that of the whole batch."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from ...errors import InputError

aten = torch.ops.aten
# What is drawn by rejection takes as many random numbers as it happens to need, and so those of other rows shift it.
BY_REJECTION = {
    aten._standard_gamma.default: "Gamma, Beta, Chi2 and StudentT",
    aten._sample_dirichlet.default: "Dirichlet",
    aten.poisson.default: "Poisson",
    aten.binomial.default: "Binomial",
}


class RowNoise(TorchDispatchMode):
    """While it is entered, what is drawn for rows is drawn for the whole batch, and this process's rows of it kept.

    So several processes whose generators are in one state stay in one state, and together have the noise that one
    process has for the whole batch: drawing it is cheap beside what is done with it. Rows are told by the plate of a
    sample site; outside of sites, as by dropout, by a first dim of their number.

    start, stop: of these rows in the batch. whole: the batch's. plate: theirs, by name.
    """

    def __init__(self, start: int, stop: int, whole: int, plate: str) -> None:
        super().__init__()
        self.start, self.stop, self.whole, self.plate = start, stop, whole, plate
        self.site: dict[str, Any] | None = None  # that is drawn from, while one is

    @property
    def size(self) -> int:
        """How many rows are kept."""
        return self.stop - self.start

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded not in func.tags or self.size == self.whole:
            return func(*args, **kwargs)
        sized = next((place for place, arg in enumerate(func._schema.arguments) if arg.name == "size"), None)
        tensors = [value for value in args if isinstance(value, Tensor)]
        shape = args[sized] if sized is not None else tensors[0].shape if tensors else ()
        left = self._left(shape)
        if left is None:
            return func(*args, **kwargs)
        if func in BY_REJECTION:
            where = f"site {self.site['name']!r}" if self.site else "the guide or model"
            what = f"{where} draws by rejection for each row ({BY_REJECTION[func]}), which several processes cannot"
            raise InputError(f"{what} do as one does: take one process, or a reparameterised distribution")
        widened: list[Any] = tree_map_only(Tensor, lambda value: self._widened(value, left), list(args))
        if sized is not None:
            widened[sized] = self._resized(shape, left, self.size, self.whole)
        drawn = func(*widened, **kwargs)
        kept = tree_map_only(Tensor, lambda value: self._narrowed(value, left), drawn)
        return args[0].copy_(kept) if func._schema.is_mutable else kept

    def _left(self, shape: Sequence[int]) -> int | None:
        """How many times the rows come in what is drawn, the dims left of theirs; None of what is not for rows."""
        left = 1
        if self.site is None:
            if not shape or shape[0] != self.size:
                return None
        else:
            frame = next((frame for frame in self.site["cond_indep_stack"] if frame.name == self.plate), None)
            batch = self.site["fn"].batch_shape
            if frame is None or -frame.dim > len(batch):
                return None
            left = math.prod(batch[: len(batch) + frame.dim])
        return left if self._resized(shape, left, self.size, self.whole) else None

    @staticmethod
    def _resized(shape: Sequence[int], left: int, before: int, after: int) -> list[int] | None:
        """A shape with other rows; None of one that has not so many."""
        for dim, size in enumerate(shape):
            if math.prod(shape[: dim + 1]) % (left * before) == 0 and size % before == 0:
                return [*shape[:dim], size // before * after, *shape[dim + 1 :]]
        return None

    def _widened(self, value: Tensor, left: int) -> Tensor:
        """A parameter of what is drawn, of the whole batch: in the place of other rows' something of its kind."""
        shape = self._resized(value.shape, left, self.size, self.whole)
        if shape is None:
            return value
        rows = torch.arange(self.whole, device=value.device) % self.size
        return value.reshape(left, self.size, -1)[:, rows].reshape(shape)

    def _narrowed(self, drawn: Tensor, left: int) -> Tensor:
        shape = self._resized(drawn.shape, left, self.whole, self.size)
        return drawn if shape is None else drawn.reshape(left, self.whole, -1)[:, self.start : self.stop].reshape(shape)
