"""A training can be broken off and resumed, stops when it should, and warms up as it says."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyrometer
import pytest
import torch
from pyrometer import train
from pyrometer.errors import InputError
from pyrometer.inference.compilation.compiled import Compile
from pyrometer.inference.steps.compiled_steps import CompiledSteps
from pyrometer.models import VAE, BayesianGMM
from sklearn.decomposition import PCA

pytestmark = pytest.mark.filterwarnings("ignore:.*latent units are inactive")  # trained for no more than a moment

DIGITS = pyrometer.datasets.load("digits").to_numpy() / 16
TRAIN, TEST = DIGITS[:400], DIGITS[400:500]
MODEL = VAE(2, "mlp", "bernoulli", hidden=(16,))
WORDS: Any = ["a", "b"]
OPTIONS: dict[str, Any] = {"x_test": TEST, "batch_size": 64, "lr": 0.005, "draws": 5, "progress": False}


@pytest.mark.parametrize("compile", ["auto", False])
def test_a_resumed_training_has_the_numbers_of_an_unbroken_one(tmp_path: Path, compile: Compile) -> None:
    whole = train(MODEL, "encoder", TRAIN, epochs=24, compile=compile, **OPTIONS)
    train(MODEL, "encoder", TRAIN, epochs=18, compile=compile, checkpoint=tmp_path, **OPTIONS)
    resumed = train(MODEL, "encoder", TRAIN, epochs=24, compile=compile, checkpoint=tmp_path, resume=True, **OPTIONS)
    np.testing.assert_array_equal(resumed.losses, whole.losses)
    np.testing.assert_array_equal(resumed.test_losses, whole.test_losses)
    np.testing.assert_array_equal(resumed.encode(TEST), whole.encode(TEST))
    assert whole.compiled == ("script" if compile else "eager")


@pytest.mark.parametrize("hidden", [(16,), (200,)], ids=["Adam in the graph", "Adam in place"])
def test_compiled_or_not_the_losses_are_the_same_warm_up_included(hidden: tuple[int, ...]) -> None:
    options = {**OPTIONS, "epochs": 20, "warmup": 10}
    model = VAE(2, "mlp", "bernoulli", hidden=hidden)
    fast = train(model, "encoder_full", TRAIN, **options)
    slow = train(model, "encoder_full", TRAIN, compile=False, **options)
    np.testing.assert_allclose(fast.losses[:60], slow.losses[:60], rtol=1e-4)
    plain = train(model, "encoder_full", TRAIN, **{**options, "warmup": 0})
    assert fast.losses[0] < plain.losses[0]  # the divergence, which is positive, counts for a sixtieth


def test_it_stops_when_the_held_out_elbo_no_longer_rises_and_goes_back_to_the_best() -> None:
    model = VAE(8, "mlp", "bernoulli", hidden=(200,))
    fit = train(model, "encoder", DIGITS[:60], epochs=400, patience=5, **{**OPTIONS, "batch_size": 20})
    best = int(fit.test_losses.argmin())
    assert len(fit.test_losses) == best + 6 < 400
    assert "stopped after" in fit.message
    assert fit.test_losses[best] < fit.test_losses[0]
    again = train(model, "encoder", DIGITS[:60], epochs=best + 1, **{**OPTIONS, "batch_size": 20})
    np.testing.assert_allclose(fit.encode(TEST), again.encode(TEST), rtol=1e-4, atol=1e-5)


def test_units_that_collapse_onto_the_prior_are_counted() -> None:
    noise = np.random.default_rng(0).uniform(0.4, 0.6, size=(400, 4))  # as good as grey: nothing to learn
    with pytest.warns(UserWarning, match="2 of 2 latent units are inactive"):
        train(
            VAE(2, "linear", "bernoulli"), "encoder", noise, epochs=60, batch_size=50, lr=0.02, draws=2, progress=False
        )


def test_a_unit_that_is_lost_to_a_noise_still_too_large_is_told_from_one_that_rows_do_not_need() -> None:
    x = DIGITS[:, [18, 27, 36, 45]]
    loud = VAE(2, "mlp", hidden=(8,))
    loud.network(torch.tensor(x, dtype=torch.float32)).log_scale.data.fill_(3.0)
    with pytest.warns(UserWarning, match=r"the noise of p\(x \| z\), sd [0-9.]+, is still above .*: train longer"):
        train(loud, "encoder", x, epochs=30, lr=0.003, draws=2, progress=False)
    with pytest.warns(UserWarning, match="rows vary by more than the noise in 3 directions only: latent=3 would do"):
        train(VAE(9, "linear"), "encoder", x, epochs=20, draws=2, progress=False)


def test_where_rows_do_not_vary_no_smaller_number_of_units_is_said_to_do() -> None:
    for latent, mend in ((1, "there is nothing to encode"), (2, "latent=1 would do")):
        with pytest.warns(UserWarning, match=f"by more than the noise in 0 directions only: {mend}"):
            train(VAE(latent, hidden=(3,)), "encoder", torch.ones(30, 2).double(), epochs=1, draws=2, progress=False)


HELD_OUT: dict[str, Any] = {"x": DIGITS[:1600], "x_test": DIGITS[1600:], "progress": False}


def test_the_defaults_train_on_the_digits() -> None:
    fit = train(VAE(), "encoder", epochs=15, **HELD_OUT)
    assert -fit.test_losses.min() > 22  # PCA has 16.5
    assert fit.active_units().all()


@pytest.mark.slow
def test_the_defaults_end_by_themselves_and_at_the_best() -> None:
    fit = train(VAE(), "encoder", **HELD_OUT)
    assert "stopped after" in fit.message
    assert -fit.test_losses.min() > 28
    assert fit.active_units().all()


@pytest.mark.parametrize("data", ["digits", "iris", "wine"])
def test_the_linear_decoder_ends_at_probabilistic_pca(data: str) -> None:
    x = DIGITS if data == "digits" else pyrometer.datasets.load(data).select_dtypes("number").to_numpy()
    fit = train(VAE(2, "linear"), "encoder", x, epochs=30 if data == "digits" else None, progress=False)
    best = PCA(2).fit(x).score(x)
    assert best - 0.1 < fit.elbo_draws.mean() / len(x) < best + 0.02  # its Monte Carlo error


def refused(message: str, **options: Any) -> None:
    with pytest.raises(InputError) as caught:
        train(**{"model": MODEL, "guide": "encoder", "x": TRAIN, "epochs": 1, **OPTIONS, **options})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_trained_or_resumed_is_refused_in_one_line(tmp_path: Path) -> None:
    refused("patience needs x_test", patience=3, x_test=None)
    several = {"model": BayesianGMM(2), "x": TRAIN[:, 20:24], "x_test": None}
    refused("each row's own, and BayesianGMM has some that rows share: use svi", **several)
    refused("guide free has no q for held-out rows", guide="free")
    refused("binarize='often' is unknown: choose one of fixed, stochastic", binarize="often")
    refused("binarize=<NA> is unknown: choose one of fixed, stochastic", binarize=pd.NA)
    refused("wants entries within [0, 1], and x has 0 to 16: rescale it", binarize="fixed", x=TRAIN * 16)
    refused("epochs=0 must be a whole number", epochs=0)
    refused("wants entries within [0, 1]", x_test=TEST * 16)
    refused("x_test has shape (100, 60)", x_test=TEST[:, :60])
    refused("resume needs the folder of a checkpoint", resume=True)
    refused("holds no checkpoint: train without resume first", resume=True, checkpoint=tmp_path)
    train(MODEL, "encoder", TRAIN, epochs=1, checkpoint=tmp_path, **OPTIONS)
    refused("is of another training, model", model=VAE(3), resume=True, checkpoint=tmp_path)
    refused("is of another training, guide encoder", guide="encoder_full", resume=True, checkpoint=tmp_path)
    (tmp_path / "checkpoint.pt").write_bytes(b"not a checkpoint")
    refused("is no checkpoint, or a damaged one: remove it", resume=True, checkpoint=tmp_path)


def test_stochastic_binarisation_shows_every_epoch_other_pixels_and_a_compiled_step_sees_them() -> None:
    options = {**OPTIONS, "epochs": 20, "lr": 0.02, "draws": 2}
    fits = {how: train(MODEL, "encoder", TRAIN, binarize=how, **options) for how in ("fixed", "stochastic")}
    again = train(MODEL, "encoder", TRAIN, binarize="stochastic", **options)
    eager = train(MODEL, "encoder", TRAIN, binarize="stochastic", compile=False, **options)
    np.testing.assert_array_equal(fits["stochastic"].losses, again.losses)
    np.testing.assert_allclose(fits["stochastic"].losses[:60], eager.losses[:60], rtol=1e-4)
    pixels = fits["fixed"].data.values
    assert pixels.unique().tolist() == [0, 1]
    assert torch.equal(pixels, fits["stochastic"].data.values)
    grey = torch.as_tensor(TRAIN)
    assert abs(float((pixels - grey).mean())) < 4 * float((grey * (1 - grey)).mean() / grey.numel()) ** 0.5
    assert abs(fits["fixed"].losses[6:12] - fits["stochastic"].losses[6:12]).min() > 1  # from the second epoch on


def test_a_stochastic_training_resumes_to_the_same_numbers(tmp_path: Path) -> None:
    options = {**OPTIONS, "binarize": "stochastic", "checkpoint": tmp_path}
    whole = train(MODEL, "encoder", TRAIN, epochs=24, **{**options, "checkpoint": None})
    train(MODEL, "encoder", TRAIN, epochs=18, **options)
    resumed = train(MODEL, "encoder", TRAIN, epochs=24, resume=True, **options)
    np.testing.assert_array_equal(resumed.losses, whole.losses)


def test_a_data_loader_is_as_good_as_an_array() -> None:
    rows = torch.as_tensor(TRAIN)
    pairs = torch.utils.data.TensorDataset(rows, torch.zeros(len(rows)))
    options = {**OPTIONS, "epochs": 2}
    plain = train(MODEL, "encoder", TRAIN, **options)
    sets: tuple[Any, ...] = (rows, pairs)
    for loader in (torch.utils.data.DataLoader(each, 50) for each in sets):
        np.testing.assert_array_equal(train(MODEL, "encoder", loader, **options).losses, plain.losses)
    with pytest.raises(InputError, match="x is a DataLoader of strs"):
        train(MODEL, "encoder", torch.utils.data.DataLoader(WORDS, collate_fn=lambda batch: batch[0]), **options)


def test_the_device_is_honoured_and_one_that_is_not_there_is_refused_in_one_line() -> None:
    fit = train(VAE(2, "mlp", "bernoulli", hidden=(16,), device="cpu"), "encoder", TRAIN, **{**OPTIONS, "epochs": 1})
    assert fit.data.values.device.type == "cpu"
    with pytest.raises(InputError, match=r"device='nowhere' cannot be used: .*; choose cpu$"):
        VAE(2, device="nowhere")


def test_interrupted_in_the_middle_of_an_epoch_it_has_a_loss_for_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[float] = []
    before = CompiledSteps.take

    def interrupted(self: CompiledSteps, batch: torch.Tensor, step: int) -> float:
        if len(taken) == 130:
            raise KeyboardInterrupt
        taken.append(before(self, batch, step))
        return taken[-1]

    monkeypatch.setattr(CompiledSteps, "take", interrupted)
    fit = train(MODEL, "encoder", TRAIN, epochs=4, **{**OPTIONS, "batch_size": 4})  # of 100 steps
    assert fit.steps == 130
    np.testing.assert_array_equal(fit.losses, taken)
    assert fit.message == "interrupted after 1 epochs"
