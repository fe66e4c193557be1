"""The models that the command line knows, and the options that say what one is made of."""

import argparse
import re
from dataclasses import fields
from typing import Any, get_args

from ... import datasets
from ...guides import CATALOGUE
from ...models import VAE, LabelledVAE, SequenceVAE
from ...models.vae.networks import Likelihood, Network
from ...models.vae.priors import Prior
from .main import Parser
from .options import add_numbers, number, positive, sizes

MODELS: dict[str, Any] = {re.sub(r"(?<=[a-z])(?=[A-Z])", "-", model.__name__).lower(): model for model in CATALOGUE}
COMPARED = [name for name, model in MODELS.items() if model is not LabelledVAE]  # no option gives classes
share = number(float, -1e-9, 1, "a share, from 0 to below 1")


def add_vae(parser: Parser) -> None:
    """Add what a VAE is made of."""
    group = parser.add_argument_group("VAE")
    add_numbers(group, latent=(None, "entries of z (default: 2, of strings 16)"))
    add = group.add_argument
    add("--decoder", choices=get_args(Network), default="mlp", help="default: %(default)s")
    add("--prior", choices=get_args(Prior), default="normal", help="of z (default: %(default)s)")
    add_numbers(group, clusters=(10, "components of a mixture or vamp prior"))
    add("--beta", type=positive, default=1.0, metavar="X", help="weight of the KL in training (default: %(default)s)")
    what = "default: bernoulli for digits and mnist, whose pixels are brought to [0, 1], else gaussian"
    add("--likelihood", choices=get_args(Likelihood), help=what)
    add("--hidden", type=sizes, default=(400, 400), metavar="A,B", help="layers of the mlp (default: 400,400)")
    add("--white", type=positive, metavar="X", help="the brightest pixel of a file of yours: all are divided by it")
    add("--device", help="cpu or cuda (default: cpu)")


def add_strings(parser: Parser) -> None:
    """Add what a VAE of strings is made of."""
    group = parser.add_argument_group("VAE of strings (sequence-vae)")
    add_numbers(
        group,
        units=(128, "of the recurrent layers"),
        max_length=(None, "characters of a string (default: those of the longest)"),
    )
    what = "of the characters before, hidden in training (default: %(default)s)"
    group.add_argument("--word-dropout", type=share, default=0.25, metavar="SHARE", help=what)
    group.add_argument("--alphabet", metavar="TEXT", help="the characters (default: those of the strings)")


def model_of(options: argparse.Namespace) -> Any:
    """The model that the options describe."""
    model = MODELS[options.model]
    made = {VAE: _vae_of, SequenceVAE: _sequence_vae_of}.get(model)
    if made is not None:
        return made(options)
    named = {field.name for field in fields(model)} & {"components", "covariance"}
    return model(**{name: getattr(options, name) for name in named})


def _vae_of(options: argparse.Namespace) -> VAE:
    likelihood: Likelihood = options.likelihood or ("bernoulli" if options.data in datasets.WHITE else "gaussian")
    prior = {"prior": options.prior, "clusters": options.clusters, "beta": options.beta}
    return VAE(options.latent or 2, options.decoder, likelihood, options.hidden, device=options.device, **prior)


def _sequence_vae_of(options: argparse.Namespace) -> SequenceVAE:
    named = {"alphabet": options.alphabet, "max_length": options.max_length, "device": options.device}
    return SequenceVAE(options.latent or 16, hidden=options.units, word_dropout=options.word_dropout, **named)
