"""Linear response gives back the spreads that mean field loses; optima, moments and evidences that are known."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyrometer import Fit, bam, compare, dadvi, laplace, nuts, pathfinder
from pyrometer.inference.fit.idata import matched_to
from pyrometer.models import BayesianGMM
from pyrometer.models.gallery import GALLERY
from torch import Tensor

METHODS: dict[str, Callable[..., Fit]] = {"laplace": laplace, "pathfinder": pathfinder, "dadvi": dadvi, "bam": bam}
REGRESSIONS = (
    "kidiq-kidscore_momiq",
    "kidiq-kidscore_interaction",
    "earnings-logearn_height",
    "sblrc-blr",
    "mesquite-logmesquite_logvas",
    "nes1992-nes",
    "kilpisjarvi_mod-kilpisjarvi",
)
LARGEST = "diamonds-diamonds"
MODELESS = "eight_schools-eight_schools_centered"


def published(name: str, method: Callable[..., Fit]) -> tuple[Fit, dict[str, tuple[float, float]]]:
    """The fit, and for each scalar |mean - published| / published sd, and sd / published sd."""
    posterior = GALLERY[name]
    fit = method(posterior.model, posterior.data(), progress=False)
    known = posterior.reference()
    draws = posterior.scalars(fit.draws())
    off = {s: (abs(v.mean() - known.loc[s, "mean"]), v.std()) for s, v in draws.items()}
    return fit, {s: (mean / known.loc[s, "sd"], sd / known.loc[s, "sd"]) for s, (mean, sd) in off.items()}


@pytest.mark.parametrize("name", [*REGRESSIONS, pytest.param(LARGEST, marks=pytest.mark.slow)])
def test_linear_response_has_the_published_spreads_of_regressions(name: str) -> None:
    fit, off = published(name, dadvi)
    sds = GALLERY[name].scalars(fit.linear_response)
    ratios = {scalar: float(sd) / GALLERY[name].reference().loc[scalar, "sd"] for scalar, sd in sds.items()}
    assert {scalar: ratio for scalar, ratio in ratios.items() if not 0.9 < ratio < 1.1} == {}
    if name != "sblrc-blr":  # whose columns are orthogonal
        assert min(sd for _, sd in off.values()) < 0.9  # mean field itself is outside


def test_linear_response_has_the_spreads_of_old_faithful() -> None:
    """Those of NUTS, whatever the order of the labels."""
    reference = nuts(BayesianGMM(2), "faithful", progress=False)
    fit = matched_to(dadvi(BayesianGMM(2), "faithful", progress=False), reference.pivot())
    for name, sd in fit.linear_response.items():
        truth = reference.posterior[name].values.reshape(-1, *sd.shape).std(0)
        moving = truth > 0
        assert (sd[moving] / truth[moving] > 0.9).all(), name
        assert (sd[moving] / truth[moving] < 1.1).all(), name


@pytest.mark.parametrize(
    ("name", "elbo"),
    [("eight_schools-eight_schools_noncentered", -31.60), ("eight_schools-eight_schools_centered", -33.41)],
)
def test_dadvi_comes_to_the_known_mean_field_optimum(name: str, elbo: float) -> None:
    fit = dadvi(GALLERY[name].model, GALLERY[name].data(), draws=20_000, progress=False)
    error = fit.elbo_draws.std() / len(fit.elbo_draws) ** 0.5
    assert fit.elbo_draws.mean() == pytest.approx(elbo, abs=0.1 + 3 * error)


def kidscore(mom_iq: Tensor, kid_score: Tensor) -> None:
    """kidscore_momiq with priors a thousand wide."""
    beta = pyro.sample("beta", dist.Normal(torch.zeros(2), 1000.0).to_event(1))
    sigma = pyro.sample("sigma", dist.HalfCauchy(2.5))
    with pyro.plate("data", len(kid_score)):
        pyro.sample("kid_score", dist.Normal(beta[0] + beta[1] * mom_iq, sigma), obs=kid_score)


@pytest.mark.parametrize("name", METHODS)
def test_a_wide_prior_costs_nothing(name: str) -> None:
    posterior = GALLERY["kidiq-kidscore_momiq"]
    fit, known = METHODS[name](kidscore, posterior.data(), progress=False), posterior.reference()
    for scalar, values in posterior.scalars(fit.draws()).items():
        assert abs(values.mean() - known.loc[scalar, "mean"]) < 0.25 * known.loc[scalar, "sd"], scalar
    assert fit.seconds < 10


COUNTS, HOURS = torch.tensor([3.0, 1.0, 4.0, 2.0]).double(), 1e6


def rate(counts: Tensor) -> None:
    """Events an hour, about one in a million: rate ~ Gamma(2, 1e6), counts_n ~ Poisson(1e6 rate)."""
    lam = pyro.sample("rate", dist.Gamma(2.0, HOURS))
    with pyro.plate("data", len(counts)):
        pyro.sample("counts", dist.Poisson(HOURS * lam), obs=counts)


@pytest.mark.parametrize("name", METHODS)
def test_a_rate_of_a_millionth_costs_nothing(name: str) -> None:
    """rate | counts ~ Gamma(2 + sum, 5e6); log Gamma(12) is nearly Gaussian, and q is one over log rate."""
    fit = METHODS[name](rate, COUNTS, progress=False)
    shape, per = 2.0 + float(COUNTS.sum()), HOURS * (1 + len(COUNTS))
    draws, mean, sd = fit.draws()["rate"], shape / per, shape**0.5 / per
    assert abs(draws.mean() - mean) < 0.2 * sd
    assert draws.std() == pytest.approx(sd, rel=0.2)
    weights = np.exp(fit.log_weights - fit.log_weights.max())
    evidence = float(torch.lgamma(torch.tensor(shape).double()))  # of Gamma-Poisson, the constant terms beside it
    evidence += 2 * np.log(HOURS) - shape * np.log(per) - float(torch.lgamma(COUNTS + 1).sum())
    evidence += float(COUNTS.sum()) * np.log(HOURS)
    found = np.log(weights.mean()) + fit.log_weights.max()
    assert found == pytest.approx(evidence, abs=0.02)


def test_weights_tell_the_evidence_of_eight_schools() -> None:
    """-31.31 nats by quadrature; the weights are of constrained sites, with a Jacobian for tau."""
    posterior = GALLERY["eight_schools-eight_schools_noncentered"]
    for method in (dadvi, bam):
        fit = method(posterior.model, posterior.data(), draws=20_000, progress=False)
        weights = np.exp(fit.log_weights - fit.log_weights.max())
        assert np.log(weights.mean()) + fit.log_weights.max() == pytest.approx(-31.31, abs=0.1)


QUICK = ("eight_schools-eight_schools_noncentered", "eight_schools-eight_schools_centered", "garch-garch11")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in GALLERY])
def test_a_published_posterior_goes_through_every_method(name: str, method: str) -> None:
    fit, off = published(name, METHODS[method])
    if (name, method) == (MODELESS, "laplace"):
        assert "no mode was found" in fit.message
    else:
        assert all(np.isfinite(pair).all() for pair in off.values())
        assert np.isfinite(fit.elbo_draws).all()
    assert fit.number == 1000
    assert len(fit.log_weights) == len(fit.in_pivot)


def test_the_methods_stand_in_one_table() -> None:
    posterior = GALLERY["eight_schools-eight_schools_noncentered"]
    brief: dict[str, Any] = {"draws": 300, "warmup": 200, "chains": 2, "progress": False}
    began = time.perf_counter()
    found = compare(posterior.model, posterior.data(), [], methods=[*METHODS], **brief)
    assert time.perf_counter() - began < 60
    assert list(found) == ["nuts", *METHODS]
    assert not found.skipped
    assert found.table.loc[[*METHODS], ["elbo", "khat", "log_evidence", "bias", "sd_ratio"]].notna().all(axis=None)
    assert [fit.number for fit in found.fits.values()] == [600, 300, 300, 300, 300]
