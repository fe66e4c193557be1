"""Time series: autoregression, moving averages, volatility, hidden states. One sequence each, hence no plate."""

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from torch import Size, Tensor
from torch.nn.functional import pad

__all__ = ["arK", "arma11", "garch11", "hmm"]


def arK(y: Tensor, K: int) -> None:
    """Autoregression of order K, given the first K values.

    alpha ~ Normal(0, 10),   beta_k ~ Normal(0, 10),   sigma ~ HalfCauchy(2.5),
    y_t ~ Normal(alpha + sum_k beta_k y_{t-k}, sigma)   for t = K + 1, ..., T

    y: (T,). Sites: alpha, sigma (), beta (K,), y (T - K,).
    """
    alpha = pyro.sample("alpha", dist.Normal(0.0, 10.0))
    beta = pyro.sample("beta", dist.Normal(0.0, 10.0).expand([K]).to_event(1))
    sigma = pyro.sample("sigma", dist.HalfCauchy(2.5))
    before = torch.stack([y[K - k : len(y) - k] for k in range(1, K + 1)], -1)  # (T - K, K)
    pyro.sample("y", dist.Normal(alpha + before @ beta, sigma).to_event(1), obs=y[K:])


def arma11(y: Tensor) -> None:
    """Autoregression with a moving average, both of order 1 (Box and Jenkins 1970, chapter 3).

    mu ~ Normal(0, 10),   phi, theta ~ Normal(0, 2),   sigma ~ HalfCauchy(2.5),
    nu_t = mu + phi y_{t-1} + theta err_{t-1},   err_t = y_t - nu_t,   y_t ~ Normal(nu_t, sigma),
    with y_0 = mu and err_0 = 0

    y: (T,). Sites: mu, phi, theta, sigma (), y (T,).
    """
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    phi = pyro.sample("phi", dist.Normal(0.0, 2.0))
    theta = pyro.sample("theta", dist.Normal(0.0, 2.0))
    sigma = pyro.sample("sigma", dist.HalfCauchy(2.5))
    before = torch.cat([mu.reshape(1), y[:-1]])
    err = first_order(-theta, y - mu - phi * before)
    pyro.sample("y", dist.Normal(y - err, sigma).to_event(1), obs=y)


def garch11(y: Tensor, sigma1: float) -> None:
    """Volatility that depends on the last shock and the last volatility (Bollerslev 1986, eqs. 1 to 3).

    mu, alpha0 flat, alpha0 > 0;   alpha1, beta1 flat where alpha1, beta1 > 0 and alpha1 + beta1 < 1,
    sigma_t^2 = alpha0 + alpha1 (y_{t-1} - mu)^2 + beta1 sigma_{t-1}^2,   y_t ~ Normal(mu, sigma_t)

    A flat density on that triangle is the Dirichlet(1, 1, 1) of (alpha1, beta1, 1 - alpha1 - beta1).

    y: (T,). sigma1: the first volatility. Sites: mu, alpha0 (), shares (3,), y (T,); deterministic alpha1, beta1 ().
    """
    mu = pyro.sample("mu", dist.ImproperUniform(constraints.real, (), ()))
    alpha0 = pyro.sample("alpha0", dist.ImproperUniform(constraints.positive, (), ()))
    shares = pyro.sample("shares", dist.Dirichlet(y.new_ones(3)))
    alpha1 = pyro.deterministic("alpha1", shares[0])
    beta1 = pyro.deterministic("beta1", shares[1])
    shocks = alpha0 + alpha1 * (y[:-1] - mu) ** 2
    variances = first_order(beta1, torch.cat([y.new_full((1,), sigma1**2), shocks]))
    pyro.sample("y", dist.Normal(mu, variances.sqrt()).to_event(1), obs=y)


def first_order(coefficient: Tensor, inputs: Tensor) -> Tensor:
    """x_t = coefficient x_{t-1} + inputs_t with x_0 = 0, in log2(T) steps: (T,) -> (T,).

    With B the lag by one, (1 - a B)^-1 = (1 + a B) (1 + a^2 B^2) (1 + a^4 B^4) ..., which ends where B^(2^i) = 0.
    """
    lag = 1
    while lag < len(inputs):
        inputs = inputs + coefficient * pad(inputs[:-lag], (lag, 0))
        coefficient, lag = coefficient**2, 2 * lag
    return inputs


def hmm(y: Tensor) -> None:
    """Hidden Markov chain of two states, which emit normals of unit variance (Rabiner 1989).

    theta1, theta2 ~ Dirichlet(1, 1), the rows of the transition matrix,
    mu_1 ~ Normal(3, 1) and mu_2 ~ Normal(10, 1), given that 0 < mu_1 < mu_2,
    z_1 uniform,   z_t | z_{t-1} ~ Categorical(theta_{z_{t-1}}),   y_t ~ Normal(mu_{z_t}, 1)

    y: (T,). Sites: theta1, theta2, mu (2,); for each t = 0, ..., T - 1 z_t and y_t (), z_t enumerated.
    """
    theta, mu = _hmm_parameters(y)
    probs = y.new_full((2,), 0.5)
    for t in pyro.markov(range(len(y))):
        z = pyro.sample(f"z_{t}", dist.Categorical(probs), infer={"enumerate": "parallel"})
        pyro.sample(f"y_{t}", dist.Normal(mu[z], 1.0), obs=y[t])
        probs = theta[z]


def collapsed_hmm(y: Tensor) -> None:
    """`hmm` with its states summed out by the forward algorithm, in log2(T) steps.

    Pyro's chain makes a step before its first emission: from anywhere to the uniform z_1.
    """
    theta, mu = _hmm_parameters(y)
    uniform = y.new_full((2,), 0.5)
    steps = torch.cat([uniform.expand(1, 2, 2), theta.expand(len(y) - 1, 2, 2)])
    pyro.sample("y", dist.DiscreteHMM(uniform.log(), steps.log(), dist.Normal(mu, 1.0)), obs=y)


vars(hmm)["collapsed"] = lambda: collapsed_hmm


def _hmm_parameters(y: Tensor) -> tuple[Tensor, Tensor]:
    """The transition matrix (2, 2) and the means (2,), from their prior."""
    theta1 = pyro.sample("theta1", dist.Dirichlet(y.new_ones(2)))
    theta2 = pyro.sample("theta2", dist.Dirichlet(y.new_ones(2)))
    mu = pyro.sample("mu", PositiveOrdered(dist.Normal(y.new_tensor([3.0, 10.0]), 1.0), 1))
    return torch.stack([theta1, theta2]), mu


class PositiveOrdered(dist.Independent):
    """Independent entries, given that they are positive and ascend; its density is not normalised."""

    support = constraints.positive_ordered_vector
    has_rsample = False

    def sample(self, sample_shape: Size = Size()) -> Tensor:
        """Draw anew until all are positive and ascend: (*sample_shape, *batch_shape, entries)."""
        value: Tensor = super().sample(sample_shape)
        while (outside := ~self.support.check(value)).any():
            value = torch.where(outside.unsqueeze(-1), super().sample(sample_shape), value)
        return value
