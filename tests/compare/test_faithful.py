"""Old Faithful, two components: what the literature says of it NUTS finds, and the good guides agree with NUTS."""

from typing import Any

import arviz as az
import numpy as np
import pytest
from pyrometer import Comparison, compare
from pyrometer.models import BayesianGMM

GUIDES = ("mean_field", "structured", "auto_normal", "auto_mvn")


def chains_converge_without_divergences(faithful: Comparison) -> None:
    idata = faithful["nuts"].idata
    assert idata["posterior"].sizes["chain"] == 4
    rhat = az.rhat(idata, var_names=["weights", "locs", "covariances"])
    assert max(float(value.max()) for value in rhat.values()) <= 1.01
    assert int(idata["sample_stats"]["diverging"].sum()) == 0
    assert faithful.table.loc["nuts", "divergences"] == 0
    assert faithful.table.loc["nuts", "estimator"] == "NUTS"


def short_eruptions_follow_short_waits(faithful: Comparison) -> None:
    posterior = faithful["nuts"].idata["posterior"].mean(("chain", "draw"))
    np.testing.assert_allclose(posterior["locs"].sel(features="eruptions"), [2.04, 4.29], atol=0.05)
    np.testing.assert_allclose(posterior["locs"].sel(features="waiting"), [54.5, 80.0], atol=0.5)
    np.testing.assert_allclose(posterior["weights"], [0.36, 0.64], atol=0.01)


def guides_that_can_follow_the_posterior_do(faithful: Comparison) -> None:
    for name in ("structured", "auto_mvn"):
        assert faithful.table.loc[name, "bias"] <= 0.25, name
        assert faithful.table.loc[name, "khat"] < 0.7, name


def a_plain_mean_field_guide_understates_a_spread(faithful: Comparison) -> None:
    assert faithful.table.loc[["mean_field", "auto_normal"], "sd_ratio"].min() < 1
    assert faithful.table.loc["auto_normal", "elbo"] < faithful.table.loc["auto_mvn", "elbo"]


def no_relabelling_failed(faithful: Comparison) -> None:
    assert (faithful.invariant["co_clustering_gap"] < 0.02).all()


@pytest.mark.parametrize(
    "options", [{"steps": 2000, "starts": 1}, pytest.param({}, marks=pytest.mark.slow)], ids=["briefly", "as ever"]
)
def test_nuts_and_the_guides_tell_one_story_of_old_faithful(options: dict[str, Any]) -> None:
    """One comparison, in 2,000 steps, and as the package runs it where nothing else is asked for."""
    faithful = compare(BayesianGMM(components=2, covariance="full"), "faithful", GUIDES, progress=False, **options)
    chains_converge_without_divergences(faithful)
    short_eruptions_follow_short_waits(faithful)
    guides_that_can_follow_the_posterior_do(faithful)
    a_plain_mean_field_guide_understates_a_spread(faithful)
    no_relabelling_failed(faithful)
