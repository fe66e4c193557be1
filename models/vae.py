"""The variational auto-encoder's model: a latent vector a row, and a network that decodes it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pyro
import pyro.distributions as dist
import torch
from torch import Size, Tensor, nn

from ..errors import InputError
from .gaussians.moments import rows_of
from .networks import Decoder, Likelihood, Network, check_choices, check_device

__all__ = ["VAE"]

PREFIX = "decoder$$$"  # how Pyro's store names what is in the module `decoder`

COLOURS = (1, 3, 4)  # channels of a picture: grey, red green blue, and with transparency


@dataclass(frozen=True)
class VAE:
    """Deep latent-variable model (Kingma and Welling 2014; Rezende, Mohamed and Wierstra 2014).

    z_n ~ Normal(0, I),   x_n | z_n ~ p(x | decoder(z_n))

    x: (N, D), or pictures (N, C, H, W). Sites: z (N, latent), x. With a linear decoder and a Gaussian likelihood this
    is probabilistic PCA (Tipping and Bishop 1999).

    Parameters
    ----------
    latent : entries of z.
    decoder : linear, mlp, conv, or a network of your own from (M, latent) to rows; see `models.networks.Decoder`.
    likelihood : gaussian (one learned deviation), gaussian_diagonal (one an entry, by the network), bernoulli,
        continuous_bernoulli.
    hidden : sizes of the layers of an mlp, from the data inwards; the encoder's too.
    batch_size : rows a minibatch; None takes all of them.
    dtype : what data and networks are in. device : where they are; None leaves the data where they were found.
    networks : those made so far, by shape of a row. A copy of the model that is to be trained takes copies of them.
    """

    latent: int = 10
    decoder: Network | nn.Module = "mlp"
    likelihood: Likelihood = "gaussian"
    hidden: tuple[int, ...] = (400, 400)
    batch_size: int | None = None
    dtype: torch.dtype = torch.float32
    device: str | torch.device | None = None
    networks: dict[Size, Decoder] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_choices(likelihood=(self.likelihood, Likelihood))
        if not isinstance(self.decoder, nn.Module):
            check_choices(decoder=(self.decoder, Network))
        for name, value in (("latent", self.latent), ("batch_size", self.batch_size)):
            if value is not None and (not isinstance(value, int) or value < 1):
                raise InputError(f"{name}={value!r} must be a whole number, 1 or more")

        if self.device is not None:
            check_device(self.device)

    def __call__(self, x: Tensor) -> None:
        """Run the program on x, (N, D) or (N, C, H, W)."""
        decoder = pyro.module("decoder", self.network(x))
        with pyro.plate("data", len(x), subsample_size=self.batch_size, dim=-1) as rows:
            z = pyro.sample("z", self.prior(x), infer={"event_dims": ["latent"]})
            pyro.sample("x", decoder(z), obs=rows_of(x, rows))

    def prior(self, x: Tensor) -> dist.TorchDistribution:
        """p(z), in the dtype and on the device of x: event (latent,)."""
        return dist.Normal(x.new_zeros(self.latent), 1.0).to_event(1)

    def network(self, x: Tensor) -> Decoder:
        """The decoder for rows like those of x: made at the first call, and then the same."""
        row = x.shape[1:]
        if row not in self.networks:
            self.check(x)
            made = Decoder(self.latent, x, self.decoder, self.likelihood, self.hidden)
            self.networks[row] = made.to(x)
        return self.networks[row]

    def log_joint(self, z: Tensor, x: Tensor) -> Tensor:
        """log p(x, z) of each row in nats: z (..., M, latent), x (M, ...) -> (..., M)."""
        return self.prior(x).log_prob(z) + self.log_likelihood_given(z, x)

    def log_likelihood_given(self, z: Tensor, x: Tensor) -> Tensor:
        """log p(x | z) of each row in nats: z (..., M, latent), x (M, ...) -> (..., M)."""
        return self.network(x)(z).log_prob(x)

    def prepare(self, values: Tensor, columns: tuple[str, ...]) -> Tensor:
        """The rows in the dtype and on the device of the model: (N, D), (N, H, W) or (N, C, H, W)."""
        shape = tuple(values.shape)
        if not 2 <= len(shape) <= 4:
            count = f"{len(shape)} dimension" + "s" * (len(shape) != 1)
            raise InputError(f"x has {count}, shape {shape}, but needs 2, 3 or 4: give a row or picture each")
        if len(shape) == 4 and shape[3] in COLOURS and shape[1] not in COLOURS and shape[1] > shape[3]:
            move = "move it behind the rows with x.transpose(0, 3, 1, 2), of a tensor x.permute(0, 3, 1, 2)"
            raise InputError(f"x has shape {shape}, whose last axis, 3, holds the {shape[3]} colours: {move}")
        self.check(values)
        return values.to(dtype=self.dtype, device=self.device or values.device)

    def check(self, x: Tensor) -> None:
        """Refuse pixels that the likelihood has no probability for."""
        if "bernoulli" in self.likelihood and (x.numel() == 0 or x.min() < 0 or x.max() > 1):
            span = f"{x.min().item():g} to {x.max().item():g}" if x.numel() else "none"
            raise InputError(
                f"a {self.likelihood} likelihood wants entries within [0, 1], and x has {span}: rescale it"
            )

    def frozen(self) -> VAE:
        """A copy whose networks are no longer trained, so that guides fitted to it share one p(x | z); of all rows."""
        copied = replace(copy.deepcopy(self), batch_size=None)
        for network in copied.networks.values():
            network.requires_grad_(False).eval()  # in training Pyro warns of what is not trained
        return copied

    def restored(self, params: Mapping[str, Tensor], x: Tensor) -> VAE:
        """A copy with the decoder for rows like those of x at these params, by their names in Pyro's store."""
        copied = copy.deepcopy(self)
        own = {name.removeprefix(PREFIX): value for name, value in params.items() if name.startswith(PREFIX)}
        if own:
            copied.network(x).load_state_dict(own)
        return copied

    @property
    def is_frozen(self) -> bool:
        """Whether there are networks and none is trained."""
        return bool(self.networks) and not any(
            value.requires_grad for network in self.networks.values() for value in network.parameters()
        )
