"""The variational auto-encoder's model: a latent vector a row, and a network that decodes it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import pyro
import pyro.distributions as dist
import torch
from torch import Size, Tensor, nn

from ...display.objects import described
from ...errors import InputError
from ..gaussians.moments import rows_of
from .networks import Decoder, Likelihood, Network, begin_at_pca, check_choices, check_device, encoder, load_params
from .pca import pca
from .priors import Flow, Mixture, Prior, Vamp, check_prior

__all__ = ["VAE"]

LATER = {"later": True}  # of a field that checkpoints may not know, which then have its default
COLOURS = (1, 3, 4)  # channels of a picture: grey, red green blue, and with transparency


@dataclass(frozen=True)
class VAE:
    """Deep latent-variable model (Kingma and Welling 2014; Rezende, Mohamed and Wierstra 2014).

    z_n ~ p(z), Normal(0, I) unless told otherwise,   x_n | z_n ~ p(x | decoder(z_n))

    x: (N, D), or pictures (N, C, H, W). Sites: z (N, latent), x. With a linear decoder and a Gaussian likelihood this
    is probabilistic PCA (Tipping and Bishop 1999).

    Parameters
    ----------
    latent : entries of z.
    decoder : linear, mlp, conv, or a network of your own from (M, latent) to rows; see `models.vae.networks.Decoder`.
    likelihood : gaussian (one learned deviation), gaussian_diagonal (one an entry, by the network), bernoulli,
        continuous_bernoulli.
    hidden : sizes of the layers of an mlp, from the data inwards; the encoder's too.
    encoder : the network of the guides' q(z | x), shaped as the decoder is by default; or one of your own, from rows
        (M, ...) to (M, 2 latent) numbers, locations and then unconstrained scales, or to a pair of both. Guides of
        richer families take more numbers, and say how many.
    prior : normal; or learned with the decoder: mixture of `clusters` normals, vamp (Tomczak and Welling 2018) of as
        many, flow; or a function or module from rows x to a Distribution over z, event (latent,), whose parameters are
        those of a module. It depends on x in dtype and device alone.
    beta : the weight of KL(q | prior) in training (Higgins et al. 2017); every score is of the model itself.
    batch_size : rows a minibatch; None takes all of them.
    dtype : what data and networks are in. device : where they are; None leaves the data where they were found.
    labels : how many classes rows have; x is then followed by a class a row, and the model is a `LabelledVAE`.
    semi_supervised : whether classes may be missing, and are summed out where they are. weight : of the classifier's
        log q(y | x) of a row whose class is known, in training (Kingma et al. 2014, eq. 9).
    networks, priors : those made so far, by shape of a row, beginning at the rows they were made for. A copy of the
        model that is to be trained takes copies of them.
    """

    _repr_html_ = described

    latent: int = 10
    decoder: Network | nn.Module = "mlp"
    likelihood: Likelihood = "gaussian"
    hidden: tuple[int, ...] = (400, 400)
    encoder: nn.Module | None = None
    prior: Prior | Callable[[Tensor], dist.TorchDistribution] = "normal"
    clusters: int = 10
    beta: float = 1.0
    batch_size: int | None = None
    dtype: torch.dtype = torch.float32
    device: str | torch.device | None = None
    labels: int | None = field(default=None, kw_only=True, metadata=LATER)
    semi_supervised: bool = field(default=False, kw_only=True, metadata=LATER)
    weight: float = field(default=1.0, kw_only=True, metadata=LATER)
    networks: dict[Size, Decoder] = field(default_factory=dict, repr=False, compare=False)
    priors: dict[Size, nn.Module] = field(default_factory=dict, repr=False, compare=False)

    with_labels: ClassVar[type[VAE]]  # the class of a VAE that has labels

    def __new__(cls, *args: Any, labels: int | None = None, **options: Any) -> VAE:
        """A VAE, or with labels the one that is told them."""
        return object.__new__(cls if labels is None or cls is not VAE else VAE.with_labels)

    def __post_init__(self) -> None:
        self._check_labels()
        check_choices(likelihood=(self.likelihood, Likelihood))
        if not isinstance(self.decoder, nn.Module):
            check_choices(decoder=(self.decoder, Network))
        if not callable(self.prior):
            check_choices(prior=(self.prior, Prior))
        whole = {"latent": self.latent, "batch_size": self.batch_size, "clusters": self.clusters}
        for name, value in whole.items():
            if value is not None and (not isinstance(value, int) or value < 1):
                raise InputError(f"{name}={value!r} must be a whole number, 1 or more")
        if not self.beta > 0:
            raise InputError(f"beta={self.beta!r} must be a number above 0")
        if self.device is not None:
            check_device(self.device)

    def _check_labels(self) -> None:
        if self.labels is not None:
            mend = "derive it from LabelledVAE, whose program takes them"
            raise InputError(f"{type(self).__name__} takes no labels: {mend}")
        if self.semi_supervised:
            raise InputError("semi_supervised=True needs labels, the number of classes")

    def __call__(self, x: Tensor) -> None:
        """Run the program on x, (N, D) or (N, C, H, W)."""
        pyro.module("decoder", self.network(x))
        self.register_prior(x)
        with pyro.plate("data", len(x), subsample_size=self.batch_size, dim=-1) as rows:
            z = pyro.sample("z", self.p_z(x), infer={"event_dims": ["latent"]})
            pyro.sample("x", self.likelihood_of(x, z), obs=rows_of(x, rows))

    @property
    def inputs(self) -> int:
        """How many numbers the decoder takes."""
        return self.latent

    def register_prior(self, x: Tensor) -> None:
        """Make what is learned of p(z) known to Pyro."""
        learned = self.learned_prior(x)
        if learned is not None:
            pyro.module("prior", learned)

    def p_z(self, x: Tensor) -> dist.TorchDistribution:
        """p(z), in the dtype and on the device of x: batch (), event (latent,)."""
        if self.prior == "normal":
            return dist.Normal(x.new_zeros(self.latent), 1.0).to_event(1)
        given = self.learned_prior(x) or self.prior
        assert callable(given)
        fn = given(x)
        check_prior(fn, self.latent)
        return fn

    def learned_prior(self, x: Tensor) -> nn.Module | None:
        """The module of p(z) for rows like those of x, made at the first call; None of a prior that has none."""
        row = x.shape[1:]
        if row not in self.priors:
            if self.prior == "mixture":
                made: nn.Module = Mixture(self.latent, self.clusters)
            elif self.prior == "vamp":
                made = Vamp(self.latent, self._fresh_encoder(x, 2 * self.latent), x, self.clusters)
            elif self.prior == "flow":
                made = Flow(self.latent)
            elif isinstance(self.prior, nn.Module):
                made = self.prior
            else:
                return None
            self.priors[row] = made.to(x)
        return self.priors[row]

    def encoder_for(self, x: Tensor, outputs: int) -> nn.Module:
        """The network of a guide, from rows like x to so many numbers: a copy of the user's, or shaped as the decoder.

        That of a vamp prior where this is trained and gives as many. Beside a linear decoder with one deviation, which
        begins at PCA, a linear one begins at its posterior.
        """
        shared = self.learned_prior(x)
        if isinstance(shared, Vamp) and outputs == 2 * self.latent and not self.is_frozen:
            return shared.encoder
        network = self._fresh_encoder(x, outputs)
        if self.decoder == "linear" and self.likelihood == "gaussian" and self.encoder is None:
            begin_at_pca(network, pca(x.flatten(1), self.latent))
        return network

    def _fresh_encoder(self, x: Tensor, outputs: int) -> nn.Module:
        if self.encoder is not None:
            return copy.deepcopy(self.encoder).to(x)
        return encoder(x, outputs, "mlp" if isinstance(self.decoder, nn.Module) else self.decoder, self.hidden)

    def network(self, x: Tensor) -> Decoder:
        """The decoder for rows like those of x: made at the first call, and then the same."""
        row = x.shape[1:]
        if row not in self.networks:
            self.check(x)
            made = Decoder(self.inputs, x, self.decoder, self.likelihood, self.hidden)
            self.networks[row] = made.to(x)
        return self.networks[row]

    def log_joint(self, z: Tensor, x: Tensor) -> Tensor:
        """log p(x, z) of each row in nats: z (..., M, latent), x (M, ...) -> (..., M)."""
        return self.p_z(x).log_prob(z) + self.log_likelihood_given(z, x)

    def log_likelihood_given(self, z: Tensor, x: Tensor) -> Tensor:
        """log p(x | z) of each row in nats: z (..., M, latent), x (M, ...) -> (..., M)."""
        return self.likelihood_of(x, z).log_prob(x)

    def likelihood_of(self, x: Tensor, z: Tensor) -> dist.TorchDistribution:
        """p(x | z) of latent vectors z (..., latent): batch (...), event the shape of a row of x."""
        return self.network(x)(z)

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
        """A copy of which nothing is trained any more, so that guides fitted to it share one p(x, z); of all rows."""
        copied = replace(copy.deepcopy(self), batch_size=None)
        for network in copied.modules:
            network.requires_grad_(False).eval()  # in training Pyro warns of what is not trained
        return copied

    def restored(self, params: Mapping[str, Tensor], x: Tensor) -> VAE:
        """A copy for rows like those of x at these params, by their names in Pyro's store."""
        copied = copy.deepcopy(self)
        load_params(copied.network(x), "decoder", params)
        learned = copied.learned_prior(x)
        if learned is not None:
            load_params(learned, "prior", params)
        return copied

    @property
    def modules(self) -> list[nn.Module]:
        """Every network made so far."""
        return [*self.networks.values(), *self.priors.values()]

    @property
    def is_frozen(self) -> bool:
        """Whether there are networks and none is trained."""
        return bool(self.networks) and not any(
            value.requires_grad for network in self.modules for value in network.parameters()
        )
