"""The answers that the other tests trust, held to brute force; no inference of the package is in it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import answers
import numpy as np
import programs
import pyro
import pytest
import torch
from programs import (
    BETWEEN,
    COUNTS,
    DOSES,
    EFFECTS,
    MARKS,
    MIXED,
    NOISE,
    PLACES,
    POINTS,
    PRIOR,
    SCHOOLS_SIGMA,
    SCHOOLS_Y,
    SERIES,
    WORDS,
    X,
    Y,
)
from pyro import poutine
from torch import Tensor
from torch.distributions import Dirichlet, Independent, MultivariateNormal, Normal, kl_divergence


@pytest.fixture(autouse=True)
def _in_doubles() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    with pyro.get_param_store().scope():
        yield
    torch.set_default_dtype(before)


def log_joint(model: Callable[..., Any], values: dict[str, Tensor], *data: Any) -> float:
    """log p(values, data) as Pyro has it."""
    trace = poutine.trace(poutine.condition(model, data=values)).get_trace(*data)
    return float(trace.log_prob_sum())


def chain_rule(model: Callable[..., Any], linear: answers.Linear, y: Tensor, split: Any, *data: Any) -> None:
    """log p(theta, y) of the program is log p(theta | y) + log p(y) of the formulas, at several theta."""
    posterior = linear.posterior(y)
    for seed in range(3):
        theta = posterior.mean + programs.normals(seed, len(posterior.mean))
        formulas = posterior.log_prob(theta) + linear.log_evidence(y)
        assert log_joint(model, split(theta), *data) == pytest.approx(float(formulas), abs=1e-7)


@pytest.mark.parametrize(
    "model",
    [
        programs.regression,
        programs.expanded,
        programs.forecast,
        programs.minibatched,
        programs.masked,
        programs.masked_in_place,
    ],
)
def test_every_form_of_the_regression_has_the_posterior_of_the_formulas(model: Callable[..., Any]) -> None:
    chain_rule(model, answers.independent(X), Y, lambda theta: {"beta": theta}, X, Y)


def test_the_closure_the_scales_and_the_networks_are_the_same_regression() -> None:
    beta = torch.tensor([0.3, -1.1])
    truth = log_joint(programs.regression, {"beta": beta}, X, Y)
    assert log_joint(programs.scaled, {"beta": beta}, X, Y, torch.tensor([PRIOR, PRIOR])) == pytest.approx(truth)
    closure = programs.closed_over(programs.X32.double())
    assert log_joint(closure, {"beta": beta}, Y) == pytest.approx(truth, abs=1e-4)
    net = programs.LinearNet().double()
    assert log_joint(net, {"layer.weight": beta.unsqueeze(0)}, X, Y) == pytest.approx(truth)
    weight = torch.tensor([[1.0, 0.5], [-0.5, 1.0]])
    fixed = log_joint(programs.FixedNet().double(), {"beta": beta}, X, Y)
    assert fixed == pytest.approx(log_joint(programs.regression, {"beta": beta}, X @ weight.T, Y))


def test_masked_rows_count_for_nothing() -> None:
    seen = ~torch.isnan(programs.HOLES)
    for model in (programs.masked, programs.masked_in_place):
        chain_rule(
            model,
            answers.independent(X[seen]),
            Y[seen],
            lambda theta: {"beta": theta},
            X,
            programs.HOLES,
        )


def test_the_groups_have_the_posterior_of_the_formulas() -> None:
    frame = programs.FRAME
    data = [torch.tensor(np.asarray(values)) for values in (frame["height"], frame["group"].cat.codes)]
    y = torch.tensor(frame["earnings"].to_numpy())
    linear = answers.independent(answers.group_design(frame))
    chain_rule(programs.by_group, linear, y, lambda t: {"alpha": t[:3], "slope": t[3]}, data[0], data[1].long(), y)
    assert list(frame["group"][:3]) == ["sea", "law", "art"]


def test_nested_plates_have_the_posterior_of_the_formulas() -> None:
    split = lambda theta: {"mean": theta[0], "level": theta[1:].unsqueeze(-1)}  # noqa: E731
    chain_rule(programs.nested, answers.nested_linear(MARKS), MARKS.flatten(), split, MARKS)
    whole = answers.nested_linear(MARKS)
    assert answers.schools_of_one_mean(MARKS).log_evidence(MARKS.flatten()) == pytest.approx(
        whole.log_evidence(MARKS.flatten())
    )
    assert whole.posterior(MARKS.flatten()).mean[0] == pytest.approx(
        float(answers.schools_of_one_mean(MARKS).posterior(MARKS.flatten()).mean[0])
    )


def test_the_effects_integrate_to_their_formula() -> None:
    """Gauss and Hermite's rule over each row's effect, at a given line."""
    level, slope = torch.tensor(0.2), torch.tensor(0.6)
    nodes, weights = (torch.tensor(part) for part in np.polynomial.hermite_e.hermegauss(120))
    mean = level + slope * DOSES.unsqueeze(-1) + BETWEEN * nodes
    rows = Normal(mean, NOISE).log_prob(programs.ANSWERS.unsqueeze(-1)).sum(1)
    truth = (rows + (weights / weights.sum()).log()).logsumexp(-1)
    covariance = answers.in_rows(DOSES.shape, DOSES)
    found = MultivariateNormal((level + slope * DOSES).flatten(), covariance).log_prob(programs.ANSWERS.flatten())
    assert float(found) == pytest.approx(float(truth.sum()), abs=1e-5)
    means, sd = answers.effect_posterior(DOSES, programs.ANSWERS, 0.2, 0.6)
    shares = (rows + weights.log()).softmax(-1)
    torch.testing.assert_close(shares @ (BETWEEN * nodes), means, atol=1e-5, rtol=1e-5)
    assert float(((shares * (BETWEEN * nodes).square()).sum(-1) - means.square()).mean()) == pytest.approx(
        sd**2, rel=1e-4
    )


def test_no_line_is_likelier_than_the_likeliest() -> None:
    best = answers.most_likely_line(DOSES, programs.ANSWERS)
    linear = answers.effects_linear(DOSES)
    density = lambda line: float(  # noqa: E731
        MultivariateNormal(linear.design @ line, linear.noise).log_prob(programs.ANSWERS.flatten())
    )
    for shift in itertools.product((-0.01, 0.0, 0.01), repeat=2):
        assert density(best + torch.tensor(shift)) <= density(best)


def test_new_rows_follow_from_the_joint_density_of_old_and_new() -> None:
    old, new = answers.independent(X), answers.independent(programs.X_NEW)
    both = answers.independent(torch.cat([X, programs.X_NEW]))
    joint = both.log_evidence(torch.cat([Y, programs.Y_NEW])) - old.log_evidence(Y)
    assert float(new.predictive(old, Y).log_prob(programs.Y_NEW)) == pytest.approx(joint)
    alone = answers.row_by_row(programs.X_NEW, programs.Y_NEW, old, Y)
    first = answers.independent(torch.cat([X, programs.X_NEW[:1]]))
    truth = first.log_evidence(torch.cat([Y, programs.Y_NEW[:1]])) - old.log_evidence(Y)
    assert float(alone[0]) == pytest.approx(truth)


def test_probabilistic_pca_has_the_posterior_and_marginal_of_the_formulas() -> None:
    z = programs.normals(0, len(POINTS), 2)
    truth = answers.pca_posterior(POINTS).log_prob(z) + answers.pca_marginal(EFFECTS).log_prob(POINTS)
    assert log_joint(programs.pca_known, {"z": z}, POINTS) == pytest.approx(float(truth.sum()))
    exact = answers.pca_posterior(POINTS[:1])
    sd = exact.precision_matrix.diagonal(dim1=-2, dim2=-1).rsqrt()
    best = MultivariateNormal(exact.mean, (sd**2).diag_embed())
    assert float(kl_divergence(best, exact)) == pytest.approx(answers.mean_field_gap())
    assert answers.mean_field_gap() > 0.1  # far from what Monte Carlo noise could hide
    for factor in (0.9, 1.1):
        other = MultivariateNormal(exact.mean, ((factor * sd) ** 2).diag_embed())
        assert float(kl_divergence(other, exact)) > answers.mean_field_gap()
    assert Independent(Normal(exact.mean, sd), 1).event_shape == (2,)


def test_no_loadings_are_likelier_than_the_likeliest() -> None:
    best = answers.best_pca(POINTS)
    loadings = EFFECTS.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([loadings], max_iter=500, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = -answers.pca_marginal(loadings).log_prob(POINTS).sum()
        value.backward()
        return value

    optimizer.step(loss)
    assert -loss().item() == pytest.approx(best, abs=1e-5)


def test_the_curves_grid_has_converged() -> None:
    coarse, fine = (answers.tanh_grid(programs.CURVE_X, programs.CURVE_Y, points) for points in (201, 401))
    for moment in (lambda a, b: a * b, lambda a, b: a**2):
        found = [float((weights * moment(inner, outer)).sum()) for inner, outer, weights in (coarse, fine)]
        assert found[0] == pytest.approx(found[1], rel=1e-4)
    weights = fine[2].reshape(401, 401)
    assert float(weights[0].sum() + weights[:, 0].sum()) < 1e-4  # what the grid's edge cuts off
    net, place = programs.TanhNet().double(), 3000
    values = {"inner.weight": fine[0][place].reshape(1, 1), "outer.weight": fine[1][place].reshape(1, 1)}
    other = {"inner.weight": fine[0][80_000].reshape(1, 1), "outer.weight": fine[1][80_000].reshape(1, 1)}
    apart = [log_joint(net, at, programs.CURVE_X, programs.CURVE_Y) for at in (values, other)]
    assert apart[0] - apart[1] == pytest.approx(float((fine[2][place] / fine[2][80_000]).log()))


def test_the_gaussian_process_has_the_moments_of_another_importance_sampler() -> None:
    """Elliptical slice sampling (Murray, Adams and MacKay 2010), which knows nothing of Laplace's method."""
    truth, generator = answers.gp_moments(PLACES, COUNTS), np.random.default_rng(0)
    root = np.linalg.cholesky(answers.gp_covariance(PLACES).numpy())
    counts, f, draws = COUNTS.numpy(), np.zeros(len(COUNTS)), []
    log_p = lambda f: float((counts * f - np.exp(f)).sum())  # noqa: E731
    for _ in range(20_000):
        other, level = root @ generator.standard_normal(len(f)), log_p(f) + math.log(generator.random())
        angle = generator.random() * 2 * math.pi
        low, high = angle - 2 * math.pi, angle
        while log_p(moved := f * math.cos(angle) + other * math.sin(angle)) < level:
            low, high = (angle, high) if angle < 0 else (low, angle)
            angle = low + generator.random() * (high - low)
        f = moved
        draws.append(f)
    found = np.array(draws)
    np.testing.assert_allclose(found.mean(0), truth.mean, atol=0.05)
    np.testing.assert_allclose(found.std(0), truth.sd, rtol=0.1)
    assert truth.log_evidence_se < 0.005
    at = {"f": truth.mean}
    prior = MultivariateNormal(torch.zeros(10), answers.gp_covariance(PLACES)).log_prob(truth.mean)
    given = torch.distributions.Poisson(truth.mean.exp()).log_prob(COUNTS).sum()
    assert log_joint(programs.gaussian_process, at, PLACES, COUNTS) == pytest.approx(float(prior + given))


def test_the_forward_algorithm_sums_over_every_path() -> None:
    y, means = SERIES[2:10], torch.tensor([-0.8, 1.3])
    transition, paths = torch.tensor(programs.TRANSITION), list(itertools.product(range(2), repeat=len(y)))
    joint = []
    for path in paths:
        steps = [transition[a, b].log() for a, b in itertools.pairwise((0, *path))]
        joint.append(sum(steps) + Normal(means[list(path)], programs.EMISSION).log_prob(y).sum())
    every = torch.stack(joint)
    assert float(answers.forward(y, means)) == pytest.approx(float(every.logsumexp(0)))
    assert answers.viterbi(y, means) == list(paths[int(every.argmax())])
    share = every.softmax(0) @ torch.tensor(paths).double()
    torch.testing.assert_close(answers.smoothed(y, means), share)
    path = paths[77]
    values = {f"z_{t}": torch.tensor(state) for t, state in enumerate(path)} | {"means": means}
    prior = Normal(torch.tensor([-1.0, 1.0]), 0.2).log_prob(means).sum()
    assert log_joint(programs.hmm, values, y) == pytest.approx(float(every[77] + prior))


def test_the_hmms_grid_has_converged_and_its_path_is_not_that_of_single_states() -> None:
    coarse, fine = answers.hmm_moments(SERIES, 121), answers.hmm_moments(SERIES, 241)
    torch.testing.assert_close(coarse.mean, fine.mean, rtol=1e-8, atol=1e-8)
    assert coarse.log_evidence == pytest.approx(fine.log_evidence)
    path = answers.viterbi(SERIES, fine.mean)
    assert path != (answers.smoothed(SERIES, fine.mean) > 0.5).int().tolist()
    for shift in itertools.product((-0.5, 0.0, 0.5), repeat=2):
        assert answers.viterbi(SERIES, fine.mean + fine.sd * torch.tensor(shift)) == path  # of any likely means


def test_the_words_are_as_likely_as_draws_from_the_prior_say() -> None:
    evidence, following = answers.lda_exact(WORDS)
    torch.manual_seed(0)
    phi = Dirichlet(torch.ones(3)).sample(torch.Size((200_000, 2)))
    theta = Dirichlet(torch.ones(2)).sample(torch.Size((200_000, 2)))
    words = theta @ phi  # (draws, documents, vocabulary)
    weights = torch.stack([words[:, d, WORDS[d]].prod(-1) for d in range(2)]).prod(0)
    error = 5 * weights.std() / weights.mean() / math.sqrt(len(weights))
    assert abs(math.log(weights.mean()) - evidence) < error
    found = (weights[:, None, None] * words).mean(0) / weights.mean()
    np.testing.assert_allclose(found, following, atol=float(error))
    np.testing.assert_allclose(following.sum(1), 1.0)


@pytest.mark.parametrize(("a", "b"), [(5.0, 5.0), (2.0, 8.0)])
def test_the_mixtures_evidence_is_that_of_its_assignments(a: float, b: float) -> None:
    """The sum over all 2^8 assignments of eight rows, theta and mu integrated out."""
    y, terms = MIXED[8:16], []
    for z in itertools.product((0, 1), repeat=len(y)):
        labels = torch.tensor(z)
        heads = torch.tensor(float((labels == 0).sum()))
        term = torch.special.gammaln(torch.tensor([a + b, a + heads, b + len(y) - heads])).sum()
        term = term - torch.special.gammaln(torch.tensor([a, b, a + b + len(y)])).sum()
        for k in (0, 1):
            rows = y[labels == k]
            if len(rows):
                term = term + answers.independent(torch.ones(len(rows), 1), 3.0, 0.7).log_evidence(rows)
        terms.append(term)
    truth = float(torch.stack(terms).logsumexp(0))
    assert answers.mixture_evidence(a, b, y, points=401) == pytest.approx(truth, abs=2e-2)


def test_eight_schools_are_as_published() -> None:
    assert answers.schools_log_evidence(SCHOOLS_Y, SCHOOLS_SIGMA) == pytest.approx(-31.31, abs=0.01)
    assert answers.schools_elpd(SCHOOLS_Y, SCHOOLS_SIGMA) == pytest.approx(-30.7, abs=0.1)
    halves = [answers.schools_log_evidence(SCHOOLS_Y, SCHOOLS_SIGMA, points) for points in (5_000, 40_000)]
    assert halves[0] == pytest.approx(halves[1], abs=1e-6)


def test_swapping_twice_is_leaving_alone() -> None:
    theta, order = torch.tensor([0.3, 0.3]), torch.tensor([[0, 1], [1, 0]])
    torch.testing.assert_close(programs.swapped(theta, order), torch.tensor([0.3, 0.7]))
    np.testing.assert_allclose(programs.swapped(theta.numpy(), order.numpy()), [0.3, 0.7])
