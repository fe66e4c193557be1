"""A graph computes what its function computes, and shares its code with functions of other data."""

import pytest
import torch
from pyrometer.inference.compilation.graph import NoGraph, graph_of, traced
from torch import Tensor

X = torch.arange(12.0, dtype=torch.float64).reshape(4, 3)
POINT = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)


def squares(x: Tensor) -> object:
    """A function of a point that holds data, writes in place, and does some things twice."""

    def fn(point: Tensor) -> Tensor:
        total = torch.zeros(3, dtype=torch.float64)
        total += (x * 2).sum(0)
        return ((point.clone() - total) ** 2).sum() + ((point - total) ** 2).sum().exp().log()

    return fn


def test_a_graph_gives_what_its_function_gives() -> None:
    fn = squares(X / 10)
    graph = traced(fn, (POINT,))  # type: ignore[arg-type]
    torch.testing.assert_close(graph(POINT + 1), fn(POINT + 1))  # type: ignore[operator]


def test_what_is_written_in_place_is_written_anew_at_each_call() -> None:
    def fn(point: Tensor) -> Tensor:
        total = torch.zeros_like(point)
        total += point
        return total.mul_(2).sum()

    graph = traced(fn, (POINT,))
    assert [graph(POINT).item() for _ in range(3)] == [fn(POINT).item()] * 3


def test_what_does_not_depend_on_the_arguments_is_computed_once_and_outside() -> None:
    one, other = (traced(squares(x), (POINT,)) for x in (X / 10, X / 10 + 3))  # type: ignore[arg-type]
    assert one.module.code == other.module.code
    assert not any(torch.equal(a, b) for a, b in zip(one.constants, other.constants, strict=True) if a.dim())
    assert one.module.code.count("aten.pow") == 1  # (point - total)^2 was written twice
    assert "aten.mul" not in one.module.code  # of the data alone


def test_random_numbers_are_drawn_anew_and_are_those_of_eager_torch() -> None:
    fn = lambda point: point + torch.randn_like(point) + torch.randn(3, dtype=torch.float64)  # noqa: E731
    graph = traced(fn, (POINT,))
    assert not torch.equal(graph(POINT), graph(POINT))
    torch.manual_seed(3)
    expected = fn(POINT)
    torch.manual_seed(3)
    torch.testing.assert_close(graph(POINT), expected)


def test_a_graph_of_one_branch_is_not_trusted() -> None:
    def branches(point: Tensor) -> Tensor:
        return point.exp() if bool((point > 0).all()) else point * 2

    try:
        traced(branches, (POINT,))
    except NoGraph:
        return  # torch refuses to look at values while tracing
    assert graph_of(branches, (POINT,), (POINT.abs(),)) is None


def test_what_cannot_be_traced_says_why() -> None:
    with pytest.raises(NoGraph, match="it cannot be traced"):
        traced(lambda point: point * float(point.sum()), (POINT,))
