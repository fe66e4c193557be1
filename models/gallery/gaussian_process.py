"""Counts whose log rate is a Gaussian process."""

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

__all__ = ["gp_pois_regr"]

JITTER = 1e-10


def gp_pois_regr(x: Tensor, k: Tensor) -> None:
    """Poisson regression on a Gaussian process (Rasmussen and Williams 2006, eq. 2.16 for its covariance).

    rho ~ Gamma(25, 4),   alpha ~ HalfNormal(2),   f_tilde_n ~ Normal(0, 1),
    f = L f_tilde,   (L L^T)_nm = alpha^2 exp(-(x_n - x_m)^2 / (2 rho^2)) + 1e-10 [n = m],
    k_n ~ Poisson(exp f_n)

    x: (N,). k (counts): (N,). Sites: rho, alpha (), f_tilde, k (N,); deterministic f (N,). No plate: each f_n depends
    on all others.
    """
    rho = pyro.sample("rho", dist.Gamma(25.0, 4.0))
    alpha = pyro.sample("alpha", dist.HalfNormal(2.0))
    f_tilde = pyro.sample("f_tilde", dist.Normal(x.new_zeros(len(x)), 1.0).to_event(1))
    distances = (x.unsqueeze(-1) - x) / rho
    covariance = alpha**2 * torch.exp(-0.5 * distances**2) + JITTER * torch.eye(len(x), dtype=x.dtype, device=x.device)
    f = pyro.deterministic("f", torch.linalg.cholesky(covariance) @ f_tilde, event_dim=1)
    pyro.sample("k", dist.Poisson(f.exp()).to_event(1), obs=k)
