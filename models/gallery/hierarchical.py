"""Eight schools, in both parametrisations."""

import pyro
import pyro.distributions as dist
from torch import Tensor

__all__ = ["eight_schools_centered", "eight_schools_noncentered"]


def eight_schools_centered(y: Tensor, sigma: Tensor) -> None:
    """Effects of coaching in eight schools (Rubin 1981; Gelman et al. 2013, section 5.5): a funnel in (theta, tau).

    mu ~ Normal(0, 5),   tau ~ HalfCauchy(5),   theta_j ~ Normal(mu, tau),   y_j ~ Normal(theta_j, sigma_j)

    y, sigma (their standard errors): (J,). Sites: mu, tau (), theta, y (J,).
    """
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("schools", len(y)):
        theta = pyro.sample("theta", dist.Normal(mu, tau))
        pyro.sample("y", dist.Normal(theta, sigma), obs=y)


def eight_schools_noncentered(y: Tensor, sigma: Tensor) -> None:
    """Effects of coaching in eight schools, their deviations from the mean in units of tau.

    mu ~ Normal(0, 5),   tau ~ HalfCauchy(5),   theta_trans_j ~ Normal(0, 1),
    theta_j = mu + tau theta_trans_j,   y_j ~ Normal(theta_j, sigma_j)

    y, sigma (their standard errors): (J,). Sites: mu, tau (), theta_trans, y (J,); deterministic theta (J,).
    """
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("schools", len(y)):
        theta_trans = pyro.sample("theta_trans", dist.Normal(0.0, 1.0))
        theta = pyro.deterministic("theta", mu + tau * theta_trans)
        pyro.sample("y", dist.Normal(theta, sigma), obs=y)
