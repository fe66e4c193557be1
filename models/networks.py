"""From a latent vector to the parameters of a row: linear, a multilayer perceptron, convolutions, or your own."""

import math
from itertools import pairwise
from typing import Literal, get_args

import pyro.distributions as dist
import torch
from torch import Size, Tensor, nn
from torch.nn.functional import softplus

from ..errors import InputError

__all__ = ["Decoder", "Likelihood", "Network", "check_choices", "check_device", "convolutions", "mlp"]

Likelihood = Literal["gaussian", "gaussian_diagonal", "bernoulli", "continuous_bernoulli"]
Network = Literal["linear", "mlp", "conv"]

SMALLEST = 1e-3  # standard deviation that a network may give: below it a likelihood has no maximum


class Decoder(nn.Module):
    """p(x | z): a network, and what its outputs are the parameters of.

    A Gaussian's outputs are the mean, its standard deviation one learned number; gaussian_diagonal takes a second half
    of outputs for a deviation an entry, a user's network a pair (mean, unconstrained deviation). Bernoulli and
    continuous Bernoulli (Loaiza-Ganem and Cunningham 2019) take logits.
    """

    def __init__(
        self,
        latent: int,
        row: Size,
        network: Network | nn.Module,
        likelihood: Likelihood,
        hidden: tuple[int, ...],
    ) -> None:
        super().__init__()
        self.row = row
        self.likelihood = likelihood
        outputs = 2 if likelihood == "gaussian_diagonal" else 1
        if isinstance(network, nn.Module):
            self.network = network
        elif network == "conv":
            self.network = _conv(latent, row, outputs)
        else:
            inner = tuple(reversed(hidden)) if network == "mlp" else ()
            self.network = mlp((latent, *inner, outputs * row.numel()))
        if likelihood == "gaussian":
            self.log_scale = nn.Parameter(torch.zeros(()))

    def forward(self, z: Tensor) -> dist.TorchDistribution:
        """p(x | z) of latent vectors z (..., L): batch (...), event the row's shape."""
        out = self.network(z.reshape(-1, z.shape[-1]))
        if self.likelihood == "gaussian_diagonal":
            loc, scale = out if isinstance(out, tuple) else out.flatten(1).chunk(2, -1)
            fn = dist.Normal(self._rows(loc, z), SMALLEST + softplus(self._rows(scale, z)))
        elif self.likelihood == "gaussian":
            fn = dist.Normal(self._rows(out, z), self.log_scale.exp())
        elif self.likelihood == "bernoulli":
            fn = dist.Bernoulli(logits=self._rows(out, z), validate_args=False)
        else:
            fn = dist.ContinuousBernoulli(logits=self._rows(out, z))
        return fn.to_event(len(self.row))

    def _rows(self, out: Tensor, z: Tensor) -> Tensor:
        if out[0].numel() != self.row.numel():
            wanted = f"{self.row.numel()} numbers, one for each entry of a row of shape {tuple(self.row)}"
            raise InputError(f"the decoder gives {out[0].numel()} numbers instead of {wanted}: mend its last layer")
        return out.reshape(*z.shape[:-1], *self.row)


def mlp(sizes: tuple[int, ...]) -> nn.Sequential:
    """Linear layers of those sizes with ReLU between them."""
    layers: list[nn.Module] = []
    for i, o in pairwise(sizes):
        layers += [nn.Linear(i, o), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def _conv(latent: int, row: Size, outputs: int) -> nn.Module:
    """Two transposed convolutions, each doubling the picture: rows (C, H, W), or (D,) that make a square picture."""
    channels, height, width = _picture(row)
    shape = (64, math.ceil(height / 4), math.ceil(width / 4))
    layers = [
        nn.Linear(latent, math.prod(shape)),
        nn.ReLU(),
        nn.Unflatten(1, shape),
        nn.ConvTranspose2d(64, 32, 4, 2, 1),
        nn.ReLU(),
        nn.ConvTranspose2d(32, outputs * channels, 4, 2, 1),
    ]
    return nn.Sequential(*layers, _Cropped(height, width), nn.Flatten())


class _Cropped(nn.Module):
    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.height, self.width = height, width

    def forward(self, x: Tensor) -> Tensor:
        return x[..., : self.height, : self.width]


def _picture(row: Size) -> tuple[int, int, int]:
    """Channels, height and width of a row; a flat one is taken for a square grey picture."""
    if len(row) == 3:
        return row[0], row[1], row[2]
    side = math.isqrt(row.numel())
    if len(row) == 1 and side * side == row.numel():
        return 1, side, side
    raise InputError(f"a convolution wants pictures (N, C, H, W), and rows have shape {tuple(row)}: choose mlp")


def convolutions(row: Size, outputs: int) -> nn.Sequential:
    """The way back: two convolutions that halve the picture, then a linear layer to that many outputs."""
    channels, height, width = _picture(row)
    size = 64 * math.ceil(height / 4) * math.ceil(width / 4)
    layers = [
        nn.Flatten(),
        nn.Unflatten(1, (channels, height, width)),
        nn.Conv2d(channels, 32, 3, 2, 1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, 2, 1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(size, outputs),
    ]
    return nn.Sequential(*layers)


def check_choices(**chosen: tuple[object, object]) -> None:
    """Refuse what is none of the names of its Literal. chosen: option -> (value, Literal)."""
    for name, (value, names) in chosen.items():
        if value not in get_args(names):
            raise InputError(f"{name}={value!r} is unknown: choose one of {', '.join(get_args(names))}")


def check_device(device: str | torch.device) -> None:
    """Refuse a device that torch does not know, or does not find."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise InputError(f"device={str(device)!r} cannot be used: {reason}; choose cpu") from error
