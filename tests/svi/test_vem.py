"""Variational EM: q(z) and the model take turns on one bound, which meets the likelihood where q is the posterior."""

import pyro
import pytest
import torch
from pyro.infer import TraceEnum_ELBO, config_enumerate
from pyrometer import datasets
from pyrometer.guides import catalogue
from pyrometer.inference.closed_form import em
from pyrometer.inference.density.log_density import Density
from pyrometer.inference.runtime.isolation import isolated
from pyrometer.inference.svi.vem import TurnTakingAdam, vem
from pyrometer.models import GMM

X = datasets.faithful()
COVARIANCES = ["full", "diagonal", "tied", "spherical"]


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_the_bound_is_the_likelihood_when_q_is_the_exact_posterior(covariance: str) -> None:
    model = GMM(2, covariance=covariance)  # type: ignore[arg-type]
    fit = em(model, X)
    x = fit.data.values
    logits = Density(model, fit.data, fit.params).assignment_logits({})
    bounds = []
    with isolated(0, torch.float64):
        store = pyro.get_param_store()
        guide = catalogue(model)["responsibilities"](model)
        model(x)
        guide(x)
        for name, value in fit.params.items():
            store[name] = value
        for shift in (0.0, 1.0):  # another q only lowers the bound
            store["assignment_logits"] = logits + shift * torch.arange(2)
            elbo = TraceEnum_ELBO(max_plate_nesting=1)
            bounds.append(-elbo.loss(config_enumerate(model), guide, x))
    assert bounds[0] == pytest.approx(-fit.losses[-1], rel=1e-10)
    assert bounds[1] < bounds[0] - 1e-3


def test_the_model_and_the_guide_take_turns() -> None:
    ours, theirs = (torch.nn.Parameter(torch.zeros(1)) for _ in range(2))
    sides = ((ours, True), (theirs, False))
    optimizers = [TurnTakingAdam([p], lr=0.1, decay=1.0, e_steps=2, is_model=m) for p, m in sides]
    moved = []
    for _ in range(6):
        before = [p.item() for p in (ours, theirs)]
        for parameter, optimizer in zip((ours, theirs), optimizers, strict=True):
            parameter.grad = torch.ones(1)
            optimizer.step()
        moved.append([p.item() != b for p, b in zip((ours, theirs), before, strict=True)])
    assert moved == [[False, True], [False, True], [True, False]] * 2


@pytest.mark.parametrize(
    ("guide", "batch_size", "within"),
    [("responsibilities", None, 1.0), ("amortized", None, 1.0), ("amortized", 64, 3.0)],
)
def test_it_reaches_ems_likelihood(guide: str, batch_size: int | None, within: float) -> None:
    exact = em(GMM(2), X)
    fit = vem(GMM(2), guide, X, steps=1200, batch_size=batch_size, draws=2, progress=False)
    assert fit.name == f"vem_{guide}"
    bound = fit.elbo_draws.mean()
    assert -exact.losses[-1] - within < bound < -exact.losses[-1] + 1e-6
