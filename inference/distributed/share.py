"""The rows of a batch that one of several processes looks at."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .group import Group
from .row_noise import RowNoise


@dataclass(frozen=True)
class Share:
    """The rows start to stop, these excluded, of each whole batch of so many; plate: theirs, by name.

    The plate scales the log likelihood of a share's m rows by N / m, so that the mean of all shares, each weighed by
    its m / M of the M rows of the whole batch, is loss and gradient of the whole batch, whose scale is N / M.
    """

    group: Group
    start: int
    stop: int
    whole: int
    plate: str = ""

    @property
    def size(self) -> int:
        """How many rows it has."""
        return self.stop - self.start

    @property
    def weight(self) -> float:
        """Of its loss and gradient among all."""
        return self.size / self.whole

    def noise(self) -> RowNoise:
        """What is to be entered where noise is drawn for these rows."""
        return RowNoise(self.start, self.stop, self.whole, self.plate)

    def mean(self, value: Tensor) -> Tensor:
        """The mean of all shares, each by its weight."""
        return self.group.sum(value.detach() * self.weight)


def share_of(group: Group, whole: int, plate: str = "") -> Share:
    """The share of this process in a batch of so many rows: as many as any other has, or one more."""
    ends = [rank * whole // group.processes for rank in (group.rank, group.rank + 1)]
    return Share(group, *ends, whole, plate)


def bits(*values: Tensor) -> Tensor:
    """A whole number (), modulo 2**64, that is another where a bit of these tensors is; their order is no matter."""
    kinds = {8: torch.int64, 4: torch.int32, 2: torch.int16, 1: torch.uint8}
    plain = [value.detach().cpu().contiguous() for value in values]
    return torch.stack([value.view(kinds[value.element_size()]).sum() for value in plain]).sum()


def fingerprint(params: dict[str, Tensor]) -> Tensor:
    """The bits of all parameters and of the state of torch's generators on their devices: ()."""
    devices = {value.device for value in params.values() if value.is_cuda}
    return bits(*params.values(), torch.get_rng_state(), *(torch.cuda.get_rng_state(device) for device in devices))
