"""Minibatches are fair: every row once an epoch, the same rows in guide and model."""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyrometer.inference.steps.minibatches import Minibatches, StepMessenger
from pyrometer.models.structure import Plate
from torch import Tensor
from truths import standard_errors

DATA = Plate("data", -1, 4, 10)


def test_a_row_comes_at_most_once_an_epoch() -> None:
    batches = Minibatches((DATA,), seed=0).draw(20)
    assert batches.shape == (20, 4)
    for first in range(0, 20, 2):  # two batches of four are all that ten rows give
        assert len(batches[first : first + 2].unique()) == 8


def test_every_row_is_as_likely_as_any_other() -> None:
    batches = Minibatches((DATA,), seed=0).draw(4000)
    for row in range(10):
        assert standard_errors((batches == row).any(1).double().numpy(), 0.4) < 5


def test_batches_do_not_depend_on_how_many_are_drawn_at_once() -> None:
    minibatches = Minibatches((DATA,), seed=1)
    assert torch.equal(torch.cat([minibatches.draw(3), minibatches.draw(4)]), Minibatches((DATA,), seed=1).draw(7))


def test_plates_of_several_sizes_are_subsampled_side_by_side() -> None:
    minibatches = Minibatches((DATA, Plate("words", -2, 2, 3)), seed=0)
    rows = minibatches.by_plate(minibatches.draw(1)[0])
    assert {name: len(value) for name, value in rows.items()} == {"data": 4, "words": 2}
    assert Minibatches((), seed=0).by_plate(Minibatches((), seed=0).draw(2)[0]) == {}


def test_the_plate_takes_the_rows_it_is_given() -> None:
    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x), subsample_size=4) as rows:
            pyro.sample("x", dist.Normal(0.0, 1.0), obs=x[rows])

    x, batch = torch.arange(10.0), torch.tensor([7, 1, 2, 9])
    with StepMessenger({"data": batch}):
        trace = poutine.trace(model).get_trace(x)
    assert torch.equal(trace.nodes["x"]["value"], x[batch])
    assert trace.nodes["x"]["scale"] == 10 / 4
