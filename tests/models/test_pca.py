"""The start of a decoder is probabilistic PCA itself, by scikit-learn's and by the exact posterior."""

import numpy as np
import pytest
import torch
from pyrometer import datasets
from pyrometer.guides.vae import Encoder
from pyrometer.models import VAE
from pyrometer.models.vae.pca import pca
from sklearn.decomposition import PCA

DIGITS = datasets.pixels("digits").to_numpy()


@pytest.mark.parametrize("latent", [1, 5, 20])
def test_the_covariance_is_that_of_scikit_learns_pca(latent: int) -> None:
    found, peer = pca(torch.tensor(DIGITS), latent), PCA(latent, svd_solver="full").fit(DIGITS)
    covariance = found.loadings @ found.loadings.T + found.scale**2 * torch.eye(64)
    share = (len(DIGITS) - 1) / len(DIGITS)  # scikit-learn's is unbiased, the likelihood's is not
    np.testing.assert_allclose(covariance, share * peer.get_covariance(), atol=1e-5)
    np.testing.assert_allclose(found.mean, DIGITS.mean(0))


def test_a_linear_decoder_and_encoder_begin_at_the_model_and_its_exact_posterior() -> None:
    x = torch.tensor(DIGITS, dtype=torch.float32)
    model = VAE(4, "linear")
    guide = Encoder(model)
    guide.build(x)
    with torch.no_grad():
        q = guide.posterior(x)
        z = q.sample((20,))
        elbo = (model.log_joint(z, x) - q.log_prob(z)).mean()
    # the posterior is diagonal, so that the bound is the evidence, in every draw
    assert float(elbo) == pytest.approx(PCA(4, svd_solver="full").fit(DIGITS).score(DIGITS), abs=0.01)


def test_rows_in_a_plane_or_all_alike_and_more_units_than_columns_leave_a_start_that_is_finite() -> None:
    for x in (torch.ones(5, 3), torch.arange(12.0).reshape(4, 3), torch.ones(1, 3), torch.randn(9, 1)):
        found = pca(x, 6)
        assert found.scale > 0
        assert all(bool(part.isfinite().all()) for part in (found.loadings, *found.posterior()))
