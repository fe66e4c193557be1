"""What a Fit says of rows old and new: who came from where, how probable they are, and what the next ones look like."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyrometer import Fit, svi
from pyrometer.errors import InputError
from pyrometer.models import BayesianGMM
from truths import mixture, mixture_logits, normal_mean, standard_errors, two_clusters

X = two_clusters()
FRAME = pd.DataFrame(X.numpy(), columns=["length", "width"])
NEW = pd.DataFrame(two_clusters(9).numpy() + 0.5, columns=["length", "width"], index=list("abcdefghi"))


@pytest.fixture(scope="module")
def fit() -> Fit:
    """Two components, 50 draws."""
    return svi(BayesianGMM(2), "structured", FRAME, steps=100, draws=50, progress=False)


def by_draw(fit: Fit) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """weights, locs and covariances of each draw."""
    draws = {name: torch.as_tensor(value) for name, value in fit.draws().items()}
    return list(zip(draws["weights"], draws["locs"], draws["covariances"], strict=True))


def test_responsibilities_are_the_exact_ones_averaged_over_draws(fit: Fit) -> None:
    for x, given in ((X, None), (torch.as_tensor(NEW.values), NEW)):
        exact = torch.stack([mixture_logits(*draw, x).softmax(-1) for draw in by_draw(fit)]).mean(0)
        found = fit.responsibilities(given)
        np.testing.assert_allclose(found.values, exact.numpy(), atol=1e-10)
        np.testing.assert_allclose(found.sum(axis=1), 1)
    assert list(fit.responsibilities(NEW).index) == list(NEW.index)
    assert list(found.columns) == [0, 1]


def test_prediction_is_the_most_responsible_component_and_finds_the_clusters(fit: Fit) -> None:
    assert fit.predict(NEW).tolist() == fit.responsibilities(NEW).values.argmax(1).tolist()
    assert fit.predict(NEW).loc["a"] == fit.responsibilities(NEW).loc["a"].idxmax()
    assert fit.predict().tolist() == [0] * 8 + [1] * 16


def test_the_log_predictive_density_is_that_of_the_mixtures_averaged_over_draws(fit: Fit) -> None:
    x = torch.as_tensor(NEW.values)
    rows = torch.stack([mixture(*draw).log_prob(x) for draw in by_draw(fit)])
    np.testing.assert_allclose(fit.log_predictive(NEW), rows.logsumexp(0).numpy() - math.log(50), atol=1e-10)


def test_few_draws_at_a_time_give_the_same_as_all(fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, shares = fit.log_predictive(NEW), fit.responsibilities(NEW)
    monkeypatch.setattr("pyrometer.inference.density.log_density.MAX_NUMBERS_AT_ONCE", 1)
    assert fit.density.chunk(len(NEW)) == 1
    np.testing.assert_allclose(fit.log_predictive(NEW), rows, rtol=1e-12)
    np.testing.assert_allclose(fit.responsibilities(NEW), shares, rtol=1e-12)


def test_columns_are_matched_by_name_in_whatever_order_they_come(fit: Fit) -> None:
    turned = NEW[["width", "length"]].assign(note="left aside")
    pd.testing.assert_frame_equal(fit.responsibilities(turned), fit.responsibilities(NEW))
    np.testing.assert_array_equal(fit.log_predictive(turned), fit.log_predictive(NEW))
    assert list(fit.sample(3).columns) == ["length", "width"]
    with pytest.raises(InputError, match="width"):
        fit.predict(NEW[["length"]])


@pytest.mark.parametrize("rows", [1, 2])
def test_few_new_rows_are_no_special_case(fit: Fit, rows: int) -> None:
    pd.testing.assert_frame_equal(fit.responsibilities(NEW[:rows]), fit.responsibilities(NEW)[:rows])
    np.testing.assert_allclose(fit.log_predictive(NEW[:rows]), fit.log_predictive(NEW)[:rows])


def test_new_rows_have_the_moments_of_the_posterior_predictive(fit: Fit) -> None:
    rows = fit.sample(4000, seed=1).values
    draws = by_draw(fit)
    means = torch.stack([w @ m for w, m, _ in draws])
    seconds = torch.stack([(w[:, None, None] * (c + m[:, :, None] * m[:, None])).sum(0) for w, m, c in draws])
    for i in range(2):
        assert standard_errors(rows[:, i], means.mean(0)[i].item()) < 5
        for j in range(2):
            assert standard_errors(rows[:, i] * rows[:, j], seconds.mean(0)[i, j].item()) < 5


def test_the_same_seed_gives_the_same_rows_and_leaves_torchs_generator_alone(fit: Fit) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    pd.testing.assert_frame_equal(fit.sample(5, seed=2), fit.sample(5, seed=2))
    assert not fit.sample(5, seed=2).equals(fit.sample(5, seed=3))
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(InputError, match="n=0 must be a whole number, 1 or more"):
        fit.sample(0)


def test_the_pointwise_likelihood_has_z_summed_out(fit: Fit) -> None:
    rows = torch.stack([mixture(*draw).log_prob(X) for draw in by_draw(fit)])
    np.testing.assert_allclose(fit.idata["log_likelihood"]["x"].values[0], rows.numpy(), atol=1e-10)


def test_one_component_takes_every_row() -> None:
    fit = svi(BayesianGMM(1), "structured", FRAME, steps=3, draws=5, progress=False)
    assert (fit.responsibilities().values == 1).all()
    assert fit.responsibilities().shape == (len(X), 1)


def test_a_model_of_a_vector_takes_and_gives_vectors() -> None:
    series = FRAME["length"]
    fit = svi(normal_mean, "auto_normal", series, steps=100, draws=200, progress=False)
    assert fit.log_predictive(series[:3]).shape == (3,)
    rows = fit.sample(2000)
    assert list(rows.columns) == ["length"]
    assert standard_errors(rows["length"].values, float(fit.draws()["loc"].mean())) < 5
    with pytest.raises(InputError, match="has no discrete site"):
        fit.responsibilities()


def test_a_fit_says_what_it_is(fit: Fit) -> None:
    assert repr(fit).startswith("Fit('structured', TraceEnum_ELBO, BayesianGMM, 1 x 50 draws, ")
    assert fit.number == 50
    assert not fit.is_point
    assert not fit.is_mcmc


def test_states_of_several_shapes_are_decoded_by_name_and_place() -> None:
    """s shifts all rows by 10, z_n row n by 4: y_n ~ Normal(loc + 10 s + 4 z_n, 0.5)."""

    def shifted(y: torch.Tensor) -> None:
        loc = pyro.sample("loc", dist.Normal(0.0, 0.1))
        s = pyro.sample("s", dist.Bernoulli(0.5))
        with pyro.plate("data", len(y)):
            z = pyro.sample("z", dist.Bernoulli(0.5))
            pyro.sample("y", dist.Normal(loc + 10 * s + 4 * z, 0.5), obs=y)

    found = svi(shifted, "auto_normal", torch.tensor([10.1, 13.9, 14.2]).double(), steps=2, draws=2, progress=False)
    assert found.predict().to_dict() == {"s": 1, "z[0]": 0, "z[1]": 1, "z[2]": 1}


def test_a_state_is_a_whole_number_where_it_is_all_there_is() -> None:
    def one(y: torch.Tensor) -> None:
        s = pyro.sample("s", dist.Bernoulli(0.5))
        loc = pyro.sample("loc", dist.Normal(0.0, 0.1))
        pyro.sample("y", dist.Normal((loc + 10 * s).unsqueeze(-1) + 0 * y, 0.5).to_event(1), obs=y)

    states = svi(one, "auto_normal", torch.tensor([10.1, 9.9]).double(), steps=2, draws=2, progress=False).predict()
    assert states.dtype == int
    assert states.to_dict() == {"s": 1}


@pytest.mark.parametrize(
    ("ends", "optima"),
    [([10.0, 14.9], 0), ([10.0, 15.1], 2), ([10.0, 30.0, math.inf], 2), ([10.0, math.nan], 0), ([10.0], 0), ([], 0)],
)
def test_starts_that_end_more_than_five_nats_apart_are_several_optima(fit: Fit, ends: list[float], optima: int) -> None:
    assert len(replace(fit, start_losses=np.array(ends)).optima) == optima
