"""What was trained is judged as it is: from its checkpoint, or a user's own modules, and nothing is trained again."""

from pathlib import Path
from typing import Any

import numpy as np
import pyrometer
import pytest
import torch
from pyrometer.errors import InputError
from pyrometer.inference.svi.fitted import trained
from pyrometer.models import VAE
from torch import nn

pytestmark = pytest.mark.filterwarnings("ignore:.*latent units are inactive")

X = pyrometer.datasets.pixels("digits")[:300]
OPTIONS: dict[str, Any] = {"epochs": 4, "draws": 5, "progress": False}


@pytest.mark.parametrize("prior", ["normal", "mixture", "vamp"])
def test_the_fit_of_a_checkpoint_is_the_one_that_was_trained(tmp_path: Path, prior: Any) -> None:
    model = VAE(2, hidden=(20,), prior=prior)
    fit = pyrometer.train(model, "encoder", X[:250], x_test=X[250:], checkpoint=tmp_path, **OPTIONS)
    left = trained(tmp_path, model, X[:250], draws=5)
    np.testing.assert_array_equal(left.encode(X[250:]), fit.encode(X[250:]))
    np.testing.assert_array_equal(left.test_losses, fit.test_losses)
    bounds = [each.log_likelihood(X[250:], "elbo", draws=20)["estimate"] for each in (left, fit)]
    np.testing.assert_allclose(bounds[0], bounds[1], rtol=1e-5)
    assert left.model.is_frozen  # type: ignore[attr-defined]


def test_compare_takes_it_as_it_is_and_holds_another_guide_to_the_same_decoder(tmp_path: Path) -> None:
    model = VAE(2, hidden=(20,))
    pyrometer.train(model, "encoder", X, checkpoint=tmp_path, **OPTIONS)
    left = trained(tmp_path, model, X)
    sizes: dict[str, Any] = {"steps": 60, "starts": 1, "warmup": 60, "draws": 60, "chains": 2, "progress": False}
    found = pyrometer.compare(left.model, X, {"encoder": left, "free": "free"}, rows=2, **sizes)
    assert found["encoder"].guide is left.guide
    assert found.gaps["amortisation_gap"].notna().all()
    for one, other in zip(found["free"].model.modules, left.model.modules, strict=True):  # type: ignore[attr-defined]
        torch.testing.assert_close(one.state_dict(), other.state_dict())


def test_a_checkpoint_of_another_architecture_is_refused_in_one_line(tmp_path: Path) -> None:
    own = nn.Sequential(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, 64))
    pyrometer.train(VAE(2, own), "encoder", X, checkpoint=tmp_path, **OPTIONS)
    wider = nn.Sequential(nn.Linear(2, 6), nn.Tanh(), nn.Linear(6, 64))
    for model, x, message in (
        (VAE(2, wider), X, "is of another training, model VAE"),
        (VAE(3, own), X, "is of another training, model VAE"),
        (VAE(2, own), X.iloc[:, :60], "the decoder gives 64 numbers instead of 60"),
    ):
        with pytest.raises(InputError) as caught:
            trained(tmp_path, model, x)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)


def test_networks_of_ones_own_that_are_not_to_be_trained_are_judged_as_they_are() -> None:
    decoder, encoder = nn.Linear(2, 64), nn.Linear(64, 4)
    for network in (decoder, encoder):
        network.requires_grad_(False).eval()
    fit = pyrometer.svi(VAE(2, decoder, "bernoulli", encoder=encoder), "encoder", X, draws=5, progress=False)
    assert (fit.steps, fit.converged, fit.why) == (0, True, "nothing is left to train")
    loc = encoder(torch.tensor(X.to_numpy(), dtype=torch.float32))[:, :2]
    np.testing.assert_allclose(fit.encode(), loc.numpy(), rtol=1e-5, atol=1e-6)  # type: ignore[attr-defined]
