"""Log densities and moments by sufficient statistics are those of the definition, however the rows are split up."""

import numpy as np
import pytest
import torch
from pyrometer.inference.closed_form.e_step import e_step, terms, weighted_sums, worker_pool
from pyrometer.models.gaussians.sufficient import ByComponent, ByFeatures, Components, Units, expected_terms, kernel_of
from torch import Tensor
from torch.distributions import MultivariateNormal


def problem(
    n: int, d: int, k: int, *, apart: float = 3.0, least: float = 0.1, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Rows (n, d) of k Gaussians, their locations (k, d) and covariances (k, d, d) of smallest eigenvalue `least`."""
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    locs = 50 + apart * draw(k, d)
    rotation, _ = torch.linalg.qr(draw(k, d, d))
    covariances = rotation @ torch.diag_embed(torch.logspace(np.log10(least), 0, d).double().expand(k, d)) @ rotation.mT
    z = torch.randint(k, (n,), generator=generator)
    x = locs[z] + (torch.linalg.cholesky(covariances)[z] @ draw(n, d, 1)).squeeze(-1)
    return x, locs, covariances


def components_of(locs: Tensor, covariances: Tensor) -> Components:
    trils = torch.linalg.cholesky(covariances)
    log_dets = trils.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return Components(-log_dets - locs.shape[-1] / 2 * np.log(2 * np.pi), locs, torch.linalg.inv(trils))


def units_of(x: Tensor, squares: bool = False) -> Units:
    return Units(x.mean(0), x.std(0, correction=0), squares)


def relative(a: Tensor, b: Tensor) -> float:
    return ((a - b).abs().max() / b.abs().max()).item()


@pytest.mark.parametrize(
    ("n", "d", "k"), [(30_000, 1, 3), (30_000, 3, 4), (500, 8, 2), (500, 70, 2), (40, 2, 5), (20_000, 20, 6)]
)
@pytest.mark.parametrize("number", [1, 2])
def test_log_densities_and_moments_are_those_of_the_definition(n: int, d: int, k: int, number: int) -> None:
    x, locs, covariances = problem(n, d, k)
    components = components_of(locs, covariances)
    log_densities = MultivariateNormal(locs, covariances).log_prob(x.unsqueeze(1)).T
    shares = log_densities.softmax(0)
    means = shares @ x / shares.sum(1, keepdim=True)
    centred = x - means.unsqueeze(1)
    scatters = torch.einsum("kn,kni,knj->kij", shares, centred, centred)
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    with worker_pool() as pool:
        log_total, sums = e_step([x], components, units_of(x), pool)
    assert torch.get_num_threads() == number
    torch.set_num_threads(before)
    assert log_total.item() == pytest.approx(log_densities.logsumexp(0).sum().item(), rel=1e-10)
    held = shares.sum(1) > 1e-6
    assert relative(sums.counts, shares.sum(1)) < 1e-10
    assert relative(sums.means[held], means[held]) < 1e-10
    assert relative(sums.scatters[held], scatters[held]) < 1e-10
    total = (shares * log_densities.clamp(min=-1e300)).sum(1)
    assert relative(expected_terms(components, sums)[held], total[held]) < 1e-8
    rows = torch.cat(list(terms([x], components, units_of(x))), -1).logsumexp(0)
    assert relative(rows, log_densities.logsumexp(0)) < 1e-10


def test_diagonal_covariances_need_squares_only() -> None:
    x, locs, _ = problem(1000, 4, 3)
    components = components_of(locs, torch.eye(4).double().expand(3, 4, 4) * 0.7)
    full, squares = (e_step([x], components, units_of(x, squares)) for squares in (False, True))
    assert relative(squares.log_total, full.log_total) < 1e-12
    assert relative(squares.sums.scatters, torch.diag_embed(full.sums.scatters.diagonal(dim1=-2, dim2=-1))) < 1e-10
    assert units_of(x, True).size == 9
    assert units_of(x).size == 15


def test_cancellation_is_noticed_and_avoided() -> None:
    """Nearly singular components, 1e5 of their standard deviations apart, where eta . phi loses all its digits."""
    x, locs, covariances = problem(2000, 3, 3, apart=1000.0, least=1e-10)
    components, units = components_of(locs, covariances), units_of(x)
    assert isinstance(kernel_of(components, units), ByComponent)
    exact = torch.stack([MultivariateNormal(m, c).log_prob(x) for m, c in zip(locs, covariances, strict=True)])
    log_total, sums = e_step([x], components, units)
    assert log_total.item() == pytest.approx(exact.logsumexp(0).sum().item(), rel=1e-8)
    z = exact.argmax(0)
    for k in range(3):
        own = x[z == k] - x[z == k].mean(0)
        assert relative(torch.linalg.eigvalsh(sums.scatters[k]), torch.linalg.eigvalsh(own.T @ own)) < 1e-8


def test_well_separated_components_still_go_by_features() -> None:
    x, locs, covariances = problem(100, 3, 3, apart=30.0, least=1e-2)
    assert isinstance(kernel_of(components_of(locs, covariances), units_of(x)), ByFeatures)


def test_blocks_add_up() -> None:
    x, locs, covariances = problem(5000, 3, 2)
    components, units = components_of(locs, covariances), units_of(x)
    whole, parts = e_step([x], components, units), e_step(x.split(700), components, units)
    assert relative(parts.log_total, whole.log_total) < 1e-12
    assert all(relative(a, b) < 1e-10 for a, b in zip(parts.sums, whole.sums, strict=True))


def test_given_responsibilities_are_weights() -> None:
    x, *_ = problem(200, 3, 2)
    shares = torch.rand(200, 4, dtype=torch.float64)
    shares[:, 3] = 0.0  # an empty component stays finite
    sums = weighted_sums(x.split(64), shares)
    covariances = [np.cov(x.T, aweights=shares[:, k], ddof=0) for k in range(3)]
    assert relative(sums.scatters[:3], torch.as_tensor(np.stack(covariances)) * sums.counts[:3, None, None]) < 1e-12
    assert all(part.isfinite().all() for part in sums)
