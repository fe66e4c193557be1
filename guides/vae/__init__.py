"""Guides of the VAE: q(z | x) by an encoder, by parameters of its own for each row, or by both in turn."""

from .encoder import Encoder, FlowEncoder
from .labelled import LabelledEncoder
from .per_row import Free, SemiAmortized

__all__ = ["Encoder", "FlowEncoder", "Free", "LabelledEncoder", "SemiAmortized"]
