"""The distributions that Pyro lacks agree with torch's, and their bijections with the Jacobians of autograd."""

import math

import pyro.distributions as dist
import pytest
import torch
from pyrometer.models.gaussians.distributions import NormalPrecisionCholesky, WishartCholesky
from pyrometer.models.gaussians.units import CholeskyIn, PackedCholesky, RealVectorIn
from torch import Tensor
from torch.autograd.functional import jacobian
from torch.distributions import biject_to, transform_to
from truths import lower_entries, standard_errors

DRAWS = 20_000


def tril(size: int, seed: int = 0) -> Tensor:
    """A lower-triangular matrix with a positive diagonal: (size, size)."""
    matrix = torch.randn(size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return matrix.tril(-1) + torch.diag(matrix.diagonal().abs() + 0.5)


def placed(entries: Tensor, size: int) -> Tensor:
    """Entries on and below the diagonal, row by row, as a matrix."""
    rows, columns = torch.tril_indices(size, size)
    return torch.zeros(size, size, dtype=entries.dtype).index_put((rows, columns), entries)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_the_density_of_a_wishart_factor_is_torchs_wishart_times_the_jacobian(size: int) -> None:
    df, scale, value = torch.tensor(size + 1.7, dtype=torch.float64), tril(size), tril(size, 1)
    square = jacobian(
        lambda entries: lower_entries(placed(entries, size) @ placed(entries, size).T), lower_entries(value)
    )
    wishart = dist.Wishart(df, scale_tril=scale).log_prob(value @ value.T)
    expected = wishart + square.slogdet().logabsdet
    torch.testing.assert_close(WishartCholesky(df, scale).log_prob(value), expected, rtol=1e-10, atol=1e-10)


def test_batches_of_wishart_factors_are_independent_and_expand() -> None:
    scales = torch.stack([tril(2), tril(2, 1), tril(2, 2)])
    df = torch.tensor([3.0, 4.0, 5.5], dtype=torch.float64)
    values = torch.stack([tril(2, 3), tril(2, 4), tril(2, 5)])
    one_by_one = torch.stack([WishartCholesky(df[k], scales[k]).log_prob(values[k]) for k in range(3)])
    batched = WishartCholesky(df, scales)
    torch.testing.assert_close(batched.log_prob(values), one_by_one)
    wide = batched.expand(torch.Size((4, 3)))
    assert wide.sample((5,)).shape == (5, 4, 3, 2, 2)
    torch.testing.assert_close(wide.log_prob(values), one_by_one.expand(4, 3))
    single = WishartCholesky(df[0], scales[0])
    torch.testing.assert_close(single.expand(torch.Size((3,))).log_prob(values), single.log_prob(values))


def test_draws_of_a_wishart_factor_have_the_moments_of_the_wishart() -> None:
    torch.manual_seed(0)
    df, scale = torch.tensor(5.5, dtype=torch.float64), tril(3)
    wishart = WishartCholesky(df, scale)
    factors = wishart.rsample(torch.Size((DRAWS,)))
    products = factors @ factors.mT
    mean, covariance = df * scale @ scale.T, scale @ scale.T
    variance = df * (covariance.square() + torch.outer(covariance.diagonal(), covariance.diagonal()))
    for i in range(3):
        for j in range(i + 1):
            products_ij = products[:, i, j].numpy()
            assert standard_errors(products_ij, mean[i, j].item()) < 5
            assert standard_errors((products_ij - mean[i, j].item()) ** 2, variance[i, j].item()) < 5
            assert standard_errors(factors[:, i, j].numpy(), wishart.mean[i, j].item()) < 5
    assert bool(wishart.support.check(factors).all())


def test_draws_of_a_wishart_factor_carry_the_gradient_of_their_mean() -> None:
    """E[trace(L L^T)] = df trace(V), so that its derivative by df is trace(V)."""
    torch.manual_seed(0)
    scale = tril(2)
    df = torch.full((DRAWS,), 4.0, dtype=torch.float64, requires_grad=True)
    WishartCholesky(df, scale).rsample().square().sum().backward()
    assert df.grad is not None
    assert standard_errors(df.grad.numpy(), scale.square().sum().item()) < 5


def test_the_density_of_a_normal_by_its_precision_factor_is_torchs() -> None:
    loc = torch.randn(3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    factor = torch.stack([tril(2, k) for k in range(3)])
    value = torch.ones(5, 1, 2, dtype=torch.float64)
    expected = dist.MultivariateNormal(loc, precision_matrix=factor @ factor.mT).log_prob(value)
    torch.testing.assert_close(NormalPrecisionCholesky(loc, factor).log_prob(value), expected)
    wide = NormalPrecisionCholesky(loc, factor).expand(torch.Size((5, 3)))
    torch.testing.assert_close(wide.log_prob(value), expected)


def test_draws_of_a_normal_by_its_precision_factor_have_its_mean_and_covariance() -> None:
    torch.manual_seed(0)
    loc, factor = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64), tril(3)
    draws = NormalPrecisionCholesky(loc, factor).rsample(torch.Size((DRAWS,)))
    covariance = torch.linalg.inv(factor @ factor.T)
    centred = draws - loc
    for i in range(3):
        assert standard_errors(draws[:, i].numpy(), loc[i].item()) < 5
        for j in range(3):
            assert standard_errors((centred[:, i] * centred[:, j]).numpy(), covariance[i, j].item()) < 5


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("registry", [biject_to, transform_to])
def test_the_bijection_to_a_cholesky_factor_is_undone_by_its_inverse(size: int, registry: object) -> None:
    scale = torch.linspace(0.5, 20, size, dtype=torch.float64)
    transform = registry(CholeskyIn(scale))  # type: ignore[operator]
    u = torch.randn(6, size * (size + 1) // 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    value = transform(u)
    assert bool(CholeskyIn(scale).check(value).all())
    torch.testing.assert_close(transform.inv(value), u)
    assert transform.forward_shape(u.shape) == value.shape
    assert transform.inverse_shape(value.shape) == u.shape


@pytest.mark.parametrize("size", [1, 2, 4])
def test_the_log_jacobian_of_that_bijection_is_autograds(size: int) -> None:
    transform = PackedCholesky(torch.linspace(0.5, 20, size, dtype=torch.float64))
    u = torch.randn(size * (size + 1) // 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = jacobian(lambda v: lower_entries(transform(v)), u).slogdet().logabsdet
    torch.testing.assert_close(transform.log_abs_det_jacobian(u, transform(u)), expected)


def test_one_unconstrained_point_is_the_same_factor_in_any_units() -> None:
    u = torch.tensor([0.3, -0.2, 1.5], dtype=torch.float64)
    scale = torch.tensor([3.0, 1e-4], dtype=torch.float64)
    torch.testing.assert_close(
        PackedCholesky(scale)(u), torch.diag(scale) @ PackedCholesky(torch.ones_like(scale))(u), rtol=1e-12, atol=0
    )


def test_a_vector_in_units_is_measured_in_standard_deviations_from_their_origin() -> None:
    loc, scale = torch.tensor([10.0, -4.0], dtype=torch.float64), torch.tensor([2.0, 1e3], dtype=torch.float64)
    transform = biject_to(RealVectorIn(loc, scale))
    u = torch.tensor([[1.0, -1.0], [0.0, 0.5]], dtype=torch.float64)
    torch.testing.assert_close(transform(u), loc + scale * u)
    torch.testing.assert_close(transform.inv(transform(u)), u)
    expected = jacobian(transform, u[0]).slogdet().logabsdet
    torch.testing.assert_close(transform.log_abs_det_jacobian(u, transform(u)), expected.expand(2))
    assert math.isclose(expected.item(), math.log(2e3))
