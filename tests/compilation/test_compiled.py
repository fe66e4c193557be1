"""However the density is run, value and gradient are those of the eager one, and a failure costs only time."""

from typing import Any
from unittest.mock import Mock

import pyrometer
import pytest
import torch
from pyrometer.inference.compilation import compiled
from pyrometer.inference.compilation.compiled import Tier, fusible, value_and_gradient
from pyrometer.inference.compilation.fusible import once
from pyrometer.inference.compilation.graph import traced
from pyrometer.inference.density.log_density import Density
from pyrometer.inference.mcmc.chains import start_of
from pyrometer.models import BayesianGMM, UnivariateMixture
from torch import Tensor
from truths import COUNTS, data_of, in_doubles, normal_mean, poisson_mixture, two_clusters

X = two_clusters()


def agrees(model: Any, x: Tensor, tier: Tier) -> None:
    with in_doubles(validate=False):
        density = Density(model, data_of(x))
        start = start_of(density, 0)
        both, how = value_and_gradient(density.log_density, start, start + 0.1, tiers=(tier,))
        assert how == tier
        for _ in range(3):  # TorchScript changes its mind over its first calls
            point = (start + 0.3 * torch.randn_like(start)).requires_grad_()
            value = density.log_density(point)
            (gradient,) = torch.autograd.grad(value, point)
            got, got_gradient = both(point.detach())
            torch.testing.assert_close(got, value.detach(), rtol=1e-8, atol=0)
            torch.testing.assert_close(got_gradient, gradient, rtol=1e-8, atol=1e-8 * float(gradient.abs().max()))


@pytest.mark.parametrize(
    ("model", "x"),
    [
        (BayesianGMM(2), X),
        (BayesianGMM(3, "diagonal"), X),
        (UnivariateMixture(2), X[:, 0]),
        (poisson_mixture, COUNTS.double()),
        (normal_mean, X[:, 0]),
    ],
    ids=["full", "diagonal", "univariate", "poisson", "normal"],
)
def test_scripted_value_and_gradient_are_the_eager_ones_at_fresh_points(model: Any, x: Tensor) -> None:
    agrees(model, x, "script")


def test_a_graph_may_hold_a_tensor_that_is_trained() -> None:
    weight = torch.nn.Parameter(torch.tensor([2.0, 3.0]))
    made, how = value_and_gradient(lambda point: (weight * point.square()).sum(), torch.ones(2), torch.zeros(2))
    value, gradient = made(torch.tensor([1.0, 2.0]))
    assert (how, value.item(), gradient.tolist()) == ("script", 14.0, [4.0, 12.0])


def test_inductor_agrees_too_and_compiles_once_for_all_data_of_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    compile = Mock(side_effect=torch._inductor.compile)
    monkeypatch.setattr(torch._inductor, "compile", compile)
    agrees(BayesianGMM(2), X, "inductor")
    agrees(BayesianGMM(2), X.flip(0) * 1.5 + 7.0, "inductor")
    assert compile.call_count == 1


def test_small_products_and_running_totals_are_spelt_out_without_a_change() -> None:
    def fn(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b).cumsum(-1).cumprod(-2) + (a @ b).cumsum(0)

    args = torch.randn(4, 3, 5).double(), torch.randn(4, 5, 6).double()
    module = fusible(traced(fn, args).module, args)
    assert not any(name in module.code for name in ("bmm", "cumsum", "cumprod"))
    torch.testing.assert_close(module(*args)[0], fn(*args), rtol=1e-12, atol=1e-12)
    big = torch.randn(4, 300, 50).double(), torch.randn(4, 50, 60).double()
    assert "bmm" in fusible(traced(fn, big).module, big).code


def test_what_is_alike_along_a_dimension_is_computed_once_without_a_change() -> None:
    def fn(weights: Tensor, x: Tensor) -> Tensor:
        log_weights = weights.expand(len(x), -1).log()  # of each row the same
        logits = log_weights - (x[:, None] - weights) ** 2 / (weights.sum() + log_weights.amax(1, keepdim=True))
        return logits.logsumexp(-1).sum() + log_weights.sum(0).prod() + log_weights.reshape(-1)[3:].sum()

    args = torch.tensor([0.3, 0.7]).double(), torch.randn(50).double()
    plain = traced(fn, args).module
    module = once(plain, args)
    torch.testing.assert_close(module(*args)[0], fn(*args), rtol=1e-12, atol=1e-12)
    (found,) = (node for node in module.graph.nodes if node.target is torch.ops.aten.log.default)
    assert found.meta["val"].numel() == 2
    others = torch.tensor([0.1, 0.4]).double(), torch.randn(50).double()
    torch.testing.assert_close(module(*others)[0], fn(*others), rtol=1e-12, atol=1e-12)


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inductor as it is where no C++ compiler is found."""

    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("No working C++ compiler found")

    monkeypatch.setattr(compiled, "_inducted", {})
    monkeypatch.setattr(torch._inductor, "compile", fails)


@pytest.mark.usefixtures("no_compiler")
def test_without_a_compiler_svi_goes_on_with_one_warning_that_says_why() -> None:
    with pytest.warns(UserWarning, match="No working C") as caught:
        fit = pyrometer.svi(normal_mean, "auto_normal", X[:, 0], steps=100, draws=10, compile=True, progress=False)
    assert fit.compiled.startswith("eager")
    assert sum("No working C" in str(warning.message) for warning in caught) == 1


def test_what_was_asked_for_is_recorded() -> None:
    options: dict[str, Any] = {"warmup": 20, "draws": 20, "chains": 1, "progress": False}
    assert pyrometer.nuts(normal_mean, X[:, 0], **options).compiled == "script"
    assert pyrometer.nuts(normal_mean, X[:, 0], compile=False, **options).compiled == "eager"
