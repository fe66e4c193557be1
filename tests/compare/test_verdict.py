"""The verdict is what the fit deserves: with a reference, and without one."""

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pyrometer
import pytest
import torch
from pyrometer.errors import InputError
from pyrometer.inference.compare.verdict import verdict_by_row
from pyrometer.models.gallery import GALLERY
from torch import Tensor
from truths import normal_mean, two_clusters

X = two_clusters(60)[:, :1]
Y = X[:, 0]


def line(x: Tensor) -> None:
    """Two correlated coefficients."""
    beta = pyro.sample("beta", dist.Normal(torch.zeros(2), 5.0).to_event(1))
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Normal(beta[0] + beta[1] * (1 + 0.3 * x), 1.0), obs=2 + x)


DESIGN = torch.stack([torch.ones_like(Y), 1 + 0.3 * Y], -1)
COVARIANCE = torch.linalg.inv(DESIGN.T @ DESIGN + torch.eye(2) / 25)
MEAN = COVARIANCE @ DESIGN.T @ (2 + Y)


def told(shift: float, ratio: float) -> Callable[..., Any]:
    """A guide that is the posterior, its means off by so many sds and its sds by that ratio, with nothing to learn."""
    factor, sd = torch.linalg.cholesky(COVARIANCE), COVARIANCE.diagonal().sqrt()

    def guide(x: Tensor) -> None:
        nothing = 0 * pyro.param("nothing", torch.zeros(()))
        loc = MEAN + shift * sd + nothing
        pyro.sample("beta", dist.MultivariateNormal(loc, scale_tril=ratio * factor))

    return guide


GIVEN = {
    "right": (told(0.0, 1.0), "means and spreads"),
    "a little off": (told(0.05, 1.05), "means and spreads"),
    "narrow": (told(0.0, 0.5), "means"),
    "wide": (told(0.0, 1.6), "means"),
    "beside it": (told(0.8, 1.0), "not to be trusted"),
}


@pytest.mark.parametrize("reference", ["nuts", None])
def test_the_verdict_is_what_a_guide_deserves(reference: str | None) -> None:
    guides = {name: guide for name, (guide, _) in GIVEN.items()}
    found = pyrometer.compare(line, Y, guides, reference=reference, steps=200, starts=1, progress=False)
    words = found.table["verdict"].to_dict()
    assert {name: words[name] for name in GIVEN} == {name: word for name, (_, word) in GIVEN.items()}
    assert next(iter(found.table)) == "verdict"
    notes = "\n".join(found.notes)
    assert "narrow: means: the sd of beta[" in notes
    assert "beside it: not to be trusted: the mean of beta[" in notes


def test_what_is_not_trained_is_called_so_and_a_point_a_point() -> None:
    entries = {"short": partial(pyrometer.svi, guide="auto_mvn", steps=200, lr=1e-3), "mode": "auto_delta"}
    found = pyrometer.compare(line, Y, entries, starts=1, progress=False)
    assert found.table.loc["short", "verdict"] == "not trained"
    assert found.table.loc["mode", "verdict"] == "point"
    assert found.table.loc["nuts", "verdict"] == "means and spreads"
    assert any("short: not trained" in note and "more steps gain" in note for note in found.notes)


def test_the_long_table_has_a_row_for_each_scalar_and_names_the_worst() -> None:
    found = pyrometer.compare(line, Y, {"off": told(0.8, 0.5)}, steps=200, starts=1, progress=False)
    own = found.parameters.loc["off"]
    assert list(own.index) == ["beta[0]", "beta[1]"]
    assert np.allclose(own["bias"], 0.8, atol=0.1)
    assert np.allclose(own["sd_ratio"], 0.5, atol=0.05)
    row = found.table.loc["off"]
    assert row["worst"] in own.index
    assert row["bias"] == pytest.approx(own["bias"].max())
    assert row["sd_ratio"] == pytest.approx(own["sd_ratio"].min())
    assert row["sd_ratio_max"] == pytest.approx(own["sd_ratio"].max())
    assert 0 < row["mc_error"] < 0.1
    assert found.parameters.loc["nuts", "bias"].isna().all()


def test_linear_response_gives_the_spread_back_that_mean_field_lost() -> None:
    found = pyrometer.compare(line, Y, ["dadvi"], progress=False)
    own = found.parameters.loc["dadvi"]
    assert own["sd_ratio"].max() < 0.6
    assert np.allclose(own["response_ratio"], 1.0, atol=0.1)
    assert found.parameters.loc["nuts", "response_sd"].isna().all()
    assert found.table.loc["dadvi", "verdict"] == "means"


def test_variables_can_be_left_out_and_unknown_ones_are_refused() -> None:
    def model(y: Tensor) -> None:
        pyro.sample("auxiliary", dist.Normal(0.0, 1.0))
        normal_mean(y)

    found = pyrometer.compare(model, Y, ["auto_normal"], var_names=["loc"], progress=False)
    assert set(found.parameters.index.get_level_values("scalar")) == {"loc"}
    with pytest.raises(InputError, match="var_names: the model has no variable 'nobody': choose from"):
        pyrometer.compare(model, Y, ["auto_normal"], var_names=["nobody"], progress=False)


def test_chains_in_two_modes_say_which_and_how_they_weigh() -> None:
    def model(y: Tensor) -> None:
        loc = pyro.sample("loc", dist.Normal(0.0, 10.0))
        pyro.sample("y", dist.Normal(0.0, 1.0), obs=y.sum())
        pyro.factor("two", torch.logaddexp(1.0986 - 0.5 * ((loc - 4) / 0.2) ** 2, -0.5 * ((loc + 4) / 0.2) ** 2))

    fit = pyrometer.nuts(model, Y, progress=False, seed=2, chains=6, draws="auto")
    assert fit.converged is False
    (note,) = (remark for remark in fit.remarks if "modes" in remark)
    assert "of weight 0.7" in note  # 3 to 1
    assert "of weight 0.2" in note


def test_chains_that_began_badly_begin_again() -> None:
    series = GALLERY["arma-arma11"]  # a start at which the series explodes leaves a chain where it is
    assert not pyrometer.nuts(series.model, series.data(), seed=1, progress=False).converged
    assert pyrometer.nuts(series.model, series.data(), seed=1, draws="auto", progress=False).converged


def test_chains_go_on_until_their_draws_are_enough() -> None:
    few = pyrometer.nuts(normal_mean, Y, draws="auto", progress=False)
    assert few.converged
    assert few.posterior.sizes["draw"] == 1000

    def slow(y: Tensor) -> None:  # a funnel's neck takes many draws
        scale = pyro.sample("scale", dist.Normal(0.0, 1.5))
        pyro.sample("x", dist.Normal(0.0, scale.exp()))
        pyro.sample("y", dist.Normal(0.0, 1.0), obs=y.sum())

    more = pyrometer.nuts(slow, Y, draws="auto", progress=False, mass_matrix="diagonal")
    assert more.posterior.sizes["draw"] > 1000


def test_the_verdict_on_an_encoder_says_whether_it_or_its_family_loses_more() -> None:
    fit: Any = SimpleNamespace(converged=None, why="", guide=None)
    free: Any = SimpleNamespace(converged=None, why="", guide=SimpleNamespace(amortized=False))
    by_itself = verdict_by_row(free, 0.5, 1.0, 0.1, 0.3)
    assert by_itself is not None
    assert by_itself.why.endswith("its training 0.30: train longer")
    by_family, by_encoder = (verdict_by_row(fit, 0.5, 1.0, *gaps) for gaps in ((0.3, 0.1), (0.1, 0.3)))
    assert by_family is not None
    assert by_encoder is not None
    assert by_family.why.endswith("the family loses 0.30 nats a row, the encoder 0.10: take a richer family")
    assert by_encoder.why.endswith("the encoder 0.30: take a guide with a q for each row, or train longer")
    sound = verdict_by_row(fit, 0.1, 1.0, 0.3, 0.1)
    assert sound is not None
    assert sound.word == "means and spreads"


def test_draws_that_were_resampled_by_their_weights_are_held_to_chains_and_their_k_hat_is_told() -> None:
    found = pyrometer.compare(line, Y, ["pathfinder"], reference=None, progress=False)
    khat = found.table.loc["pathfinder", "khat"]
    assert any(f"short chains' from its draws (k-hat {khat:.2f})" in note for note in found.notes)
