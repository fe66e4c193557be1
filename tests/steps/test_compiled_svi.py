"""The compiled steps are those of `pyro.infer.SVI`: same loss, gradient, parameters, for the same noise."""

from typing import Any

import pyro
import pyrometer
import pytest
import torch
from pyro.infer import SVI
from pyro.optim import Adam, ClippedAdam, PyroOptim
from pyrometer.guides import catalogue
from pyrometer.inference.compilation.compiled import Compile
from pyrometer.inference.steps.adam import adam_of
from pyrometer.inference.steps.compiled_steps import (
    CompiledSteps,
    Schedule,
    compiled_steps,
    gap_to_pyro,
    joined,
    pyro_gradient,
)
from pyrometer.inference.steps.minibatches import Minibatches
from pyrometer.inference.steps.pairing import Pairing, pair
from pyrometer.models import GMM, BayesianGMM, CorrelatedGaussian, UnivariateMixture
from pyrometer.models.structure import Model
from pyrometer.models.trace import read_structure
from torch import Tensor
from truths import data_of, in_doubles, two_clusters

MODELS: list[Model] = [
    GMM(2),
    BayesianGMM(2),
    BayesianGMM(2, batch_size=10),
    UnivariateMixture(2),
    CorrelatedGaussian(),
]
ELIGIBLE = [(model, guide) for model in MODELS for guide in catalogue(model) if guide != "sampled"]


def _data(model: Model) -> Tensor:
    return two_clusters()[:, :1] if isinstance(model, UnivariateMixture) else two_clusters()


def _pair(model: Model, guide: str) -> Pairing:
    x = _data(model)
    return pair(model, catalogue(model)[guide](model), guide, data_of(x), read_structure(model, x), "auto")


def _compiled(pairing: Pairing, x: Tensor, optimizer: PyroOptim) -> CompiledSteps:
    minibatches = Minibatches(read_structure(pairing.model, x).subsampled, 0)
    steps, how = compiled_steps(pairing, optimizer, data_of(x), minibatches, Schedule(1000))
    assert steps is not None, how
    assert how == "script"
    return steps


@pytest.mark.parametrize(("model", "guide"), ELIGIBLE, ids=str)
def test_loss_and_gradient_are_those_of_pyro_for_the_same_noise(model: Model, guide: str) -> None:
    with in_doubles(validate=False):
        steps = _compiled(_pair(model, guide), _data(model), ClippedAdam({"lr": 0.01}))
        for value in steps.training.values:
            value += 0.05 * torch.randn_like(value)  # where the package itself did not look
        batch = steps.training.minibatches.draw(1)[0]
        loss, gradient = pyro_gradient(steps.training, batch)
        torch.manual_seed(0)
        got, *parts = steps.gradient(*steps.training.inputs(batch))
    assert float(got) == pytest.approx(loss, rel=1e-8)
    assert (joined(parts) - gradient).abs().max() <= 1e-8 * gradient.abs().max()


@pytest.mark.parametrize(
    ("of_loss", "of_gradient", "least"),
    [(0.0, 0.0, 0.0), (1e-6, 0.0, 5e-7), (0.0, 1e-6, 5e-7), (float("nan"), 0.0, 1e9)],
)
def test_a_step_with_another_loss_or_gradient_is_told_apart(of_loss: float, of_gradient: float, least: float) -> None:
    with in_doubles(validate=False):
        steps = _compiled(_pair(BayesianGMM(2), "auto_normal"), two_clusters(), ClippedAdam({"lr": 0.01}))

        def off(*inputs: Tensor) -> list[Tensor]:
            loss, *gradients = steps.gradient(*inputs)
            return [loss * (1 + of_loss), *(part * (1 + of_gradient) for part in gradients)]

        found = gap_to_pyro(off, steps.training, *steps.training.minibatches.draw(2))
    assert least <= found
    assert least > 0 or found < 1e-10


@pytest.mark.parametrize(
    "optimizer", [ClippedAdam({"lr": 0.05, "lrd": 0.99}), Adam({"lr": 0.05})], ids=["clip", "adam"]
)
def test_thirty_steps_end_where_those_of_pyro_end(optimizer: PyroOptim) -> None:
    model, x = BayesianGMM(2), two_clusters()
    with in_doubles(validate=False):
        pairing = _pair(model, "auto_normal")
        steps = _compiled(pairing, x, optimizer)
        start = [value.clone() for value in steps.training.values]
        torch.manual_seed(3)
        losses = [steps.take(batch, number) for number, batch in enumerate(steps.training.minibatches.draw(30))]
        end = joined(steps.training.values)
        for value, before in zip(steps.training.values, start, strict=True):
            value.copy_(before)
        torch.manual_seed(3)
        svi = SVI(pairing.program, pairing.guide, optimizer, pairing.elbo)
        expected = [svi.step(x) for _ in range(30)]
    assert losses == pytest.approx(expected, rel=1e-8)
    assert torch.allclose(end, joined(steps.training.values), rtol=1e-7, atol=1e-9)


def test_a_fit_is_the_same_compiled_or_not_and_says_which() -> None:
    options: dict[str, Any] = {"steps": 120, "draws": 10, "progress": False, "seed": 4}
    fast = pyrometer.svi(BayesianGMM(2), "mean_field", two_clusters(), **options)
    slow = pyrometer.svi(BayesianGMM(2), "mean_field", two_clusters(), compile=False, **options)
    assert (fast.compiled, slow.compiled) == ("script", "eager")
    assert fast.losses == pytest.approx(slow.losses, rel=1e-6)


def test_a_nan_stops_a_compiled_training_at_the_same_step() -> None:
    options: dict[str, Any] = {"steps": 120, "draws": 10, "progress": False, "lr": 1e6}
    messages = []
    modes: tuple[Compile, ...] = ("auto", False)
    for compile in modes:
        with pytest.warns(UserWarning, match="nan at step"):
            fit = pyrometer.svi(BayesianGMM(2), "mean_field", two_clusters(), compile=compile, **options)
        messages.append(fit.message)
    assert messages[0] == messages[1]


def test_score_functions_are_left_to_pyro_without_a_warning(recwarn: pytest.WarningsRecorder) -> None:
    fit = pyrometer.svi(GMM(2), "sampled", two_clusters(), steps=120, draws=10, progress=False)
    assert fit.compiled == "eager (TraceGraph_ELBO)"
    assert not [warning for warning in recwarn if "compiled" in str(warning.message)]


def test_a_model_that_looks_at_values_falls_back_with_one_warning() -> None:
    def model(x: Tensor) -> None:
        loc = pyro.sample("loc", pyro.distributions.Normal(x.new_zeros(()), 10.0))
        scale = 1.0 if float(loc) > 0 else 2.0
        with pyro.plate("data", len(x)):
            pyro.sample("x", pyro.distributions.Normal(loc, scale), obs=x)

    with pytest.warns(UserWarning, match="not compiled but eager: it cannot be traced") as caught:
        fit = pyrometer.svi(model, "auto_normal", two_clusters()[:, 0], steps=120, starts=2, draws=10, progress=False)
    assert fit.compiled.startswith("eager")
    assert sum("not compiled" in str(warning.message) for warning in caught) == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "optimizer",
    [ClippedAdam({"lr": 0.1, "lrd": 0.9, "clip_norm": 0.5}), Adam({"lr": 0.1, "eps": 1e-3})],
    ids=["clip", "adam"],
)
def test_adam_is_that_of_pyro_and_torch_whatever_the_gradients_strides(
    optimizer: PyroOptim, dtype: torch.dtype
) -> None:
    noise = torch.Generator().manual_seed(0)
    theirs = [torch.randn(rows, 5, dtype=dtype, generator=noise) for rows in (2, 4)]
    ours, adam = [value.clone() for value in theirs], adam_of(optimizer)
    assert adam is not None
    for _ in range(5):
        gradients = [torch.randn(5, rows, dtype=dtype, generator=noise).mT for rows in (2, 4)]
        adam.step(ours, gradients)
        for value, gradient in zip(theirs, gradients, strict=True):
            value.grad = gradient.clone()  # which Pyro clamps in place
        optimizer(theirs)
    torch.testing.assert_close(ours, theirs, rtol=1e-5 if dtype == torch.float32 else 1e-12, atol=1e-7)
