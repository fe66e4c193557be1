"""A VAE with labels: what enumeration sums is the sum by hand, few labels go a long way, and what does not fit."""

import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pyro
import pyrometer
import pytest
import torch
from pyro import poutine
from pyro.infer import TraceEnum_ELBO, config_enumerate
from pyrometer.errors import InputError
from pyrometer.guides.vae import LabelledEncoder
from pyrometer.inference.local_latents.latent_nuts import LatentDraws
from pyrometer.inference.local_latents.marginal import Budget
from pyrometer.inference.runtime.isolation import isolated
from pyrometer.models import VAE, LabelledVAE
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.nn.functional import log_softmax

pytestmark = pytest.mark.filterwarnings("ignore:.*latent units are inactive")

X = pyrometer.datasets.pixels("digits").to_numpy()
Y = pyrometer.datasets.labels("digits").to_numpy()
MODEL = LabelledVAE(10, likelihood="bernoulli", hidden=(200,), labels=10, semi_supervised=True, weight=10.0)


def few(seed: int, each: int = 10) -> np.ndarray:
    """Labels of so many of the first 1600 rows a digit, the rest missing."""
    shuffled = np.random.default_rng(seed).permutation(1600)
    known = np.concatenate([shuffled[Y[shuffled] == digit][:each] for digit in range(10)])
    labels = np.full(1600, np.nan)
    labels[known] = Y[known]
    return labels


def by_hand(model: LabelledVAE, guide: LabelledEncoder, x: Tensor, labels: Tensor, z: Tensor) -> Tensor:
    """Minus the bound of Kingma et al. (2014), eqs. 6 to 9, at z (K, M, L), one draw for each row and class."""
    log_q_y = log_softmax(guide.class_logits(x), -1)
    total = torch.zeros(())
    for n in range(len(x)):
        bounds = []
        for k in range(model.classes):
            at = z[k, n]
            q = guide.given(x[n : n + 1], torch.tensor([k])).log_prob(at)[0]
            given = model.network(x)(model.with_class(at, torch.tensor(k))).log_prob(x[n])
            bounds.append(given + model.p_z(x).log_prob(at) - np.log(model.classes) - q)
        if labels[n] >= 0:
            total = total - bounds[int(labels[n])] - model.weight * log_q_y[n, int(labels[n])]
        else:
            total = total - sum(log_q_y[n, k].exp() * (bounds[k] - log_q_y[n, k]) for k in range(model.classes))
    return total


def test_the_enumerated_loss_is_the_sum_by_hand() -> None:
    x, labels = torch.tensor(X[:9]), torch.tensor([0.0, 2.0, np.nan, np.nan, 1.0, -1.0, np.nan, 2.0, np.nan])
    model = LabelledVAE(3, likelihood="gaussian", hidden=(7,), labels=3, semi_supervised=True, weight=2.5)
    guide = LabelledEncoder(model)
    with isolated(0, torch.float64):
        elbo = TraceEnum_ELBO(max_plate_nesting=1)
        program = config_enumerate(model)
        program(x, labels)
        guide(x, labels)
        pyro.set_rng_seed(3)
        loss = elbo.loss(program, guide, x, labels)
        pyro.set_rng_seed(3)
        drawn = poutine.trace(poutine.enum(guide, first_available_dim=-2)).get_trace(x, labels).nodes["z"]["value"]
        with torch.no_grad():
            expected = float(by_hand(model, guide, x, labels, drawn.expand(3, 9, 3)))
    assert loss == pytest.approx(expected, rel=1e-10, abs=1e-6)


def test_the_density_of_a_row_sums_the_missing_label_out_and_has_the_known_one() -> None:
    x, labels = X[:60], np.where(np.arange(60) % 2, Y[:60], np.nan)
    fit: Any = pyrometer.train(MODEL, "encoder", (x, labels), epochs=1, draws=2, progress=False)
    rows, model = fit.row_density(), fit.model
    z = torch.randn(60, 10)
    with rows.data.isolated(0), torch.no_grad():
        found = rows.log_joint(z)
        each = [model.network(rows.data.values)(model.with_class(z, torch.full((60,), k))).log_prob(rows.data.values)
                for k in range(10)]  # fmt: skip
        likelihood = torch.stack(each, -1) - np.log(10)
        given = torch.where(
            torch.arange(60) % 2 == 1,
            likelihood[torch.arange(60), torch.tensor(Y[:60])],
            likelihood.logsumexp(-1),
        )
        torch.testing.assert_close(found, given + model.p_z(rows.data.values).log_prob(z))


def accuracy(seed: int, epochs: int) -> tuple[float, float]:
    """Held out, of p(y | x) with 100 labels, and of a logistic regression on the same."""
    labels = few(seed)
    fit = pyrometer.train(MODEL, "encoder", (X[:1600], labels), epochs=epochs, seed=seed, draws=2, progress=False)
    told = fit.predict((X[1600:], np.full(197, np.nan))).to_numpy()
    known = np.isfinite(labels)
    peer = LogisticRegression(max_iter=2000).fit(X[:1600][known], labels[known])
    return float((told == Y[1600:]).mean()), float(peer.score(X[1600:], Y[1600:]))


def test_a_hundred_labels_and_fifteen_hundred_rows_without_tell_the_digits_apart() -> None:
    assert accuracy(0, 20)[0] > 0.8


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_trained_to_the_end_the_accuracy_is_that_of_its_paper_s_kind(seed: int) -> None:
    own, peer = accuracy(seed, 60)
    assert own > 0.85
    assert own > peer - 0.03


def test_all_labels_given_it_is_conditional_and_draws_the_digit_asked_for() -> None:
    model = VAE(2, likelihood="bernoulli", hidden=(100,), labels=10)
    fit = pyrometer.train(model, "encoder", (X[:1000], Y[:1000]), x_test=(X[1000:1100], Y[1000:1100]), epochs=20,
                          progress=False)  # fmt: skip
    assert (fit.estimator, fit.compiled) == ("TraceMeanField_ELBO", "script")
    asked = np.arange(10)
    drawn = fit.decode(np.zeros((10, 2)), (X[:10], asked))
    nearest = LogisticRegression(max_iter=2000).fit(X, Y).predict(drawn)
    assert (nearest == asked).mean() >= 0.8


def test_labels_that_do_not_fit_are_refused_in_one_line() -> None:
    def refused(message: str, given: Any, **options: Any) -> None:
        made = lambda: VAE(2, hidden=(8,), **{"labels": 10, **options})  # noqa: E731
        with pytest.raises(InputError) as caught:
            pyrometer.train(made(), "encoder", (X[:20], given), epochs=1, progress=False)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)

    refused("labels has shape (19,) for 20 rows of x: give one a row", Y[:19])
    refused("labels: that of row 2 is 12, and the model has classes 0 to 9", np.where(np.arange(20) == 2, 12, Y[:20]))
    refused("labels: that of row 4 is missing: say semi_supervised=True", np.where(np.arange(20) == 4, -1, Y[:20]))
    refused("x[1], row 4: is missing (NaN)", np.where(np.arange(20) == 4, np.nan, Y[:20]))
    refused("labels=1 must be the number of classes, 2 or more", Y[:20], labels=1)


def tiny(rows: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Rows (rows, 3) of two classes, and their labels, two in three of them missing."""
    rng = np.random.default_rng(0)
    y, z = rng.integers(0, 2, rows), rng.normal(size=(rows, 1))
    x = z * [1.0, -0.5, 0.3] + y[:, None] * [1.5, 1.0, -0.5] + 0.5 * rng.normal(size=(rows, 3))
    return x, np.where(np.arange(rows) % 3 == 0, y, np.nan)


def on_a_grid(fit: Any, rows: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """log p(x) and the ELBO of the guide's q(z | x), one entry of z, by quadrature: (M,) each."""
    x, labels = (value[rows] for value in fit.data.tensors)
    model: Any = fit.model
    grid = torch.linspace(-9, 9, 6001, dtype=x.dtype)
    z, width, each = grid[:, None, None].expand(-1, len(x), 1), grid[1] - grid[0], []
    for k in range(2):
        hot = torch.eye(2, dtype=x.dtype)[k].expand(*z.shape[:-1], 2)
        given = model.network(x)(torch.cat([z, hot], -1)).log_prob(x)
        each.append(torch.where((labels >= 0) & (labels != k), -torch.inf, given - np.log(2)))
    log_joint = torch.stack(each).logsumexp(0) + torch.distributions.Normal(0.0, 1.0).log_prob(grid)[:, None]
    q = fit.guide.posterior(x, None, labels)
    log_q = q.log_prob(z)
    elbo = (log_q.exp() * (log_joint - log_q)).sum(0) * width
    return (log_joint.logsumexp(0) + width.log()).detach().numpy(), elbo.detach().numpy()


def test_gaps_of_a_mixture_over_the_missing_label_are_those_of_quadrature() -> None:
    model = VAE(1, "linear", hidden=(8,), dtype=torch.float64, labels=2, semi_supervised=True)
    fit = pyrometer.train(model, "encoder", tiny(), epochs=3, draws=2, progress=False)
    rows = [0, 1, 2]  # the first with its label
    unused = LatentDraws(np.random.default_rng(0).normal(size=(2, 50, 3, 1)), np.zeros(3))
    budget = Budget(draws=10_000, chains=16, error=0.04)
    found = fit.gaps(rows, budget=budget, steps=300, nuts=unused).droplevel(0)
    log_p, elbo = on_a_grid(fit, rows)
    assert (found["family"] == "mixture of mean_field").all()
    for name, exact in {"log_p": log_p, "elbo": elbo}.items():
        assert (np.abs(found[name] - exact) < 5 * found[f"{name}_se"] + 1e-3).all()
        assert found[f"{name}_se"].max() < 0.05
    # the decoder is linear: p(z | x) is a mixture of two normals, the best of the family is the posterior itself
    assert (found["approximation_gap"].abs() < 5 * found["approximation_gap_se"] + 1e-3).all()
    assert (log_p - elbo).min() > 0.05


def test_what_is_decoded_is_averaged_over_the_missing_label_and_goes_from_row_to_row() -> None:
    model = VAE(1, "linear", hidden=(8,), dtype=torch.float64, labels=2, semi_supervised=True)
    x, labels = tiny()
    fit = pyrometer.train(model, "encoder", (x, labels), epochs=3, draws=2, progress=False)
    program: Any = fit.model
    decoder, z = program.network(fit.data.values), torch.as_tensor(fit.encode())
    both = torch.stack([decoder(torch.cat([z, torch.eye(2).double()[[k] * 60]], -1)).mean for k in range(2)])
    log_odds = [decoder(torch.cat([z, torch.eye(2).double()[[k] * 60]], -1)).log_prob(fit.data.values) for k in (0, 1)]
    share = torch.stack(log_odds).softmax(0).detach().numpy()
    share[:, ::3] = labels[::3] == np.arange(2)[:, None]
    expected = (share[..., None] * both.detach().numpy()).sum(0)
    np.testing.assert_allclose(fit.reconstruct(), expected, atol=1e-9)
    path = fit.interpolate((x[0], labels[0]), (x[1], labels[1]), steps=5)
    np.testing.assert_allclose(path[[0, -1]], expected[:2], atol=1e-9)
    with pytest.raises(InputError, match="a row has 1 part: give each as"):
        fit.interpolate(x[0], x[1])
    with pytest.raises(InputError, match="LabelledVAE has discrete sites, which no completion draws"):
        fit.complete((x[:2], labels[:2]), np.ones((2, 3), bool))


def test_a_conditional_one_completes_rows_of_the_class_they_are_told() -> None:
    x, y = tiny(600)
    y = np.nan_to_num(y, nan=0)
    x[:, 1:] += 3 * y[:, None]  # by the class alone are the missing entries known
    model = VAE(1, "linear", hidden=(8,), dtype=torch.float64, labels=2)
    fit = pyrometer.train(model, "encoder", (x, y), epochs=30, lr=0.01, draws=2, progress=False)
    known = np.array([[True, False, False]]).repeat(2, 0)
    found = fit.complete((np.zeros((2, 3)), np.array([0, 1])), known, steps=200)
    assert (found[:, 0] == 0).all()
    assert found[1, 1] - found[0, 1] == pytest.approx(3, abs=1)
    assert fit.completions((np.zeros((2, 3)), np.array([0, 1])), known, draws=4).shape == (4, 2, 3)


def test_labels_make_the_labelled_program_and_no_other_takes_them() -> None:
    class Own(VAE):
        """Any subclass."""

    assert isinstance(VAE(2, labels=3), LabelledVAE)
    assert VAE(2, labels=3) == LabelledVAE(2, labels=3)
    assert type(VAE(2)) is VAE
    assert replace(VAE(2, labels=3), latent=4) == VAE(4, labels=3)
    assert pickle.loads(pickle.dumps(VAE(2, labels=3))) == VAE(2, labels=3)
    with pytest.raises(InputError, match="Own takes no labels: derive it from LabelledVAE"):
        Own(2, labels=3)
    with pytest.raises(InputError, match="semi_supervised=True needs labels, the number of classes"):
        VAE(2, semi_supervised=True)
