"""The importance-weighted objective is the bound of its paper, row by row, and unbiased under minibatches."""

import math
from typing import Any

import pyro
import pyrometer
import pytest
import torch
from latent_truths import row_density
from pyro.infer import RenyiELBO, Trace_ELBO
from pyrometer import guides, svi
from pyrometer.errors import InputError
from pyrometer.inference.local_latents.marginal import Budget, estimate
from pyrometer.inference.local_latents.target import target_of
from pyrometer.inference.steps.iwae import IWAE
from pyrometer.models import VAE, BayesianGMM
from torch import Tensor

X = torch.randn(60, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def pair(batch_size: int | None = None) -> tuple[VAE, Any]:
    pyro.clear_param_store()
    torch.manual_seed(0)
    model = VAE(2, "linear", batch_size=batch_size, dtype=torch.float64)
    guide: Any = guides.catalogue(model)["encoder"](model)
    guide.build(X)
    model.network(X)
    return model, guide


def loss_and_gradient(elbo: Trace_ELBO) -> tuple[float, list[Tensor]]:
    model, guide = pair()
    torch.manual_seed(1)
    loss = elbo.loss_and_grads(model, guide, X)
    return loss, [value.unconstrained().grad for _, value in sorted(pyro.get_param_store().items())]


def test_with_one_particle_it_is_the_elbo() -> None:
    loss, gradient = loss_and_gradient(IWAE(1))
    expected, gradient_of_elbo = loss_and_gradient(Trace_ELBO())
    assert loss == pytest.approx(expected, rel=1e-12)
    for ours, theirs in zip(gradient, gradient_of_elbo, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_it_is_the_mean_of_the_weights_of_each_row_inside_the_logarithm() -> None:
    model, guide = pair()
    torch.manual_seed(1)
    loss = IWAE(7).loss(model, guide, X)
    torch.manual_seed(1)
    q = guide.posterior(X)
    z = q.sample((7,))
    weights = (model.log_joint(z, X) - q.log_prob(z)).detach()
    assert loss == pytest.approx(-float((weights.logsumexp(0) - math.log(7)).sum()), rel=1e-12)


def test_a_minibatch_is_unbiased_for_all_rows_where_renyi_is_not() -> None:
    model, guide = pair(batch_size=10)
    model.network(X).get_submodule("network.0").weight.data.mul_(4)  # type: ignore[operator]  # the bound of five draws is far from the ELBO
    rows = target_of(row_density(model, X), guide)
    bound, elbo = (-estimate(rows, method, Budget()).value.sum() for method in ("iwae_5", "elbo"))
    torch.manual_seed(1)
    losses = torch.tensor([IWAE(5).loss(model, guide, X) for _ in range(2000)])
    standard_error = float(losses.std()) / math.sqrt(len(losses))
    assert abs(float(losses.mean()) - bound) < 4 * standard_error
    assert elbo - bound > 20 * standard_error
    renyi = RenyiELBO(alpha=0, num_particles=5, vectorize_particles=True, max_plate_nesting=1)
    losses = torch.tensor([renyi.loss(model, guide, X) for _ in range(1000)])
    assert abs(float(losses.mean()) - bound) > 20 * standard_error


def test_trained_on_it_the_bound_of_five_draws_is_better_and_compiled_it_is_the_same() -> None:
    x = pyrometer.datasets.load("digits").to_numpy()[:300] / 16
    model = VAE(5, "mlp", "bernoulli", hidden=(32,))
    options: dict[str, Any] = {"batch_size": 100, "steps": 600, "lr": 0.005, "draws": 5, "progress": False}
    fits = [svi(model, "encoder", x, estimator=estimator, **options) for estimator in ("auto", "IWAE")]
    eager = svi(model, "encoder", x, estimator=IWAE(5), compile=False, **options)
    assert fits[1].compiled == "script"
    assert fits[1].losses[:50] == pytest.approx(eager.losses[:50], rel=1e-4)
    bounds = [fit.log_likelihood(method="iwae_5")["estimate"].mean() for fit in fits]  # type: ignore[attr-defined]
    assert bounds[1] > bounds[0] + 0.1


@pytest.mark.parametrize(("model", "guide"), [(BayesianGMM(2), "auto_normal"), (VAE(2, "linear"), "auto_mvn")])
def test_a_site_shared_by_rows_is_refused(model: pyrometer.models.VAE, guide: str) -> None:
    with pytest.raises(InputError, match=r"IWAE weighs rows one by one, and guide auto_|cannot sum out site 'z'"):
        svi(model, guide, X.numpy(), estimator="IWAE", steps=1, progress=False)
