"""Clusters in latent space are those the rows were drawn from, and the encoder works in a pipeline."""

from typing import Any

import numpy as np
import pyrometer
import pytest
import torch
from pyrometer.errors import InputError
from pyrometer.inference.local_latents.row_fit import RowFit
from pyrometer.models import VAE
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

pytestmark = pytest.mark.filterwarnings("ignore:.*latent units are inactive")


def three(rows: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Rows of eight columns around three points, and which one each is of."""
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=rows)
    return rng.normal(size=(3, 8))[labels] * 2 + 0.5 * rng.normal(size=(rows, 8)), labels


@pytest.fixture(scope="module")
def mixture() -> RowFit:
    model = VAE(2, hidden=(30,), prior="mixture", clusters=3)
    return pyrometer.train(model, "encoder", three()[0], epochs=60, progress=False)


@pytest.mark.parametrize("components", [None, 3])
def test_three_clusters_are_found_again(mixture: RowFit, components: int | None) -> None:
    found = mixture.cluster(components, labels=three()[1])
    assert found.ari > 0.9
    assert found.nmi > 0.9
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1, rtol=1e-5)
    assert found.plot().axes


def test_p_k_of_a_row_is_that_of_the_prior_at_its_latent_vector(mixture: RowFit) -> None:
    model: Any = mixture.model
    with torch.no_grad():
        prior = model.p_z(mixture.data.values)
        z = torch.tensor(mixture.encode())
        parts = prior.component_distribution.log_prob(z.unsqueeze(-2)) + prior.mixture_distribution.logits
    assert np.abs(mixture.cluster().probabilities - parts.softmax(-1).numpy()).mean(axis=None) < 0.05


def test_what_has_no_mixture_or_other_labels_is_refused_in_one_line(mixture: RowFit) -> None:
    plain = pyrometer.train(VAE(2, "linear"), "encoder", three()[0], epochs=1, progress=False)
    with pytest.raises(InputError, match=r"the prior of z is no mixture .*: say how many clusters"):
        plain.cluster()
    with pytest.raises(InputError, match="there are 3 labels for 400 rows: give one a row"):
        mixture.cluster(3, labels=[0, 1, 2])


def test_the_encoder_is_a_step_of_a_pipeline_and_the_decoder_its_way_back(mixture: RowFit) -> None:
    x, labels = three()
    features = mixture.as_transformer()
    pipeline = make_pipeline(clone(features), LogisticRegression()).fit(x[:300], labels[:300])
    assert pipeline.score(x[300:], labels[300:]) > 0.95
    np.testing.assert_array_equal(features.transform(x), mixture.encode(x))
    np.testing.assert_array_equal(features.inverse_transform(mixture.encode()), mixture.reconstruct())
    assert features.get_feature_names_out().tolist() == ["z0", "z1"]
