"""Whether a decoder loses: known where it is PCA itself, where it is bad on purpose, and where it learns by heart."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pyrometer
import pytest
import torch
from pyrometer.inference.compare.decoder import Judged, judge_decoder, what_loses
from pyrometer.inference.data.new_data import as_new_data
from pyrometer.models import VAE
from torch import Tensor, nn

pytestmark = pytest.mark.filterwarnings("ignore:.*latent units are inactive")


def plane(rows: int, noise: float = 0.3, seed: int = 0) -> np.ndarray:
    """Rows (rows, 6) about a plane."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, 2)) @ rng.normal(size=(2, 6)) + noise * rng.normal(size=(rows, 6))


X = plane(400)


def judged(model: Any, x: np.ndarray, x_test: np.ndarray | None, **options: Any) -> Judged:
    fit = pyrometer.train(model, "encoder", x, **{"epochs": 3, "draws": 2, "progress": False, **options})
    found = judge_decoder(fit, None if x_test is None else as_new_data(x_test, fit.data))
    assert found is not None
    return found


def test_a_linear_decoder_is_as_good_as_pca_whose_log_p_is_exact() -> None:
    found = judged(VAE(2, "linear"), X[:300], X[300:])
    assert found.rival == "probabilistic PCA with 2 dimensions"
    assert abs(found.gain) < 0.1
    assert found.loss == 0
    alone = judged(VAE(2, "linear"), X[:300], None)
    assert "without x_test it cannot be told what is learnt by heart" in alone.said
    assert math.isnan(alone.learnt)


def test_a_decoder_that_is_bad_on_purpose_is_below_pca_and_said_to_lose() -> None:
    class Deaf(nn.Module):
        """Decodes to one point, whatever z is."""

        def __init__(self) -> None:
            super().__init__()
            self.point = nn.Parameter(torch.zeros(6))

        def forward(self, z: Tensor) -> Tensor:
            return self.point + 0 * z[:, :1]

    found = pyrometer.compare(VAE(2, Deaf(), hidden=(16,)), X[:300], ["encoder"], x_test=X[300:], steps=300, starts=1,
                              lr=0.01, rows=2, warmup=50, draws=50, progress=False)  # fmt: skip
    (said,) = (note for note in found.notes if note.startswith("take encoder"))
    assert "nats a row less than probabilistic PCA with 2 dimensions held out" in said
    assert "the decoder loses most" in said
    assert said.endswith("try train longer, or another decoder and likelihood")


def test_a_decoder_that_has_learnt_its_rows_by_heart_is_told_by_rows_held_out() -> None:
    x = plane(240, 1.0)
    model = VAE(4, hidden=(128,), likelihood="gaussian_diagonal")
    found = judged(model, x[:40], x[40:], epochs=400, batch_size=40, lr=3e-3)
    assert found.by_heart > 1
    assert found.below > 1
    assert "beyond that on the rows it was trained on" in found.said


def test_black_and_white_pixels_are_held_to_independent_ones() -> None:
    digits = (pyrometer.datasets.pixels("digits").to_numpy() > 0.5).astype(float)
    found = judged(VAE(2, likelihood="bernoulli", hidden=(64,)), digits[:600], digits[600:700], epochs=20, lr=3e-3)
    assert found.rival == "independent pixels of the same means"
    assert found.gain > 2
    assert found.below == 0


def gaps(**figures: tuple[float, float]) -> pd.DataFrame:
    table = pd.DataFrame.from_dict(figures, orient="index", columns=["approximation_gap", "amortisation_gap"])
    return table.assign(gap=table.sum(axis=1), gap_se=0.01)


def test_one_sentence_says_which_guide_to_take_and_which_of_the_three_loses() -> None:
    table = gaps(encoder=(0.5, 0.1), encoder_full=(0.2, 0.12), free=(0.5, 0.0))
    good = Judged("PCA", 3.0, 0.2, 0.1, 0.2)
    said = what_loses(table, ["encoder", "encoder_full"], good)
    assert said == (
        "take encoder_full, whose gap of 0.32 nats a row is the smallest: its family loses 0.20, its encoder 0.12; of "
        "the decoder log p(x) has 3.00 (se 0.20) nats a row more than PCA held out, +0.10 (se 0.20) beyond that on the "
        "rows it was trained on; its family loses most, 0.20: try a richer one"
    )
    by_heart = what_loses(table, [], Judged("PCA", 3.0, 0.2, 2.0, 0.2))
    assert "the decoder loses most, 2.00: try fewer hidden units, more rows, or a training that x_test" in by_heart
    assert what_loses(gaps(free=(0.01, 0.02)), [], good).endswith("none of them loses 0.1 nats a row")
    assert what_loses(gaps(free=(0.01, 0.3)), [], None).endswith("its training loses most, 0.30: try more steps")
    assert what_loses(gaps(flow=(math.nan, math.nan)), [], good) == ""
    assert Judged("PCA", -0.3, 0.2).loss == 0  # may be chance
