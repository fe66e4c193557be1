"""Every published posterior goes through `compare` as it is, and NUTS finds the moments that were published."""

from __future__ import annotations

from typing import Any

import arviz as az
import numpy as np
import pytest
from pyrometer import compare, nuts
from pyrometer.models.gallery import GALLERY, Posterior

BRIEF: dict[str, Any] = {"steps": 120, "starts": 1, "warmup": 100, "draws": 100, "chains": 2, "progress": False}
FLAGGED = "eight_schools-eight_schools_centered"  # a funnel that no step size suits
QUICK = ("eight_schools-eight_schools_noncentered", "garch-garch11")
FAR = 4.0  # Monte Carlo standard errors, of the draws and of the reference's own together


LARGEST = "diamonds-diamonds"  # 5,000 rows


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name == LARGEST)) for name in GALLERY])
def test_a_published_posterior_goes_through_compare(name: str) -> None:
    posterior = GALLERY[name]
    found = compare(posterior.model, posterior.data(), ["auto_normal", "auto_mvn"], **BRIEF)
    assert list(found) == ["nuts", "auto_normal", "auto_mvn"]
    assert not found.skipped
    assert found.table.loc["auto_mvn", ["elbo", "khat", "bias", "sd_ratio"]].notna().all()
    flat = any(site.flat for site in found["nuts"].structure.latent)
    assert np.isnan(found.table.loc["auto_mvn", "log_evidence"]) == flat


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in GALLERY]
)
def test_nuts_finds_the_published_moments(name: str) -> None:
    posterior = GALLERY[name]
    fit = nuts(posterior.model, posterior.data(), progress=False)
    if name == FLAGGED:
        table = compare(posterior.model, posterior.data(), [], reference=fit, progress=False)
        assert "not converged" in table.table.loc["nuts", "estimator"]
        return
    off = _standard_errors(posterior, {str(key): value.values for key, value in fit.posterior.data_vars.items()})
    assert {scalar: far for scalar, far in off.items() if not max(far) < FAR} == {}


def _standard_errors(posterior: Posterior, draws: dict[str, np.ndarray]) -> dict[str, tuple[float, float]]:
    """How far mean and sd of each scalar are from the reference's, in standard errors of both."""
    reference, off = posterior.reference(), {}
    for name, values in posterior.scalars(draws).items():
        known, sd = reference.loc[name], values.std()
        of_mean = np.hypot(sd / np.sqrt(az.ess(values)), known["sd"] / np.sqrt(known["n"]))
        of_sd = np.hypot(_sd_error(values), known["sd"] * _sd_error(values) / sd * np.sqrt(az.ess(values) / known["n"]))
        off[name] = (abs(values.mean() - known["mean"]) / of_mean, abs(sd - known["sd"]) / of_sd)
    return off


def _sd_error(values: np.ndarray) -> float:
    """The Monte Carlo standard error of a standard deviation, whatever the tails: that of the mean of squares."""
    squares = (values - values.mean()) ** 2
    return float(squares.std() / np.sqrt(az.ess(squares)) / (2 * values.std()))
