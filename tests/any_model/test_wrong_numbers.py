"""Numbers that were wrong, or lost after the work was done: each here as the truth that it must be."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import answers
import arviz as az
import numpy as np
import programs
import pyro
import pyro.distributions as dist
import pytest
import torch
from agreement import BRIEF, CHAINS, TRAINING, evidence_agrees, likelihood, one_line
from programs import (
    ANSWERS,
    ANSWERS_NEW,
    DOSES,
    DOSES_NEW,
    EGGS,
    LENGTHS,
    MIXED,
    SCHOOLS_SIGMA,
    SCHOOLS_Y,
    Y_NEW,
    X,
    Y,
)
from pyrometer import Fit, InputError, compare, nuts, svi, train
from pyrometer.models import VAE
from torch import Tensor
from torch.utils.data import DataLoader

SCHOOLS = {"y": SCHOOLS_Y, "sigma": SCHOOLS_SIGMA}
MIXTURE_NAMES = ("theta", "mu")


# 1. The likelihood of a row has no prior in it.


@pytest.fixture(scope="module", params=[programs.centred, programs.non_centred], ids=["centred", "non_centred"])
def schools(request: pytest.FixtureRequest) -> Fit:
    options: dict[str, Any] = {"warmup": 800, "draws": 1500, "chains": 2, "target_accept": 0.95, "progress": False}
    return nuts(request.param, SCHOOLS, **options)


def test_both_forms_of_eight_schools_have_one_leave_one_out_density(schools: Fit) -> None:
    exact = answers.schools_elpd(SCHOOLS_Y, SCHOOLS_SIGMA)  # -30.74
    assert float(az.loo(schools.idata).elpd_loo) == pytest.approx(-30.7, abs=0.5)
    assert float(az.loo(schools.idata).elpd_loo) == pytest.approx(exact, abs=0.5)


def test_the_likelihood_of_a_row_is_given_its_latent_and_holds_no_prior(schools: Fit) -> None:
    draws = {str(name): value.values.reshape(-1, *value.shape[2:]) for name, value in schools.posterior.items()}
    theta = draws["theta"] if "theta" in draws else draws["mu"][:, None] + draws["tau"][:, None] * draws["eta"]
    truth = torch.distributions.Normal(torch.tensor(theta), SCHOOLS_SIGMA).log_prob(SCHOOLS_Y)
    np.testing.assert_allclose(likelihood(schools, "y"), truth, atol=1e-8)


@pytest.mark.parametrize("method", ["nuts", "svi"])
def test_each_observed_site_has_its_own_likelihood_with_the_hidden_kind_summed_out(method: str) -> None:
    data = {"length": LENGTHS, "eggs": EGGS}
    if method == "nuts":
        fit = nuts(programs.two_sites, data, **{**CHAINS, "draws": 100})
    else:
        fit = svi(programs.two_sites, "auto_normal", data, **{**TRAINING, "steps": 200, "draws": 100})
    assert set(fit.idata["log_likelihood"].data_vars) == {"length", "eggs"}
    loc, rate = (fit.posterior[name].values.reshape(-1, 2) for name in ("loc", "rate"))
    truth = answers.two_sites_likelihood(loc, rate, LENGTHS, EGGS)
    for name in ("length", "eggs"):
        np.testing.assert_allclose(likelihood(fit, name), truth[name], atol=1e-8)
    both = np.logaddexp.reduce(truth["both"], 0) - math.log(len(truth["both"]))
    np.testing.assert_allclose(fit.log_predictive(), both, atol=1e-8)
    assert fit.idata["log_likelihood"]["eggs"].dims == ("chain", "draw", "data")


# 2. Exchangeable is what leaves the density as it was.


def mixture(a: float, b: float, actions: bool = False) -> Callable[[Tensor], None]:
    """The mixture of weights (theta, 1 - theta), a start for its first component, and whether theta's part is told."""
    model: Any = programs.beta_mixture(a, b)
    model.init = lambda y, seed=None: {"theta": torch.tensor(0.3).to(y), "mu": torch.tensor([-2.0, 2.0]).to(y)}
    if actions:
        model.exchangeable = {"components": {"theta": programs.swapped}}
    return model


def from_both_ends(a: float, b: float, actions: bool) -> Fit:
    """Two chains, one started in each labelling."""
    model: Any = mixture(a, b, actions)

    def init(y: Tensor, seed: int | None = None) -> dict[str, Tensor]:
        turned = ((seed or 0) + (seed or 0) // 1000) % 2 == 1  # whatever tells the chains' seeds apart
        mu = torch.tensor([2.0, -2.0] if turned else [-2.0, 2.0])
        return {"theta": torch.tensor(0.7 if turned else 0.3).to(y), "mu": mu.to(y)}

    model.init = init
    return nuts(model, MIXED, **CHAINS)


@pytest.mark.parametrize("actions", [False, True])
def test_a_draw_keeps_its_likelihood_whatever_is_relabelled(actions: bool) -> None:
    """Permuting mu while theta stays would give the draws another likelihood than the one that was sampled."""
    for fit in (from_both_ends(5.0, 5.0, actions), svi(mixture(5.0, 5.0, actions), "auto_normal", MIXED, **TRAINING)):
        theta, mu = (fit.idata["posterior"][name].values for name in MIXTURE_NAMES)
        truth = answers.mixture_likelihood(theta.reshape(-1), mu.reshape(-1, 2), MIXED)
        np.testing.assert_allclose(likelihood(fit, "y"), truth, atol=1e-8)


def test_where_a_permutation_changes_the_density_nothing_is_relabelled_and_the_notes_say_so() -> None:
    fit = from_both_ends(5.0, 5.0, actions=False)
    theta, mu = (fit.idata["posterior"][name].values for name in MIXTURE_NAMES)
    assert fit.exchangeable == ()
    low = mu[..., 0] < mu[..., 1]
    assert ((theta < 0.5) == low).mean() > 0.97  # the low mean keeps the small share: Beta(17, 33) is 1 % above 0.5
    found = compare(mixture(5.0, 5.0), MIXED, ["auto_normal"], reference=None, **BRIEF)
    assert any("components" in note for note in found.notes)


def test_a_told_action_puts_both_labellings_into_one() -> None:
    fit = from_both_ends(5.0, 5.0, actions=True)
    assert fit.exchangeable == ("components",)
    assert float(az.rhat(fit.idata["posterior"])["theta"]) < 1.05
    theta, mu = (fit.idata["posterior"][name].values for name in MIXTURE_NAMES)
    assert (mu[..., 0] < mu[..., 1]).all()
    assert theta.mean() == pytest.approx(0.34, abs=0.05)  # 12 of 40 rows, and Beta(5, 5): 17 / 50


def test_the_labellings_are_counted_where_the_components_are_exchangeable_and_nowhere_else() -> None:
    told = compare(mixture(5.0, 5.0, actions=True), MIXED, ["auto_mvn"], reference=None, **{**BRIEF, "steps": 800})
    truth = answers.mixture_evidence(5.0, 5.0, MIXED)
    assert told.table.loc["auto_mvn", "log_evidence"] == pytest.approx(truth, abs=0.1)
    lopsided = compare(mixture(2.0, 8.0), MIXED, ["auto_mvn"], reference=None, **{**BRIEF, "steps": 800})
    # theta ~ Beta(2, 8): the other labelling holds 1 / 163 of the mass, and counting it as a half adds log 2 = 0.69
    truth = answers.mixture_evidence(2.0, 8.0, MIXED)
    assert lopsided.table.loc["auto_mvn", "log_evidence"] == pytest.approx(truth, abs=0.1)
    evidence_agrees(lopsided["auto_mvn"], truth)


# 3. Scores are made in the context of the fits (what a failing score costs is in test_nothing_is_lost).


@pytest.mark.parametrize("model", [programs.regression, programs.expanded])
def test_a_model_with_tensors_of_its_own_is_scored_as_it_was_fitted(model: Callable[..., Any]) -> None:
    made = nuts(model, (X, Y), **CHAINS)
    for reference in ("nuts", made):
        found = compare(model, (X, Y), ["auto_mvn"], reference=reference, x_test=(programs.X_NEW, Y_NEW), **BRIEF)
        assert found.reference == "nuts"
        row = found.table.loc["auto_mvn"]
        assert all(math.isfinite(row[name]) for name in ("elbo", "log_evidence", "khat", "lpd_test", "bias"))
        assert found.table.loc["nuts", ["rhat", "lpd_test"]].notna().all()


# 4. A new row has a latent of its own.


@pytest.mark.parametrize("method", ["nuts", "auto_normal", "auto_mvn", "auto_laplace"])
def test_new_rows_are_scored_with_their_own_latent_integrated_out(method: str) -> None:
    old = answers.effects_linear(DOSES)
    new = [answers.effects_linear(row.unsqueeze(0)) for row in DOSES_NEW]
    truth = answers.of_new_rows(new, ANSWERS_NEW, old, ANSWERS.flatten()).numpy()
    options = {"nuts": CHAINS, "auto_laplace": {**TRAINING, "steps": 500}}.get(method, TRAINING)
    if method == "nuts":
        fit = nuts(programs.random_effects, (DOSES, ANSWERS), **options)
    else:
        fit = svi(programs.random_effects, method, (DOSES, ANSWERS), **options)
    found = fit.log_predictive((DOSES_NEW, ANSWERS_NEW))
    assert found.shape == truth.shape
    np.testing.assert_allclose(found, truth, atol=0.3)  # other rows' effects would be nats away
    assert abs(found.sum() - truth.sum()) < 0.5


def test_the_order_and_number_of_new_rows_are_of_no_account() -> None:
    """A row scored by itself, or behind others, has the same density: no other row's latent is taken for its own."""
    fit = nuts(programs.random_effects, (DOSES, ANSWERS), **CHAINS)
    forwards = fit.log_predictive((DOSES_NEW, ANSWERS_NEW))
    backwards = fit.log_predictive((DOSES_NEW.flip(0), ANSWERS_NEW.flip(0)))[::-1]
    alone = fit.log_predictive((DOSES_NEW[:1], ANSWERS_NEW[:1]))
    np.testing.assert_allclose(forwards, backwards, atol=0.2)
    np.testing.assert_allclose(forwards[:1], alone, atol=0.2)


def test_how_the_latents_of_new_rows_were_integrated_is_said() -> None:
    found = compare(
        programs.random_effects,
        (DOSES, ANSWERS),
        ["auto_normal"],
        x_test=(DOSES_NEW, ANSWERS_NEW),
        **{**BRIEF, "steps": 800},
    )
    old = answers.effects_linear(DOSES)
    new = [answers.effects_linear(row.unsqueeze(0)) for row in DOSES_NEW]
    truth = float(answers.of_new_rows(new, ANSWERS_NEW, old, ANSWERS.flatten()).sum())
    np.testing.assert_allclose(found.table["lpd_test"].astype(float), truth, atol=0.6)
    said = " ".join(found.notes).lower()
    assert any(way in said for way in ("importance", "laplace", "prior"))


# 5. A reference is of the same model and data.


def test_a_reference_of_another_model_or_of_other_data_is_refused() -> None:
    other_data = nuts(programs.regression, (X, Y + 1), **{**CHAINS, "warmup": 50, "draws": 20})
    other_model = nuts(programs.normal_mean, Y, **{**CHAINS, "warmup": 50, "draws": 20})
    with pytest.raises(InputError, match="data") as caught:
        compare(programs.regression, (X, Y), ["auto_normal"], reference=other_data, **BRIEF)
    assert "reference" in one_line(caught)
    with pytest.raises(InputError, match="model") as caught:
        compare(programs.regression, (X, Y), ["auto_normal"], reference=other_model, **BRIEF)
    assert "reference" in one_line(caught)


# 6. What was read is what was written.


def two_columns(x: Tensor) -> None:
    loc = pyro.sample("loc", dist.Normal(torch.zeros(2), 10.0).to_event(1))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(loc, 1.0).to_event(1), obs=x)


def test_semicolons_and_decimal_commas_are_read_rightly_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "german.csv"
    lines = [";".join(f"{value:.3f}".replace(".", ",") for value in row) for row in X.tolist()]
    path.write_text("\n".join(["length;width", *lines]) + "\n")
    refusal = ""
    try:
        fit = svi(two_columns, "auto_normal", path, **{**TRAINING, "steps": 20})
        np.testing.assert_allclose(fit.data.values, X, atol=6e-4)
        assert fit.data.columns == ("length", "width")
    except InputError as error:
        refusal = str(error)
    assert not refusal or ("german.csv" in refusal and "\n" not in refusal)


def test_pictures_with_their_channels_last_are_refused() -> None:
    pictures = torch.rand(12, 8, 8, 3, generator=torch.Generator().manual_seed(0))
    vae = VAE(latent=2, decoder="conv", likelihood="bernoulli")
    for run in (
        lambda: svi(vae, "encoder", pictures, steps=5, progress=False),
        lambda: train(vae, "encoder", pictures, epochs=1, progress=False),
    ):
        with pytest.raises(InputError, match=r"channel|axis") as caught:
            run()
        assert "(12, 8, 8, 3)" in one_line(caught) or "last" in one_line(caught)


@pytest.mark.parametrize("batch_size", [None, 1, 5])
def test_a_loader_of_vectors_gives_rows(batch_size: int | None) -> None:
    loader: DataLoader[Tensor] = DataLoader(list(X), batch_size=batch_size)  # type: ignore[arg-type]
    fit = svi(two_columns, "auto_normal", loader, **{**TRAINING, "steps": 20})
    torch.testing.assert_close(fit.data.values, X)


# 7. No note without a cause.


def test_starts_that_end_at_one_place_are_not_spoken_of() -> None:
    """A Gaussian posterior and a guide that holds it: every start ends at the same optimum, however far it began."""
    options = {**BRIEF, "starts": 3, "steps": 800, "lr": 0.05}
    found = compare(programs.regression, (X, 30 * Y), ["auto_mvn", "auto_normal"], reference=None, **options)
    assert not [note for note in found.notes if "start" in note]
