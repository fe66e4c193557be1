"""AutoGuides of models with latents a row, trained on some of the rows at a time."""

import pyro
import pyro.distributions as dist
import pyrometer
import pytest
import torch
from pyrometer import InputError
from torch import Tensor

X = torch.randn(60, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2**0.5 + 3


def noisy(x: Tensor, batch_size: int | None = None) -> None:
    mu = pyro.sample("mu", dist.Normal(0, 10.0))
    with pyro.plate("rows", len(x), subsample_size=batch_size) as rows:
        z = pyro.sample("z", dist.Normal(mu, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x[rows])


@pytest.mark.parametrize("guide", ["auto_normal", "auto_delta"])
def test_each_row_is_moved_by_its_own_minibatches_and_all_are_scored(guide: str) -> None:
    fit = pyrometer.svi(noisy, guide, X, batch_size=20, steps=3000, starts=1, lr=0.03, draws=2000, progress=False)
    z, mu = fit.posterior["z"].mean(("chain", "draw")), float(fit.posterior["mu"].mean())
    assert z.shape == (60,)
    assert mu == pytest.approx(float(X.mean()), abs=0.3)
    assert abs(z.values - (X.numpy() + mu) / 2).mean() < 0.15  # E z_n given mu: the mean field's means are exact
    assert abs(z.values - (X.numpy() + mu) / 2).max() < 0.6


@pytest.mark.parametrize("guide", ["auto_mvn", "auto_iaf", "auto_structured"])
def test_one_vector_of_all_latents_is_not_cut(guide: str) -> None:
    with pytest.raises(InputError, match=f"guide {guide} has one vector .* 'z': leave batch_size out"):
        pyrometer.svi(noisy, guide, X, batch_size=20, steps=5, starts=1, progress=False)


def test_one_vector_of_shared_latents_is() -> None:
    def shared(x: Tensor, batch_size: int | None = None) -> None:
        mu = pyro.sample("mu", dist.Normal(0, 10.0))
        with pyro.plate("rows", len(x), subsample_size=batch_size) as rows:
            pyro.sample("x", dist.Normal(mu, 2**0.5), obs=x[rows])

    fit = pyrometer.svi(shared, "auto_mvn", X, batch_size=20, steps=800, starts=1, lr=0.05, progress=False)
    assert float(fit.posterior["mu"].mean()) == pytest.approx(float(X.mean()), abs=0.3)
