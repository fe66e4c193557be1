"""The batched calls: as many answers as draws, each with its own noise, the same as one by one."""

from typing import Any

import pytest
import torch
from pyrometer.inference.compilation import batched
from pyrometer.inference.compilation.batched import over_draws, repeated
from pyrometer.inference.compilation.graph import OfData
from torch import Tensor


def test_repeated_calls_have_noise_of_their_own() -> None:
    noise = repeated(lambda: torch.distributions.MultivariateNormal(torch.zeros(3), torch.eye(3)).sample(), 500)
    assert noise.shape == (500, 3)
    assert len(noise[:, 0].unique()) == 500
    assert abs(noise.mean()) < 5 / 1500**0.5


def test_sampling_given_draws_has_noise_of_its_own() -> None:
    values = over_draws(lambda d: torch.normal(d["a"], 1.0), {"a": torch.zeros(200)}, samples=True)
    assert len(values.unique()) == 200


def test_noise_that_fills_a_tensor_and_draws_in_vain_are_batched_too(monkeypatch: pytest.MonkeyPatch) -> None:
    vmapped, results = batched._vmapped, list[Any]()

    def watched(*args: Any, **options: Any) -> Any:
        results.append(vmapped(*args, **options))
        return results[-1]

    monkeypatch.setattr(batched, "_vmapped", watched)
    normal = torch.distributions.Normal(torch.zeros(2), torch.ones(2), validate_args=False)
    values = over_draws(lambda d: d["a"] + normal.rsample(), {"a": torch.zeros(300, 2)}, samples=True)
    assert len(values.unique()) == 600

    def fn(draw: dict[str, Tensor]) -> Tensor:
        torch.multinomial(torch.ones(3), 2)
        return 2 * draw["a"]

    assert torch.equal(over_draws(fn, {"a": torch.arange(9.0)}), 2 * torch.arange(9.0))
    assert len(results) == 2
    assert all(mapped is not None for mapped in results)


def test_batched_results_equal_those_one_by_one() -> None:
    draws = {"a": torch.randn(40, 3), "b": torch.rand(40)}

    def fn(draw: dict[str, Tensor]) -> Tensor:
        return (draw["a"].exp() * draw["b"]).logsumexp(0)

    one_by_one = torch.stack([fn({"a": a, "b": b}) for a, b in zip(draws["a"], draws["b"], strict=True)])
    assert torch.allclose(over_draws(fn, draws), one_by_one)
    assert torch.allclose(over_draws(fn, draws, chunk=7), one_by_one)


@pytest.mark.filterwarnings("error")
def test_a_long_result_of_many_draws_is_found_in_c(monkeypatch: pytest.MonkeyPatch) -> None:
    dtype = torch.float64
    monkeypatch.setattr(batched, "MIN_NUMBERS_FOR_NATIVE", 3_000)
    rows = torch.linspace(0.0, 1.0, 100, dtype=dtype)
    fn = OfData(lambda data, draw: (draw["a"].sum() * data[0]).tanh() - draw["b"], (rows,), "fn of a and b")
    draws = {"a": torch.randn(40, 3, dtype=dtype), "b": torch.rand(40, dtype=dtype)}
    known = torch.stack([fn({"a": a, "b": b}) for a, b in zip(draws["a"], draws["b"], strict=True)])
    monkeypatch.setattr(batched, "_vmapped", None)
    for given in (draws, dict(reversed(draws.items()))):
        found = over_draws(fn, given)
        assert found.dtype == dtype
        torch.testing.assert_close(found, known)


def test_a_function_that_branches_on_its_draw_is_called_one_by_one() -> None:
    values = over_draws(lambda d: d["a"] * 2 if d["a"] > 0 else d["a"], {"a": torch.tensor([1.0, -1.0, 3.0, -4.0])})
    assert values.tolist() == [2.0, -1.0, 6.0, -4.0]
