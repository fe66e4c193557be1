"""Linear regressions."""

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from torch import Tensor

__all__ = [
    "blr",
    "diamonds",
    "kidscore_interaction",
    "kidscore_momiq",
    "kilpisjarvi",
    "logearn_height",
    "logmesquite_logvas",
    "nes",
]


def kidscore_momiq(mom_iq: Tensor, kid_score: Tensor) -> None:
    """Children's test scores on the IQ of their mothers (Gelman and Hill 2007, section 3.1).

    beta flat,   sigma ~ HalfCauchy(2.5),   kid_score_n ~ Normal(beta_1 + beta_2 mom_iq_n, sigma)

    mom_iq, kid_score: (N,). Sites: beta (2,), sigma (), kid_score (N,).
    """
    beta = pyro.sample("beta", dist.ImproperUniform(constraints.real_vector, (), (2,)))
    sigma = pyro.sample("sigma", dist.HalfCauchy(2.5))
    with pyro.plate("data", len(kid_score)):
        pyro.sample("kid_score", dist.Normal(beta[0] + beta[1] * mom_iq, sigma), obs=kid_score)


def kidscore_interaction(mom_hs: Tensor, mom_iq: Tensor, kid_score: Tensor) -> None:
    """Children's test scores, with an interaction of the mother's IQ and schooling (Gelman and Hill 2007, section 3.3).

    beta flat,   sigma ~ HalfCauchy(2.5),
    kid_score_n ~ Normal(beta_1 + beta_2 mom_hs_n + beta_3 mom_iq_n + beta_4 mom_hs_n mom_iq_n, sigma)

    mom_hs (0 or 1), mom_iq, kid_score: (N,). Sites: beta (4,), sigma (), kid_score (N,).
    """
    beta = pyro.sample("beta", dist.ImproperUniform(constraints.real_vector, (), (4,)))
    sigma = pyro.sample("sigma", dist.HalfCauchy(2.5))
    mean = beta[0] + beta[1] * mom_hs + beta[2] * mom_iq + beta[3] * mom_hs * mom_iq
    with pyro.plate("data", len(kid_score)):
        pyro.sample("kid_score", dist.Normal(mean, sigma), obs=kid_score)


def logearn_height(height: Tensor, earn: Tensor) -> None:
    """Earnings on height (Gelman and Hill 2007, section 4.4).

    beta, sigma flat,   log earn_n ~ Normal(beta_1 + beta_2 height_n, sigma)

    height (inches), earn (dollars): (N,). Sites: beta (2,), sigma (), log_earn (N,).
    """
    beta = pyro.sample("beta", dist.ImproperUniform(constraints.real_vector, (), (2,)))
    sigma = pyro.sample("sigma", dist.ImproperUniform(constraints.positive, (), ()))
    with pyro.plate("data", len(earn)):
        pyro.sample("log_earn", dist.Normal(beta[0] + beta[1] * height, sigma), obs=earn.log())


def kilpisjarvi(
    year: Tensor, temperature: Tensor, alpha_loc: float, alpha_scale: float, beta_loc: float, beta_scale: float
) -> None:
    """Summer temperatures at Kilpisjärvi on the year, which is not centred: alpha and beta are all but collinear.

    alpha ~ Normal(alpha_loc, alpha_scale),   beta ~ Normal(beta_loc, beta_scale),   sigma flat,
    temperature_n ~ Normal(alpha + beta year_n, sigma)

    year, temperature (degrees Celsius): (N,). Sites: alpha, beta, sigma (), temperature (N,).
    """
    alpha = pyro.sample("alpha", dist.Normal(alpha_loc, alpha_scale))
    beta = pyro.sample("beta", dist.Normal(beta_loc, beta_scale))
    sigma = pyro.sample("sigma", dist.ImproperUniform(constraints.positive, (), ()))
    with pyro.plate("data", len(year)):
        pyro.sample("temperature", dist.Normal(alpha + beta * year, sigma), obs=temperature)


def logmesquite_logvas(
    diam1: Tensor,
    diam2: Tensor,
    canopy_height: Tensor,
    total_height: Tensor,
    density: Tensor,
    group: Tensor,
    weight: Tensor,
) -> None:
    """Weight of the leaves of mesquite bushes on their measures (Gelman and Hill 2007, section 4.6).

    beta, sigma flat,   log weight_n ~ Normal(X_n beta, sigma), where
    X_n = (1, log volume, log area, log shape, log total_height, log density, group)_n,
    volume = diam1 diam2 canopy_height,   area = diam1 diam2,   shape = diam1 / diam2

    Every argument: (N,), group 0 or 1. Sites: beta (7,), sigma (), log_weight (N,).
    """
    area, shape = diam1 * diam2, diam1 / diam2
    logs = [column.log() for column in (area * canopy_height, area, shape, total_height, density)]
    X = torch.stack([torch.ones_like(group), *logs, group], -1)
    beta = pyro.sample("beta", dist.ImproperUniform(constraints.real_vector, (), (7,)))
    sigma = pyro.sample("sigma", dist.ImproperUniform(constraints.positive, (), ()))
    with pyro.plate("data", len(weight)):
        pyro.sample("log_weight", dist.Normal(X @ beta, sigma), obs=weight.log())


def nes(
    real_ideo: Tensor,
    race_adj: Tensor,
    age_discrete: Tensor,
    educ1: Tensor,
    gender: Tensor,
    income: Tensor,
    partyid7: Tensor,
) -> None:
    """Party identification in the American National Election Study of 1992 (Gelman and Hill 2007, section 4.7).

    beta, sigma flat,   partyid7_n ~ Normal(X_n beta, sigma), where
    X_n = (1, real_ideo, race_adj, [age = 2], [age = 3], [age = 4], educ1, gender, income)_n

    Every argument: (N,), age_discrete an integer from 1 to 4. Sites: beta (9,), sigma (), partyid7 (N,).
    """
    ages = [(age_discrete == age).to(income.dtype) for age in (2, 3, 4)]
    X = torch.stack([torch.ones_like(income), real_ideo, race_adj, *ages, educ1, gender, income], -1)
    beta = pyro.sample("beta", dist.ImproperUniform(constraints.real_vector, (), (9,)))
    sigma = pyro.sample("sigma", dist.ImproperUniform(constraints.positive, (), ()))
    with pyro.plate("data", len(partyid7)):
        pyro.sample("partyid7", dist.Normal(X @ beta, sigma), obs=partyid7)


def blr(X: Tensor, y: Tensor) -> None:
    """Linear regression without an intercept, on simulated data.

    beta_d ~ Normal(0, 10),   sigma ~ HalfNormal(10),   y_n ~ Normal(X_n beta, sigma)

    X: (N, D). y: (N,). Sites: beta (D,), sigma (), y (N,).
    """
    beta = pyro.sample("beta", dist.Normal(0.0, 10.0).expand([X.shape[1]]).to_event(1))
    sigma = pyro.sample("sigma", dist.HalfNormal(10.0))
    with pyro.plate("data", len(y)):
        pyro.sample("y", dist.Normal(X @ beta, sigma), obs=y)


def diamonds(X: Tensor, y: Tensor) -> None:
    """Logarithm of the price of diamonds on their measures, all of them centred (as brms, Bürkner 2017, centres them).

    b_d ~ Normal(0, 1),   Intercept ~ StudentT(3, 8, 10),   sigma ~ StudentT(3, 0, 10) above 0,
    y_n ~ Normal(Intercept + (X_n - mean X) b, sigma),   b_Intercept = Intercept - (mean X) b

    X: (N, D), no column of ones. y: (N,). Sites: b (D,), Intercept, sigma (), y (N,); deterministic b_Intercept ().
    """
    means = X.mean(0)
    b = pyro.sample("b", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
    intercept = pyro.sample("Intercept", dist.StudentT(3.0, 8.0, 10.0))
    sigma = pyro.sample("sigma", dist.FoldedDistribution(dist.StudentT(3.0, 0.0, 10.0)))
    pyro.deterministic("b_Intercept", intercept - means @ b)
    with pyro.plate("data", len(y)):
        pyro.sample("y", dist.Normal(intercept + (X - means) @ b, sigma), obs=y)
