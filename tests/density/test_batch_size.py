"""A model without its minibatches is the same model in everything else."""

from functools import partial
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
from pyrometer.errors import InputError
from pyrometer.inference.density.batch_size import on_all_rows, with_batch_size
from pyrometer.inference.density.log_density import Density
from torch import Tensor
from truths import data_of, in_doubles, two_clusters

X = two_clusters()[:, 0]


def scaled(x: Tensor, scale: float = 1.0, batch_size: int | None = None) -> None:
    loc = pyro.sample("loc", dist.Normal(0.0, 10.0))
    with pyro.plate("data", len(x), subsample_size=batch_size) as rows:
        pyro.sample("x", dist.Normal(loc, scale), obs=x[rows])


@pytest.mark.parametrize("model", [partial(scaled, scale=5.0, batch_size=5), partial(scaled, scale=5.0)])
def test_what_is_bound_beside_the_batch_size_stays_bound(model: Any) -> None:
    whole = on_all_rows(model)
    loc = X.new_tensor(0.3)
    exact = dist.Normal(0.0, 10.0).log_prob(loc) + dist.Normal(loc, 5.0).log_prob(X).sum()
    with in_doubles(validate=False):
        found = Density(whole, data_of(X)).log_joint({"loc": loc})
        again = Density(on_all_rows(with_batch_size(whole, 7)), data_of(X)).log_joint({"loc": loc})
    assert found.item() == pytest.approx(exact.item())
    assert again.item() == pytest.approx(exact.item())


def test_a_program_without_one_is_refused_where_one_is_asked_for() -> None:
    assert on_all_rows(len) is len
    with pytest.raises(InputError, match="takes no batch_size"):
        with_batch_size(partial(print, sep=""), 5)
