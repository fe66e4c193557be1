"""The mixture summed out by hand is the program with z enumerated: value, gradient, and in little memory."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from pyrometer.inference.density.log_density import Density
from pyrometer.models import BayesianGMM
from pyrometer.models.gaussians.distributions import FEW, quadratic_features
from pyrometer.models.gaussians.mixture_density import mixture_log_density
from torch import Tensor
from truths import data_of, in_doubles


def problem(n: int, d: int, k: int, apart: float, thin: float) -> tuple[Tensor, dict[str, Tensor]]:
    """Rows about k locations `apart` deviations apart, whose covariances have eigenvalues from 1 down to `thin`."""
    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    locs, (rotation, _) = apart * draw(k, d), torch.linalg.qr(draw(k, d, d))
    spectrum = torch.logspace(0, torch.tensor(thin).log10(), d, dtype=torch.float64)
    covariances = rotation @ torch.diag_embed(spectrum.expand(k, d)) @ rotation.mT
    trils = torch.linalg.cholesky(covariances)
    z = torch.randint(k, (n,), generator=generator)
    x = locs[z] + (trils[z] @ draw(n, d, 1)).squeeze(-1)
    near = locs + 0.1 * trils.diagonal(dim1=-2, dim2=-1)
    precision_trils = torch.linalg.cholesky(torch.linalg.inv(covariances))
    return x, {"weights": draw(k).softmax(0), "locs": near, "precision_trils": precision_trils}


def value_and_gradient(density: Density, flat: Tensor) -> tuple[Tensor, Tensor]:
    flat = flat.detach().requires_grad_()
    value = density.log_density(flat)
    return value.detach(), torch.autograd.grad(value, flat)[0]


@pytest.mark.parametrize(
    ("n", "d", "k"),
    [(200, 2, 3), (3_000, 8, 10), (30_000, 8, 4), (600, 70, 3)],
    ids=["few rows", "features held", "features made in parts", "too many features"],
)
@pytest.mark.parametrize(
    ("apart", "thin"),
    [(3.0, 1.0), (1e3, 1.0), (3.0, 1e-8), (1e3, 1e-6)],
    ids=["overlapping", "far apart", "nearly singular", "both"],
)
def test_value_and_gradient_are_those_of_the_enumerated_program(
    n: int, d: int, k: int, apart: float, thin: float
) -> None:
    x, sites = problem(n, d, k, apart, thin)
    with in_doubles(validate=False):
        by_hand = Density(BayesianGMM(k), data_of(x))
        enumerated = replace(by_hand)
        vars(enumerated)["collapsed"] = None  # what it would be for a model that offers nothing
        flat = by_hand.unconstrain(sites)
        value, gradient = value_and_gradient(by_hand, flat)
        expected, expected_gradient = value_and_gradient(enumerated, flat)
    torch.testing.assert_close(value, expected, rtol=1e-8, atol=0)
    assert (gradient - expected_gradient).abs().max() <= 1e-8 * expected_gradient.abs().max()


@pytest.mark.parametrize("ahead", [True, False])
def test_the_operation_keeps_torchs_contract_for_operations(ahead: bool) -> None:
    x, sites = problem(50, 2, 3, 3.0, 0.1)
    phi, loc, scale = quadratic_features(x).mT.contiguous(), torch.zeros(2).double(), torch.ones(2).double()
    own = (sites["weights"].log(), sites["locs"], sites["precision_trils"].mT.contiguous())
    inputs = (x, phi, loc, scale, *(value.requires_grad_() for value in own))
    torch.library.opcheck(mixture_log_density, (*inputs, ahead))
    each = lambda *params: mixture_log_density(x, phi, loc, scale, *params, ahead)[0]  # noqa: E731
    torch.autograd.gradcheck(each, inputs[4:])  # rows weighted one by one
    torch.autograd.gradcheck(lambda *params: 3 * each(*params).sum(), inputs[4:])


def test_it_is_batched_over_draws() -> None:
    x, sites = problem(FEW // 4, 2, 3, 3.0, 0.1)
    with in_doubles(validate=False):
        density = Density(BayesianGMM(3), data_of(x))
        flat = density.unconstrain(sites)
        points = torch.stack([flat, flat + 0.1])
        values = torch.func.vmap(density.log_density)(points)
        torch.testing.assert_close(values, torch.stack([density.log_density(point) for point in points]))


PEAK = """
import re, torch
from pathlib import Path
from pyrometer.inference.data.data import Data
from pyrometer.inference.density.log_density import Density
from pyrometer.models import BayesianGMM
torch.set_default_dtype(torch.float64)

def memory(kind):
    return 1024 * int(re.search(kind + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])

def gradient(rows):
    x = torch.randn(rows, 8)
    density = Density(BayesianGMM(10), Data((x,), rows=rows))
    flat = density.unconstrain(BayesianGMM(10).init(x[:10_000], 0)).detach().requires_grad_()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = memory("VmRSS")
    density.log_density(flat).backward()
    return (memory("VmHWM") - before) / (x.numel() * x.element_size())

gradient(10_000)  # libraries load
print(gradient(1_000_000))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_the_gradient_of_a_million_rows_takes_less_than_four_times_the_memory_of_the_data() -> None:
    done = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True)
    assert -0.1 < float(done.stdout) < 3  # beside the data themselves, about nothing: blocks of rows in turn
