"""The noise of a share of the rows is that of the whole batch, cut: number for number, the generator included."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyrometer import InputError
from pyrometer.inference.distributed.group import Group
from pyrometer.inference.distributed.share import Share, bits, fingerprint, share_of
from pyrometer.inference.steps.minibatches import Minibatches
from pyrometer.models.structure import Plate
from pyrometer.models.trace import sites_of
from torch import Tensor

WHOLE, FULL = 7, 20
P = torch.rand(FULL, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)  # parameters, a row each

DRAWS: dict[str, Callable[[Tensor], Any]] = {  # of parameters (M, 3) of the rows
    "Normal": lambda p: dist.Normal(p, 1.0).to_event(1),
    "one number a row": lambda p: dist.Normal(p[:, 0], 1.0),
    "MultivariateNormal": lambda p: dist.MultivariateNormal(p, torch.eye(3, dtype=p.dtype)),
    "LowRank": lambda p: dist.LowRankMultivariateNormal(p, p.unsqueeze(-1), p + 0.1),
    "expanded": lambda p: dist.Normal(0.0, 1.0),
    "Uniform": lambda p: dist.Uniform(p, p + 1),
    "Laplace": lambda p: dist.Laplace(p, 1.0).to_event(1),
    "LogNormal": lambda p: dist.LogNormal(p, 1.0).to_event(1),
    "Gumbel": lambda p: dist.Gumbel(p, 1.0).to_event(1),
    "Categorical": lambda p: dist.Categorical(p + 0.1),
    "Bernoulli": lambda p: dist.Bernoulli(p).to_event(1),
    "Exponential": lambda p: dist.Exponential(p + 0.1).to_event(1),
    "mixture": lambda p: dist.MixtureSameFamily(dist.Categorical(p + 0.1), dist.Normal(p, 0.1)),
}


def program(fn: Callable[[Tensor], Any], size: int, particles: int = 0) -> Callable[[], None]:
    """Draws for all, then for each row, then for all again; under a plate of particles where there are any."""

    def run() -> None:
        pyro.sample("before", dist.Normal(torch.zeros(WHOLE), 1.0).to_event(1))
        with pyro.plate("data", FULL, subsample_size=size, dim=-1) as rows:
            value = fn(P[rows])
            pyro.sample("each", value if value.batch_shape[-1:] == (len(rows),) else value.to_event(value.event_dim))
            torch.dropout(P[rows], 0.5, train=True)
        pyro.sample("after", dist.Normal(torch.zeros(3), 1.0).to_event(1))

    return pyro.plate("particles", particles, dim=-2)(run) if particles else run


def drawn(share: Share | None, fn: Callable[[Tensor], Any], particles: int = 0) -> tuple[dict[str, Tensor], Tensor]:
    """What is drawn on the second whole batch, by site; and the state of the generator afterwards."""
    size = share.size if share else WHOLE
    minibatches = Minibatches((Plate("data", -1, size, FULL),), 0, share=share)
    torch.manual_seed(5)
    with minibatches.messenger(minibatches.draw(2)[1], 0):
        trace = pyro.poutine.trace(program(fn, size, particles)).get_trace()
    return {name: node["value"] for name, node in sites_of(trace).items()}, torch.get_rng_state()


def shares(processes: int) -> list[Share]:
    return [share_of(Group(rank, processes), WHOLE, "data") for rank in range(processes)]


@pytest.mark.parametrize("particles", [0, 5])
@pytest.mark.parametrize("name", [name for name in DRAWS if name not in ("Uniform", "expanded")])
def test_shares_of_the_noise_are_the_noise_of_the_whole_batch(name: str, particles: int) -> None:
    whole, state = drawn(None, DRAWS[name], particles)
    for processes in (1, 2, 3):
        parts = [drawn(share, DRAWS[name], particles) for share in shares(processes)]
        dim = 1 if particles else 0
        torch.testing.assert_close(torch.cat([sites["each"] for sites, _ in parts], dim), whole["each"], rtol=0, atol=0)
        for sites, after in parts:
            assert torch.equal(sites["before"], whole["before"])  # which is as long as the batch, and no row's
            assert torch.equal(sites["after"], whole["after"])
            assert torch.equal(after, state)


@pytest.mark.parametrize("fn", [DRAWS["expanded"], lambda p: dist.Uniform(p, p + 1).to_event(1)])
def test_priors_that_the_plate_expands_are_cut_too(fn: Callable[[Tensor], Any]) -> None:
    whole, _ = drawn(None, fn)
    assert torch.equal(torch.cat([drawn(share, fn)[0]["each"] for share in shares(3)]), whole["each"])


@pytest.mark.parametrize(
    "fn",
    [
        lambda p: dist.Gamma(p + 1, 1.0).to_event(1),
        lambda p: dist.Beta(p + 1, 1.0).to_event(1),
        lambda p: dist.Dirichlet(p + 1),
        lambda p: dist.Poisson(p).to_event(1),
        lambda p: dist.StudentT(p + 3).to_event(1),
    ],
)
def test_what_is_drawn_by_rejection_is_refused_in_one_line(fn: Callable[[Tensor], Any]) -> None:
    with pytest.raises(InputError, match=r"site 'each' draws by rejection for each row .* take one process"):
        drawn(shares(2)[0], fn)


def test_rows_are_those_of_the_whole_batch() -> None:
    plates = Plate("data", -1, WHOLE, FULL), Plate("others", -2, 3, 9)
    whole = Minibatches(plates, 3).draw(9)
    cut = [Minibatches((plates[0]._replace(size=s.size), plates[1]), 3, share=s).draw(9) for s in shares(3)]
    assert torch.equal(torch.cat([part[:, :-3] for part in cut], -1), whole[:, :-3])
    assert all(torch.equal(part[:, -3:], whole[:, -3:]) for part in cut)  # of a plate that is not cut
    assert [share.size for share in shares(3)] == [2, 2, 3]
    assert sum(share.weight for share in shares(3)) == pytest.approx(1.0)


def test_one_bit_changes_the_fingerprint() -> None:
    values = torch.randn(50), torch.randn(7, dtype=torch.float64), torch.tensor([True, False])
    seen = {int(bits(*values))}
    for value in values:
        value[1] = ~value[1] if value.dtype == torch.bool else torch.nextafter(value[1], value.new_tensor(9.0))
        seen.add(int(bits(*values)))
        value[:2] = value[:2].flip(0).clone()
        seen.add(int(bits(*values)))
    assert len(seen) == 6  # the flags were alike when they were exchanged


def test_one_draw_changes_the_fingerprint() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        before = fingerprint({})
        torch.rand(1)
        assert fingerprint({}) != before
