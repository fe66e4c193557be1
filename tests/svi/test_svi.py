"""SVI: exact losses, nothing left behind, honest stops, and an ELBO that is the ELBO."""

import copy
import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.optim import Adam, ClippedAdam
from pyrometer import Fit, svi
from pyrometer.errors import InputError
from pyrometer.models import GMM, BayesianGMM
from torch import Tensor
from truths import (
    COUNTS,
    COVARIANCES,
    mixture,
    mixture_logits,
    normal_guide,
    normal_mean,
    poisson_guide,
    poisson_mixture,
    standard_errors,
    two_clusters,
)

X = two_clusters()
COLUMN = X[:, 0]
STILL = 1e-30  # a learning rate that moves nothing


def exact_rows(fit: Fit) -> Tensor:
    """log p(x_n) of each row under the one point of a maximum likelihood fit."""
    draws = {name: torch.as_tensor(value[0]) for name, value in fit.draws().items()}
    return mixture(draws["weights"], draws["locs"], draws["covariances"]).log_prob(fit.data.values)


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_the_marginal_loss_is_the_exact_mixture_log_likelihood(covariance: Any) -> None:
    fit = svi(GMM(2, covariance), "marginal", X, steps=2, lr=STILL, draws=2)
    exact = exact_rows(fit).sum().item()
    assert fit.losses[-1] == pytest.approx(-exact, abs=1e-8)
    assert fit.elbo_draws == pytest.approx(exact, abs=1e-8)
    rows = fit.idata["log_likelihood"]["x"].values[0, 0]
    np.testing.assert_allclose(rows, exact_rows(fit), atol=1e-9)


def test_the_marginal_guide_climbs_the_likelihood() -> None:
    start = svi(GMM(2), "marginal", X, steps=1, lr=STILL, draws=2)
    fit = svi(GMM(2), "marginal", X, steps=150, draws=2)
    assert exact_rows(fit).sum() > exact_rows(start).sum()


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others() -> None:
    one, same = (svi(BayesianGMM(2), "auto_normal", X, steps=5, draws=20, seed=4) for _ in range(2))
    other = svi(BayesianGMM(2), "auto_normal", X, steps=5, draws=20, seed=5)
    np.testing.assert_array_equal(one.losses, same.losses)
    np.testing.assert_array_equal(one.elbo_draws, same.elbo_draws)
    for name, value in one.draws().items():
        np.testing.assert_array_equal(value, same.draws()[name])
    assert not np.array_equal(one.losses, other.losses)


def test_a_fit_leaves_everything_as_it_found_it_and_the_next_fit_alone() -> None:
    pyro.clear_param_store()
    pyro.param("loc_loc", torch.tensor(123.0))
    torch.manual_seed(11)
    np.random.seed(11)  # noqa: NPY002 - the global generator is what is watched
    random.seed(11)

    def state() -> list[Any]:
        return [
            {name: value.item() for name, value in pyro.get_param_store().items()},
            torch.get_rng_state().tolist(),
            str(np.random.get_state()),  # noqa: NPY002
            random.getstate(),
            torch.get_default_dtype(),
            torch.get_num_threads(),
            torch.is_grad_enabled(),
            pyro.poutine.runtime._PYRO_STACK[:],
            pyro.settings.get()["validate_distributions_pyro"],
            pyro.settings.get()["validate_poutine"],
            pyro.settings.get()["validate_infer"],
            torch.distributions.Distribution._validate_args,
        ]

    try:
        before = state()
        first = svi(normal_mean, normal_guide, COLUMN, steps=20, draws=5)
        middle = svi(BayesianGMM(2), "structured", X, steps=3, draws=5)
        again = svi(normal_mean, normal_guide, COLUMN, steps=20, draws=5)
        with pytest.raises(InputError):
            svi(normal_mean, poisson_guide, COLUMN, steps=3)
        assert state() == before
    finally:
        pyro.clear_param_store()
    np.testing.assert_array_equal(first.losses, again.losses)
    assert sorted(first.params) == ["loc_loc", "loc_scale"]
    assert "loc_loc" not in middle.params


@dataclass
class Decoder:
    """A model of the user's own with a network in it: x_n ~ Normal(net(loc), 1)."""

    net: torch.nn.Module

    def __call__(self, x: Tensor) -> None:
        net = pyro.module("net", self.net)
        loc = pyro.sample("loc", dist.Normal(torch.zeros(3), 1.0).to_event(1))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(net(loc), 1.0).to_event(1), obs=x)


def test_a_network_in_a_model_is_trained_on_a_copy() -> None:
    model = Decoder(torch.nn.Linear(3, 2).double())
    before = copy.deepcopy(model.net.state_dict())
    one, same = (svi(model, "auto_normal", X, steps=10, lr=0.1, draws=5) for _ in range(2))
    for name, value in model.net.state_dict().items():
        assert torch.equal(value, before[name])
        assert not torch.equal(one.params[f"net$$${name}"], value)
    np.testing.assert_array_equal(one.losses, same.losses)


def test_a_guide_that_is_a_network_is_trained_on_a_copy() -> None:
    class Encoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = torch.nn.Linear(1, 1).double()

        def forward(self, x: Tensor) -> None:
            pyro.module("encoder", self)
            pyro.sample("loc", dist.Normal(self.net(x.mean().reshape(1))[0], 0.3))

    guide = Encoder()
    before = copy.deepcopy(guide.state_dict())
    one, same = (svi(normal_mean, guide, COLUMN, steps=5, lr=0.1, draws=5) for _ in range(2))
    assert all(torch.equal(value, before[name]) for name, value in guide.state_dict().items())
    np.testing.assert_array_equal(one.losses, same.losses)


def test_a_nan_stops_with_its_step_and_sites_and_gives_back_the_last_good_state() -> None:
    """The likelihood of Normal(0, sqrt(1 - a)) grows until a crosses 1, where the scale is no number."""
    x = torch.linspace(-1, 1, 10).double() * 1e-6

    def model(x: Tensor) -> None:
        a = pyro.param("a", lambda: torch.zeros(()))
        loc = pyro.sample("loc", dist.Normal(0.0, 1e-3))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(loc, (1 - a).sqrt()), obs=x)

    def guide(x: Tensor) -> None:
        pyro.sample("loc", dist.Normal(0.0, 1e-3))

    with pytest.warns(UserWarning, match="the last good parameters are kept"):
        fit = svi(model, guide, x, optimizer="Adam", lr=0.01, steps=400, draws=20)
    crossing = len(fit.losses)
    assert 25 < crossing < 400
    assert f"the loss became nan at step {crossing}" in fit.message
    assert "site 'x'" in fit.message
    assert fit.steps == crossing
    assert np.isfinite(fit.losses).all()
    assert 0 < fit.params["a"] < 1
    assert np.isfinite(fit.log_weights).all()


def test_a_loss_that_is_nan_from_the_start_is_refused() -> None:
    def model(x: Tensor) -> None:
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(0.0, (-1 - a.square()).sqrt()), obs=x)

    with pytest.raises(InputError, match="check the model's priors"):
        svi(model, "auto_normal", COLUMN, steps=5)


def guide_from(place: float) -> Any:
    """A guide whose mean starts at that place."""

    def guide(x: Tensor) -> None:
        loc = pyro.param("loc_loc", lambda: torch.tensor(place))
        pyro.sample("loc", dist.Normal(loc, 0.1))

    return guide


def test_of_several_starts_the_best_is_kept_and_its_loss_at_the_end_is_told() -> None:
    places = iter([40.0, 4.0, -15.0])
    fit = svi(normal_mean, lambda model: guide_from(next(places)), COLUMN, starts=3, steps=10, lr=STILL, draws=5)
    assert fit.params["loc_loc"] == 4
    assert fit.start_losses.tolist() == [fit.losses[-1]]  # of the one that ran to its end


def test_a_start_that_turns_nan_loses() -> None:
    places = iter([float("inf"), 4.0])
    fit = svi(normal_mean, lambda model: guide_from(next(places)), COLUMN, starts=2, steps=10, lr=STILL, draws=5)
    assert fit.params["loc_loc"] == 4
    assert not fit.message
    assert fit.start_losses.tolist() == [fit.losses[-1]]


def normal_by_batches(x: Tensor, batch_size: int | None = None) -> None:
    loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x), subsample_size=batch_size) as rows:
        pyro.sample("x", dist.Normal(loc, 1.0), obs=x[rows])


def test_minibatches_estimate_the_whole_loss_without_bias() -> None:
    whole = svi(GMM(2), "marginal", X, steps=1, lr=STILL, draws=2)
    parts = svi(GMM(2), "marginal", X, steps=300, lr=STILL, draws=2, batch_size=6)
    assert parts.losses.std() > 0
    assert standard_errors(parts.losses, whole.losses[0]) < 5
    np.testing.assert_allclose(parts.elbo_draws, whole.elbo_draws, atol=1e-9)  # scored on all rows


def test_minibatches_of_a_users_own_model_and_guide_are_unbiased_too() -> None:
    def guide(x: Tensor) -> None:
        pyro.sample("loc", dist.Normal(4.0, 0.001 * pyro.param("scale", lambda: torch.ones(()))))

    whole = svi(normal_by_batches, guide, COLUMN, steps=1, lr=STILL, draws=200)
    parts = svi(normal_by_batches, guide, COLUMN, steps=400, lr=STILL, draws=200, batch_size=6)
    assert parts.losses.std() > 10 * whole.elbo_draws.std()
    assert standard_errors(parts.losses, -whole.elbo_draws.mean()) < 5
    assert parts.idata["log_likelihood"]["x"].shape == (1, 200, len(X))


@pytest.mark.parametrize("kind", [object, dict])
def test_a_class_that_is_made_from_no_model_is_refused(kind: Any) -> None:
    with pytest.raises(InputError, match=f"^guide {kind.__name__} is a class that is not made from a model: give one"):
        svi(BayesianGMM(2), kind, X, steps=5)


def test_a_batch_of_more_rows_than_there_are_is_of_all() -> None:
    more, whole = (svi(BayesianGMM(2), "mean_field", X, steps=20, draws=5, batch_size=n) for n in (10**6, len(X)))
    np.testing.assert_array_equal(more.losses, whole.losses)


@pytest.mark.parametrize("name", ["full_mean_field", "amortized", "sampled", "auto_mvn"])
def test_minibatches_train_a_guide_of_the_catalogue(name: str) -> None:
    fit = svi(BayesianGMM(2), name, X, steps=5, draws=20, batch_size=6)
    assert np.isfinite(fit.losses).all()
    assert fit.idata["log_likelihood"]["x"].shape == (1, 20, len(X))


@pytest.mark.parametrize(
    "optimizer",
    ["ClippedAdam", "Adam", torch.optim.SGD, torch.optim.RMSprop, Adam({"lr": 0.05}), ClippedAdam({"lr": 0.05})],
    ids=lambda value: getattr(value, "__name__", str(value) if isinstance(value, str) else type(value).__name__),
)
def test_every_optimizer_climbs(optimizer: Any) -> None:
    lr = 1e-3 if optimizer is torch.optim.SGD else 0.05
    fit = svi(normal_mean, normal_guide, COLUMN, optimizer=optimizer, lr=lr, steps=60, draws=5)
    assert fit.losses[-10:].mean() < fit.losses[:10].mean()


def expected_log_joint(fit: Fit, share: Tensor) -> np.ndarray:
    """E_q(z)[log p(x, z | theta) - log q(z)] of each draw, by brute force. share: q(z_n = k), (N, K)."""
    draws = {name: torch.as_tensor(value) for name, value in fit.draws().items()}
    parts = zip(draws["weights"], draws["locs"], draws["covariances"], strict=True)
    terms = torch.stack([mixture_logits(w, m, c, X) for w, m, c in parts])
    return (share * (terms - share.log())).sum((1, 2)).numpy()


def test_the_elbo_of_an_enumerated_q_is_its_brute_force_sum() -> None:
    fit = svi(GMM(2), "responsibilities", X, steps=5, draws=3)
    order = fit.params["locs"][:, 0].argsort()
    share = fit.params["assignment_logits"].softmax(-1)[:, order]
    np.testing.assert_allclose(fit.elbo_draws, expected_log_joint(fit, share)[0], rtol=1e-9)


def test_the_elbo_of_an_enumerated_q_beside_other_sites_is_its_brute_force_sum() -> None:
    """The posterior's draws are not those of elbo_draws, so that their means agree within Monte Carlo error."""
    fit = svi(BayesianGMM(2), "full_mean_field", X, steps=5, draws=300)
    order = fit.params["locs_loc"][:, 0].argsort()
    share = fit.params["assignment_logits"].softmax(-1)[:, order]
    likelihood = fit.idata["log_likelihood"]["x"].values[0].sum(-1)
    brute = fit.log_weights - likelihood + expected_log_joint(fit, share)
    error = np.hypot(brute.std(), fit.elbo_draws.std()) / 300**0.5
    assert abs(brute.mean() - fit.elbo_draws.mean()) < 5 * error
    assert fit.log_weights.mean() > brute.mean()  # summing z out tightens the bound


@pytest.mark.parametrize("enumerated", [True, False])
def test_a_q_has_one_elbo_whether_its_z_is_enumerated_or_sampled(enumerated: bool) -> None:
    def guide(x: Tensor) -> None:
        """q(z_n = 0) = sigmoid(4 - x_n): in doubt, and not the posterior."""
        logits = torch.stack([4 - x[:, 0], torch.zeros(len(x))], -1)
        with pyro.plate("data", len(x)):
            infer = {"enumerate": "parallel"} if enumerated else {}
            pyro.sample("z", dist.Categorical(logits=logits), infer=infer)

    fit = svi(GMM(2), guide, X, steps=1, lr=STILL, draws=500)
    assert fit.estimator == ("TraceEnum_ELBO" if enumerated else "TraceGraph_ELBO")
    means = fit.params["locs"][:, 0]
    share = torch.stack([4 - X[:, 0], torch.zeros(len(X)).double()], -1).softmax(-1)
    share = share[:, means.argsort()]  # the draws have their components in that order
    exact = expected_log_joint(fit, share)[0]
    if enumerated:
        np.testing.assert_allclose(fit.elbo_draws, exact, rtol=1e-9)
    else:
        assert standard_errors(fit.elbo_draws, exact) < 5


@pytest.mark.parametrize("name", ["structured", "auto_mvn", "gaussian_full", "auto_iaf"])
def test_log_weights_average_to_the_elbo_that_pyro_computes(name: str) -> None:
    """At parameters that stand still each loss is an independent estimate of minus the same ELBO."""
    fit = svi(BayesianGMM(2), name, X, steps=200, draws=400, lr=STILL)
    error = np.hypot(fit.log_weights.std() / 400**0.5, fit.losses.std() / 200**0.5)
    assert abs(fit.log_weights.mean() + fit.losses.mean()) < 5 * error


def test_a_point_estimate_has_one_draw_and_no_weights() -> None:
    fit = svi(BayesianGMM(2), "auto_delta", X, steps=5)
    assert fit.is_point
    assert fit.idata["posterior"].sizes["draw"] == 1
    assert len(fit.log_weights) == len(fit.elbo_draws) == 0


def test_laplace_is_exact_for_a_gaussian_posterior() -> None:
    fit = svi(normal_mean, "auto_laplace", COLUMN, steps=20, draws=2000)
    draws, rows = fit.draws()["loc"], len(COLUMN)
    assert standard_errors(draws, COLUMN.sum().item() / (rows + 1)) < 5
    assert standard_errors((draws - draws.mean()) ** 2, 1 / (rows + 1)) < 5
    np.testing.assert_allclose(fit.log_weights, fit.log_weights[0], atol=1e-6)  # the evidence itself


def test_a_users_own_mixture_and_guide_need_no_registration() -> None:
    fit = svi(poisson_mixture, poisson_guide, COUNTS, steps=300, lr=0.05, draws=500)
    assert fit.estimator == "TraceEnum_ELBO"
    rates = fit.draws()["rates"].mean(0)
    assert abs(rates[0] - COUNTS[:20].mean().item()) < 1
    assert abs(rates[1] - COUNTS[20:].mean().item()) < 2
    assert fit.name == "poisson_guide"


def test_what_a_model_takes_from_outside_is_left_as_it_was() -> None:
    """A module reached through a closure, and a tensor that a parameter starts from; with several starts at that."""
    net = torch.nn.Linear(1, 1).double()
    held = torch.zeros(1, dtype=torch.float64)
    before = {name: value.clone() for name, value in net.state_dict().items()}

    def model(x: Tensor) -> None:
        pyro.module("net", net)
        shift = pyro.param("shift", held)
        scale = pyro.sample("scale", dist.LogNormal(x.new_zeros(()), 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(net(x[:, :1]).squeeze(-1) + shift, scale), obs=x[:, 1])

    one, other = (svi(model, "auto_normal", X, steps=40, starts=2, draws=10, progress=False) for _ in range(2))
    for name, value in net.state_dict().items():
        torch.testing.assert_close(value, before[name])
    assert held.item() == 0
    assert one.params["shift"].item() != 0
    np.testing.assert_array_equal(one.losses, other.losses)


@pytest.mark.parametrize("compile", ["auto", False])
def test_a_network_of_pyro_module_is_scored_as_it_was_trained(compile: Any) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)  # where it starts decides how far 2,000 steps bring it
        network = torch.nn.Linear(1, 1).double()
    before = network.weight.item()

    def regression(x: Tensor) -> None:
        pyro.module("network", network)
        scale = pyro.sample("scale", dist.LogNormal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(network(x[:, :1]).squeeze(-1), scale), obs=x[:, 1])

    t = torch.linspace(-1, 1, 200, dtype=torch.float64)
    noise = torch.as_tensor(np.random.default_rng(0).normal(scale=0.1, size=200))
    x = torch.stack([t, 3 * t + 1 + noise], 1)
    fit = svi(regression, "auto_normal", x, steps=2000, compile=compile, progress=False)
    assert fit.compiled == ("eager" if compile is False else "script")
    assert network.weight.item() == before  # the caller's own is left as it was
    np.testing.assert_allclose(
        [fit.params[f"network$$${name}"].item() for name in ("weight", "bias")], [3, 1], atol=0.05
    )
    exact = dist.Normal(0.0, 0.1).log_prob(noise).mean()
    assert fit.log_predictive(x).mean() == pytest.approx(exact.item(), abs=0.05)
