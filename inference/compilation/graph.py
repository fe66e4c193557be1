"""A function as a plain graph of tensor operations: Pyro's handlers run while it is traced and never again."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch._decomp import get_decompositions
from torch._guards import TracingContext, tracing
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx import GraphModule, Interpreter, Node
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree

from ...models.structure import one_line

aten = torch.ops.aten
SAME = (aten.detach.default, aten.clone.default, aten.alias.default, aten.lift_fresh_copy.default)
VIEWS = (aten.view.default, aten._unsafe_view.default)
CHOOSING = (aten.index.Tensor, aten.index_put.default)
SAME_SHAPED = (*VIEWS, aten.expand.default, aten._to_copy.default)
# A Bernoulli's log_prob: torch runs it by in-place operations on what it captures, which no graph can do without.
PURE: Any = get_decompositions([aten.binary_cross_entropy_with_logits])
FILLED = {aten.new_zeros.default: 0, aten.zeros_like.default: 0, aten.new_ones.default: 1, aten.ones_like.default: 1}


class NoGraph(Exception):
    """A function could not be traced, compiled or trusted; the message says why."""


@dataclass(frozen=True)
class Graph:
    """A traced function behind its own signature.

    module: tensors side by side, then the constants -> results side by side. constants: what does not depend on the
    function's arguments, computed once: apart from the module, so that functions of other data share its code.
    """

    module: GraphModule
    constants: tuple[Tensor, ...]
    shape: pytree.TreeSpec

    def __call__(self, *args: Any) -> Any:
        """What the function gave for these arguments."""
        return pytree.tree_unflatten(self.module(*pytree.tree_leaves(args), *self.constants), self.shape)


def graph_of(fn: Callable[..., Any], *examples: tuple[Any, ...], samples: bool = False) -> Graph | None:
    """The graph of fn, or None where it has none that can be trusted.

    A graph holds whatever branch fn took at the first example, so it is held to fn at every example, under the same
    noise. examples: argument tuples, two or more unlike ones. samples: whether fn draws random numbers and is to be
    given to `vmap`: it would give every draw the noise of the first if the graph were free of in-place operations.
    """
    try:
        graph = traced(fn, examples[0], samples)
    except NoGraph:
        return None
    return graph if all(agree(graph, fn, example) for example in examples) else None


def traced(fn: Callable[..., Any], example: tuple[Any, ...], in_place: bool = False) -> Graph:
    """The graph of fn as it runs on that example, unchecked. Raises NoGraph.

    in_place: leave it as it comes; otherwise operations in place are replaced, and constants computed once.
    """
    leaves, into = pytree.tree_flatten(example)
    shape: list[pytree.TreeSpec] = []

    def flat(*tensors: Tensor) -> list[Tensor]:
        results, out = pytree.tree_flatten(fn(*pytree.tree_unflatten(tensors, into)))
        shape[:] = [out]
        return results

    try:
        # make_fx would otherwise begin a fake mode, and record a stack, for every tensor: half of its time.
        with tracing(TracingContext(FakeTensorMode(allow_fallback_kernels=True))):
            module = make_fx(flat, decomposition_table=PURE)(*leaves)
            if in_place:
                return Graph(module, (), shape[0])
            module = make_fx(torch.func.functionalize(module))(*leaves)
        return Graph(*_split(module), shape[0])
    except Exception as error:  # torch raises many classes for "cannot trace this"; eager meets any real error again
        raise NoGraph(f"it cannot be traced ({one_line(error)})") from error


def _split(module: GraphModule) -> tuple[GraphModule, tuple[Tensor, ...]]:
    """A module without in-place operations as one of its inputs and its constants; and those constants.

    What changes nothing is left out, and what is computed twice is computed once.
    """
    graph, constants, seen = module.graph, [], cast(dict[Any, Node], {})
    graph.eliminate_dead_code()
    known, first = _constants(module), next(node for node in graph.nodes if node.op != "placeholder")
    _number_masks(graph, known)
    for node in graph.nodes:
        if node in known:
            if any(user not in known for user in node.users):
                constants.append(known[node])
                with graph.inserting_before(first):
                    node.replace_all_uses_with(graph.placeholder(f"constant_{len(constants)}"))
        elif _changes_nothing(node):
            node.replace_all_uses_with(node.all_input_nodes[0])
        elif node.op == "call_function" and not _is_random(node):
            if node.target in VIEWS:
                node.target = aten.reshape.default  # without a clone before it
            same = seen.setdefault((node.target, repr((node.args, node.kwargs))), node)
            if same is not node:
                node.replace_all_uses_with(same)
    for node in reversed(known):
        graph.erase_node(node)
    graph.eliminate_dead_code()
    return GraphModule(torch.nn.Module(), graph), tuple(constants)


def _number_masks(graph: torch.fx.Graph, known: dict[Node, Any]) -> None:
    """Let masks that are constants choose by number: how much they choose is then a matter of shapes."""
    for node in [node for node in graph.nodes if node.target in CHOOSING]:
        indices: list[Any] = []
        for index in node.args[1]:
            if index in known and known[index].dtype == torch.bool:
                for places in known[index].nonzero(as_tuple=True):
                    with graph.inserting_before(node):
                        indices.append(graph.call_function(aten.nonzero.default, (index,)))
                    known[indices[-1]] = places
            else:
                indices.append(index)
        node.args = (node.args[0], indices, *node.args[2:])


def _changes_nothing(node: Node) -> bool:
    if node.target not in SAME_SHAPED:
        return node.target in SAME
    before, after = node.all_input_nodes[0].meta.get("val"), node.meta.get("val")
    return before is not None and after is not None and (before.shape, before.dtype) == (after.shape, after.dtype)


def _is_random(node: Node) -> bool:
    return torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())


def _constants(module: GraphModule) -> dict[Node, Any]:
    """What each node that depends on no input comes to; random numbers are no constants."""
    interpreter = Interpreter(module)
    known: dict[Node, Any] = interpreter.env
    with torch.no_grad():
        for node in module.graph.nodes:
            if node.op in ("placeholder", "output") or _is_random(node):
                continue
            if node.target in FILLED:  # of what came from another it has only the shape
                like = node.meta["val"]
                known[node] = torch.full(like.shape, FILLED[node.target], dtype=like.dtype, device=like.device)
            elif all(needed in known for needed in node.all_input_nodes):
                known[node] = interpreter.run_node(node)
    return known


def agree(made: Callable[..., Any], fn: Callable[..., Any], example: tuple[Any, ...]) -> bool:
    """Whether both give the same for that example under the same noise, to 1e-8 (float32: 1e-4).

    Where fn itself says something else one rounding error away, as it does where a matrix can hardly be inverted, to a
    hundred times that.
    """

    def results(function: Callable[..., Any], values: Any) -> list[Tensor]:
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            return pytree.tree_leaves(function(*values))

    def close(others: list[Tensor], slack: list[float]) -> bool:
        tolerances = [(1e-4, 1e-5) if a.dtype == torch.float32 else (1e-8, 1e-10) for a in known]
        return all(
            torch.allclose(a, b, rtol=rtol, atol=atol + more, equal_nan=True)
            for a, b, (rtol, atol), more in zip(known, others, tolerances, slack, strict=True)
        )

    known, others = results(fn, example), results(made, example)
    if close(others, [0.0] * len(known)):
        return True
    nearby = results(fn, pytree.tree_map(lambda a: a * (1 + torch.finfo(a.dtype).eps) if _is_real(a) else a, example))
    moves = [float((a - b).abs().nan_to_num().max()) if a.numel() else 0.0 for a, b in zip(known, nearby, strict=True)]
    return close(others, [100 * move for move in moves])


def _is_real(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()
