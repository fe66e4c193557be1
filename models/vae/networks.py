"""From a latent vector to the parameters of a row: linear, a multilayer perceptron, convolutions, or your own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Literal, cast, get_args

import pyro.distributions as dist
import torch
from torch import Size, Tensor, nn
from torch.nn.functional import softplus

from ...errors import InputError, first_line, is_one_of
from .pca import PCA, pca

__all__ = ["Decoder", "Likelihood", "Network", "begin_at_pca", "check_choices", "check_device", "encoder", "mlp"]

Likelihood = Literal["gaussian", "gaussian_diagonal", "bernoulli", "continuous_bernoulli"]
Network = Literal["linear", "mlp", "conv"]

SMALLEST = 1e-3  # standard deviation that a network may give: below it a likelihood has no maximum
SMALLEST_OF_Q = 1e-4  # standard deviation of z that an encoder may give
NETWORK_SHARE = 0.5  # of a row's entries, the most directions of PCA that a network's first deviation leaves out
RAREST = 0.01  # probability of a pixel, at the start


class Decoder(nn.Module):
    """p(x | z): a network, and what its outputs are the parameters of.

    A Gaussian's outputs are the mean, its standard deviation one learned number; gaussian_diagonal takes a second half
    of outputs for a deviation an entry, a user's network a pair (mean, unconstrained deviation). Bernoulli and
    continuous Bernoulli (Loaiza-Ganem and Cunningham 2019) take logits.

    It begins at the rows x, (N, ...), that it is made for: its last layer at their means, a Gaussian's deviation at
    what PCA with as many directions leaves, and a linear one with that deviation at PCA itself. A Gaussian's network is
    in units of the rows' own deviation, learned too, so that a rate means the same whatever columns are measured in.
    """

    def __init__(
        self,
        latent: int,
        x: Tensor,
        network: Network | nn.Module,
        likelihood: Likelihood,
        hidden: tuple[int, ...],
    ) -> None:
        super().__init__()
        row = self.row = x.shape[1:]
        self.likelihood = likelihood
        outputs = 2 if likelihood == "gaussian_diagonal" else 1
        if isinstance(network, nn.Module):
            self.network = network
        elif network == "conv":
            self.network = _conv(latent, row, outputs)
        else:
            inner = tuple(reversed(hidden)) if network == "mlp" else ()
            self.network = mlp((latent, *inner, outputs * row.numel()))
        linear = network == "linear" and likelihood == "gaussian"
        found = pca(x.flatten(1), latent, 1.0 if linear else NETWORK_SHARE)
        if likelihood == "gaussian":
            self.log_scale = nn.Parameter(torch.tensor(math.log(found.scale)))
        self.log_unit: nn.Parameter | None = None
        if likelihood.startswith("gaussian") and not (linear or isinstance(network, nn.Module)):
            self.log_unit = nn.Parameter(torch.tensor(math.log(found.unit)))
        if not isinstance(network, nn.Module):
            with torch.no_grad():
                self._begin_at(found, linear)
        if not any(value.requires_grad for value in self.parameters()):
            self.eval()  # in training Pyro warns of what is not trained

    def forward(self, z: Tensor) -> dist.TorchDistribution:
        """p(x | z) of latent vectors z (..., L): batch (...), event the row's shape."""
        out = self.network(z.reshape(-1, z.shape[-1]))
        if self.likelihood == "gaussian_diagonal":
            loc, scale = out if isinstance(out, tuple) else out.flatten(1).chunk(2, -1)
            scale = SMALLEST + self._in_units(softplus(self._rows(scale, z)))
            fn = dist.Normal(self._in_units(self._rows(loc, z)), scale)
        elif self.likelihood == "gaussian":
            fn = dist.Normal(self._in_units(self._rows(out, z)), self.log_scale.exp())
        elif self.likelihood == "bernoulli":
            fn = dist.Bernoulli(logits=self._rows(out, z), validate_args=False)
        else:
            fn = dist.ContinuousBernoulli(logits=self._rows(out, z))
        return fn.to_event(len(self.row))

    def _in_units(self, values: Tensor) -> Tensor:
        return values if self.log_unit is None else values * self.log_unit.exp()

    def _begin_at(self, found: PCA, linear: bool) -> None:
        """Put the last layer where the decoder of any z gives the mean of all rows, and a linear one at PCA."""
        layer = [each for each in self.network.modules() if isinstance(each, nn.Linear | nn.ConvTranspose2d)][-1]
        if linear:
            layer.weight.copy_(found.loadings)
        centre = found.mean if linear else found.mean / found.unit
        if "bernoulli" in self.likelihood:
            centre = found.mean.clamp(RAREST, 1 - RAREST).logit()
        if self.likelihood == "gaussian_diagonal":
            deviation = torch.full_like(centre, found.scale / found.unit)
            centre = torch.cat([centre, deviation.expm1().log()])  # through softplus
        assert layer.bias is not None
        layer.bias.copy_(centre.reshape(len(layer.bias), -1).mean(1))  # a convolution has one a channel

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


class Centred(nn.Module):
    """Rows less their mean, in units of their deviation, both of the rows (N, ...) that it is made for."""

    mean: Tensor
    unit: Tensor

    def __init__(self, x: Tensor) -> None:
        super().__init__()
        mean = x.double().mean(0)
        unit = x.double().var(0, correction=0).mean().sqrt()
        self.register_buffer("mean", mean.to(x))
        self.register_buffer("unit", torch.where(unit > 0, unit, torch.ones_like(unit)).to(x))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.unit


def encoder(x: Tensor, outputs: int, network: Network, hidden: tuple[int, ...]) -> nn.Sequential:
    """A network from rows like x (N, ...) to so many numbers: linear, mlp or conv, as a decoder is, mirrored."""
    row = x.shape[1:]
    if network == "conv":
        return nn.Sequential(Centred(x), *convolutions(row, outputs)).to(x)
    layers = mlp((row.numel(), *(() if network == "linear" else hidden), outputs))
    return nn.Sequential(Centred(x), nn.Flatten(), *layers).to(x)


def begin_at_pca(network: nn.Module, found: PCA) -> None:
    """Put a linear encoder's locations and scales, which all families have first, at the posterior of PCA."""
    layer, (weights, scale) = cast(nn.Linear, cast(nn.Sequential, network)[-1]), found.posterior()
    latent = len(scale)
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.zero_()
        layer.weight[:latent].copy_(weights * found.unit)
        layer.bias[latent : 2 * latent].copy_((scale - SMALLEST_OF_Q).expm1().log())  # through softplus


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
        if not is_one_of(value, *get_args(names)):
            raise InputError(f"{name}={value!r} is unknown: choose one of {', '.join(get_args(names))}")


def check_device(device: str | torch.device) -> None:
    """Refuse a device that torch does not know, or does not find."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = first_line(error).rstrip(".")
        raise InputError(f"device={str(device)!r} cannot be used: {reason}; choose cpu") from error
    if torch.device(device).type == "meta":
        raise InputError(f"device={str(device)!r} cannot be used: it holds no numbers; choose cpu")


def load_params(network: nn.Module, name: str, params: Mapping[str, Tensor]) -> None:
    """Bring the module that Pyro's store knows by that name to its params there, where it has any; buffers stay."""
    prefix = f"{name}$$$"  # how the store names what is in a module
    own = {key.removeprefix(prefix): value for key, value in params.items() if key.startswith(prefix)}
    if own:
        network.load_state_dict({**network.state_dict(), **own})
