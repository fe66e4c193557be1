"""The Dirichlet process mixture: its prior breaks a stick, its order has a meaning, its labels are summed out."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
import torch
from pyrometer import cavi, nuts
from pyrometer.errors import InputError
from pyrometer.inference.density.log_density import Density
from pyrometer.models import BayesianGMM, DirichletProcessGMM
from pyrometer.models.dirichlet_process_gmm import stick_weights
from torch import Tensor
from torch.distributions import Gamma
from truths import COVARIANCES, data_of, in_doubles, two_clusters

X = two_clusters()
STICKS = torch.tensor([0.5, 0.7, 0.2]).double()


def start_of(model: DirichletProcessGMM, x: Tensor = X) -> dict[str, Tensor]:
    with in_doubles():
        return model.init(x, seed=0)


def log_joint(model: BayesianGMM, sites: dict[str, Tensor], x: Tensor = X) -> Tensor:
    with in_doubles():
        return Density(model, data_of(x)).log_joint(sites)


def test_the_weights_are_what_each_break_leaves_of_the_stick() -> None:
    expected = torch.tensor([0.5, 0.5 * 0.7, 0.5 * 0.3 * 0.2, 0.5 * 0.3 * 0.8]).double()
    torch.testing.assert_close(stick_weights(STICKS), expected)
    torch.testing.assert_close(stick_weights(STICKS.expand(2, 5, 3)), expected.expand(2, 5, 4))


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_its_density_is_that_of_the_bayesian_mixture_but_for_the_sticks(covariance: Any) -> None:
    """log p(sticks) = sum_t log alpha + (alpha - 1) log(1 - sticks_t), where that one has a uniform Dirichlet."""
    alpha = 2.5
    model = DirichletProcessGMM(4, covariance, concentration=alpha, scale=1.5)
    start = start_of(model) | {"sticks": STICKS}
    others = {name: value for name, value in start.items() if name != "sticks"} | {"weights": stick_weights(STICKS)}
    uniform = log_joint(BayesianGMM(4, covariance, scale=1.5), others)
    own = (torch.tensor(alpha).double().log() + (alpha - 1) * torch.log1p(-STICKS)).sum()
    torch.testing.assert_close(log_joint(model, start) - uniform, own - torch.tensor(6.0).double().log())
    random = replace(model, concentration=9.0, concentration_prior=(2.0, 0.8))
    drawn = log_joint(random, start | {"concentration": torch.tensor(alpha).double()})
    of_alpha = Gamma(*torch.tensor([2.0, 0.8]).double()).log_prob(torch.tensor(alpha).double())
    torch.testing.assert_close(drawn - log_joint(model, start), of_alpha)


def test_two_pieces_of_a_stick_broken_uniformly_are_two_uniform_weights() -> None:
    start = start_of(DirichletProcessGMM(2))
    others = {name: value for name, value in start.items() if name != "sticks"}
    gmm = BayesianGMM(2)  # whose default prior shares the volume among two, as 1 + alpha says here
    expected = log_joint(gmm, others | {"weights": stick_weights(start["sticks"])})
    torch.testing.assert_close(log_joint(DirichletProcessGMM(2), start), expected)


@pytest.mark.parametrize("prior", [None, (2.0, 1.0)])
@pytest.mark.parametrize("rows", [24, 6_000])
def test_the_mixture_summed_out_by_hand_is_the_enumerated_program(prior: Any, rows: int) -> None:
    x, model = two_clusters(rows), DirichletProcessGMM(4, concentration_prior=prior)
    with in_doubles(validate=False):
        by_hand = Density(model, data_of(x))
        enumerated = replace(by_hand)
        vars(enumerated)["collapsed"] = None
        flat = by_hand.unconstrain(start_of(model, x))
        pairs = []
        for density in (by_hand, enumerated):
            at = flat.detach().requires_grad_()
            value = density.log_density(at)
            pairs.append((value.detach(), torch.autograd.grad(value, at)[0]))
    torch.testing.assert_close(pairs[0][0], pairs[1][0], rtol=1e-9, atol=0)
    assert (pairs[0][1] - pairs[1][1]).abs().max() <= 1e-8 * pairs[1][1].abs().max()


def test_the_default_prior_of_a_component_does_not_depend_on_the_truncation() -> None:
    few, many = (DirichletProcessGMM(t, concentration=3.0).prior(X) for t in (2, 20))
    torch.testing.assert_close(few.scale, many.scale)
    torch.testing.assert_close(few.scale, torch.diag(X.var(0, correction=0)) * 4 ** (-2 / 2))


@pytest.mark.parametrize("prior", [None, (2.0, 0.5)])
def test_a_start_has_the_clusters_weights_the_largest_first(prior: Any) -> None:
    model = DirichletProcessGMM(4, concentration_prior=prior)
    start = start_of(model)
    with in_doubles():
        clusters = model.clusters(X, seed=0)
        assert bool((clusters.weights.diff() <= 0).all())
        torch.testing.assert_close(stick_weights(start["sticks"]), clusters.weights)
        for site in Density(model, data_of(X)).structure.latent:
            assert start[site.name].shape == site.shape
            assert site.support is not None
            assert bool(site.support.check(start[site.name]).all())
    assert float(start.get("concentration", torch.tensor(4.0))) == 4.0


@dataclass(frozen=True)
class SaysExchangeable(DirichletProcessGMM):
    """The same, its components declared to be exchangeable, which they are not."""

    exchangeable: ClassVar[tuple[str, ...]] = ("components",)


def test_its_labels_stay_as_drawn() -> None:
    """Nothing is relabelled: by the model's word, and by the density where the model's word is wrong."""
    fit = cavi(DirichletProcessGMM(3), X, draws=50)
    assert (fit.exchangeable, fit.remarks) == ((), ())
    own = fit.params["locs_loc"]
    spread = fit.draws()["locs"].std(0) / len(fit.draws()["locs"]) ** 0.5
    assert (abs(fit.draws()["locs"].mean(0) - own.numpy()) < 6 * spread).all()
    wrong = cavi(SaysExchangeable(3), X, draws=50)
    assert wrong.exchangeable == ()
    assert "components is not exchangeable" in wrong.remarks[0]
    assert (wrong.draws()["locs"] == fit.draws()["locs"]).all()
    assert cavi(BayesianGMM(3), X, draws=50).exchangeable == ("components",)


@pytest.mark.parametrize("prior", [None, (2.0, 1.0)])
def test_nuts_runs_in_c_and_finds_the_two_clusters(prior: Any) -> None:
    fit = nuts(
        DirichletProcessGMM(4, concentration_prior=prior),
        X,
        warmup=300,
        draws=300,
        chains=2,
        compile=True,
        progress=False,
    )
    assert fit.compiled.startswith("native")
    assert ("concentration" in fit.posterior) == (prior is not None)
    weights = fit.draws()["weights"]
    assert abs(weights.sum(-1) - 1).max() < 1e-12
    assert fit.occupied().index.min() == 2


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        ({"components": 1}, "components=1 leaves no stick to break: give 2 or more"),
        ({"components": 3, "concentration": 0.0}, "concentration=0.0 must be positive"),
        (
            {"components": 3, "concentration_prior": (1.0, 0.0)},
            "concentration_prior=.* must be a tuple of two positive",
        ),
        ({"components": 3, "concentration_prior": 2.0}, "concentration_prior=2.0 must be a tuple of two positive"),
        ({"components": 3, "covariance": "round"}, "covariance='round' is unknown"),
    ],
)
def test_a_process_that_cannot_be_is_refused(options: dict[str, Any], fragment: str) -> None:
    with pytest.raises(InputError, match=fragment):
        DirichletProcessGMM(**options)
