"""Pictures of a latent space say what they show: columns by name, codes by value, directions by their share."""

from typing import Any

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pyrometer
import pytest
import torch
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.text import Text
from pyrometer.inference.local_latents.row_fit import RowFit
from pyrometer.inference.plots.drawing.figure import figure_of
from pyrometer.inference.plots.latent.codes import plot_latent
from pyrometer.inference.plots.latent.decoded import plot_plane, plot_samples
from pyrometer.inference.plots.latent.reconstructions import plot_interpolation, plot_reconstructions
from pyrometer.inference.plots.marginal import plot_gaps
from pyrometer.models import VAE
from torch import Tensor

pytestmark = pytest.mark.filterwarnings("ignore:.*latent units are inactive")

X = pyrometer.datasets.pixels("digits")[:200]
WINE = pyrometer.datasets.load("wine").select_dtypes("number")


def trained(latent: int, x: Any = X, decoder: Any = "linear") -> RowFit:
    return pyrometer.train(VAE(latent, decoder), "encoder", x, epochs=3, draws=2, progress=False)


def texts(figure: Figure) -> list[str]:
    """Everything that is written on a figure."""
    figure.canvas.draw()
    return [text.get_text() for text in figure.findobj(Text) if isinstance(text, Text)]


def test_a_table_is_a_heat_map_with_the_names_of_its_columns() -> None:
    said = texts(plot_reconstructions(trained(2, WINE)))
    assert set(WINE.columns) <= set(said)
    assert "Rows, and beside them their reconstructions" in said


def test_the_latent_plane_spans_the_codes_and_its_ticks_say_where() -> None:
    fit = trained(2)
    ends = np.quantile(fit.encode(), [0.01, 0.99], axis=0)
    assert {f"{value:.1f}".replace("-", "−") for value in ends.ravel()} <= {
        text.replace("-", "−") for text in texts(plot_plane(fit))
    }


def test_more_than_two_units_are_shown_by_their_principal_directions_and_it_is_said() -> None:
    fit = trained(5)
    figure = figure_of(plot_latent, fit)
    assert any(text.startswith("principal direction 1 of 5 units") for text in texts(figure))
    points = np.asarray(figure.findobj(PathCollection)[0].get_offsets())
    variances = np.linalg.eigvalsh(np.cov(fit.encode().T))[::-1]
    np.testing.assert_allclose(np.cov(points.T).diagonal(), variances[:2], rtol=1e-4)


def test_draws_of_a_completion_keep_what_is_known_and_differ_elsewhere() -> None:
    fit, mask = trained(2, decoder="mlp"), np.ones((4, 64), bool)
    mask[:, 32:] = False
    rows = X.to_numpy()[:4]
    found = fit.completions(rows, mask, draws=3, steps=5)
    assert found.shape == (3, 4, 64)
    np.testing.assert_array_equal(found[:, mask], np.broadcast_to(rows[mask].astype(np.float32), (3, 4 * 32)))
    assert (found.std(0)[~mask] > 0).any()


def test_codes_that_tell_nothing_apart_are_called_collapsed() -> None:
    noise = np.random.default_rng(0).uniform(0.4, 0.6, size=(300, 4))
    model = VAE(2, "linear", "bernoulli")
    fit = pyrometer.train(model, "encoder", noise, epochs=60, batch_size=50, lr=0.02, draws=2, progress=False)
    assert "Latent space: the mean of q(z | x): collapsed, q(z | x) is the prior" in texts(figure_of(plot_latent, fit))


def test_hollow_dots_are_explained_where_there_are_any() -> None:
    index = pd.MultiIndex.from_product([["encoder"], [0, 1]], names=["guide", "row"])
    gaps = pd.DataFrame({"bias": [0.1, 0.2], "sd_ratio": [0.9, 1.1], "converged": [True, False]}, index=index)
    figures = {"gap": 0.1, "gap_se": 0.01, "approximation_gap": 0.06, "amortisation_gap": 0.04}
    table = pd.DataFrame(figures, index=["encoder"])
    assert any("hollow: NUTS did not converge" in text for text in texts(plot_gaps(gaps, table)))
    assert not any("hollow" in text for text in texts(plot_gaps(gaps.assign(converged=True), table)))


def squares(rows: int = 120) -> np.ndarray:
    """Pictures (rows, 3, 8, 8) of a square each, in any colour, on black."""
    rng = np.random.default_rng(0)
    x = np.zeros((rows, 3, 8, 8), np.float32)
    x[:, :, 2:6, 2:6] = rng.uniform(0.1, 1, size=(rows, 3, 1, 1))
    return x


def canvas(figure: Figure) -> np.ndarray:
    """The pixels of a picture's one sheet."""
    return np.asarray(figure.axes[0].get_images()[0].get_array())


def test_colour_pictures_are_shown_in_their_colours_wherever_these_stand() -> None:
    x = squares()
    fit = trained(3, x, "mlp")
    shown = canvas(plot_reconstructions(fit, number=5))
    for row in range(5):  # below one another a row and its reconstruction, a pixel between two
        np.testing.assert_allclose(shown[:8, 9 * row : 9 * row + 8], x[row].transpose(1, 2, 0), atol=1e-6)

    def last(x: Tensor) -> None:
        """A program of pictures with their colours behind the pixels."""
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z[:, :1, None, None].expand(-1, 8, 8, 3), 1.0).to_event(3), obs=x)

    behind = x.transpose(0, 2, 3, 1)[:20].copy()
    own: Any = pyrometer.svi(last, "auto_normal", behind, steps=5, starts=1, draws=2, progress=False)
    shown = canvas(plot_reconstructions(own, number=5))
    np.testing.assert_allclose(shown[:8, :8], behind[0], atol=1e-6)


def test_colour_pictures_that_have_collapsed_are_called_collapsed() -> None:
    model = VAE(2, hidden=(16,), beta=1000.0)
    fit = pyrometer.train(model, "encoder", squares(), epochs=30, draws=2, lr=0.01, progress=False)
    figures = plot_reconstructions(fit), plot_samples(fit, 4), plot_plane(fit, 3)
    rows = fit.rows()
    for figure in (*figures, figure_of(plot_latent, fit), plot_interpolation(fit, [(rows[0], rows[1])])):
        assert any("collapsed, " in text for text in texts(figure))


def test_a_decoder_that_heeds_no_unit_is_called_collapsed_though_its_codes_differ() -> None:
    fit = trained(2, squares(), "mlp")
    with torch.no_grad():
        for name, value in fit.params.items():
            if name.startswith("decoder") and value.shape[-1:] == (2,):  # the first layer's weights
                value.zero_()
    assert fit.active_units().any()
    assert any("collapsed, all rows decode alike" in text for text in texts(plot_reconstructions(fit)))


def test_with_labels_every_part_of_the_portrait_is_drawn() -> None:
    labels = np.where(np.arange(60) < 30, pyrometer.datasets.labels("digits")[:60], np.nan)
    model = VAE(2, hidden=(16,), labels=10, semi_supervised=True)
    fit = pyrometer.train(model, "encoder", (X[:60], labels), epochs=1, draws=2, progress=False)
    said = texts(fit.plot())
    assert not any("not drawn" in text for text in said)
    assert any("covariates of the nearest row" in text for text in said)
