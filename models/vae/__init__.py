"""The variational auto-encoder: its program, networks, learned priors, PCA where it begins, and labels."""

from .labelled import LabelledVAE
from .vae import VAE

__all__ = ["VAE", "LabelledVAE"]
