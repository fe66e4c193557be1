"""A function as a plain graph of tensor operations: Pyro's handlers run while it is traced and never again."""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch._decomp import get_decompositions
from torch._guards import TracingContext, tracing
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx import GraphModule, Interpreter, Node
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree

from ...models.structure import one_line
from ..runtime.isolation import seed_torch

MAX_TRACED = 64  # functions known for other data
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


@dataclass(frozen=True, repr=False)  # vmap takes the repr at every call
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


@dataclass(frozen=True, eq=False, repr=False)
class OfData:
    """A function of data and of more, which is to be traced once for all data of one kind.

    fn: (the data's tensors, *args) -> results. key: what fn is known by apart from the data.
    """

    fn: Callable[..., Any]
    data: tuple[Tensor, ...]
    key: Hashable

    def __call__(self, *args: Any) -> Any:
        """Its results for these arguments, on its own data."""
        return self.fn(self.data, *args)


def changed(fn: Callable[..., Any], by: Callable[..., Callable[..., Any]], *options: Hashable) -> Callable[..., Any]:
    """by(fn, *options), of the same data where fn is of data. by: known by its name, hence no closure."""
    if not isinstance(fn, OfData):
        return by(fn, *options)
    key = (by.__qualname__, options, fn.key)
    return OfData(lambda data, *args: by(partial(fn.fn, data), *options)(*args), fn.data, key)


class Traced(NamedTuple):
    """What a function comes to on any data of one kind. recipe: the data's tensors -> constants. Rest: as in Graph."""

    module: GraphModule
    recipe: GraphModule
    shape: pytree.TreeSpec

    def on(self, data: tuple[Tensor, ...]) -> Graph:
        """The graph on such data, of whose constants none is trained: a network's own, say."""
        with torch.no_grad():
            return Graph(self.module, tuple(value.detach() for value in self.recipe(*data)), self.shape)


_traced: dict[Hashable, Traced] = {}


def graph_of(fn: Callable[..., Any], *examples: tuple[Any, ...], samples: bool = False) -> Graph | None:
    """The graph of fn, or None where it has none that can be trusted.

    A graph holds whatever branch fn took at the first example, so it is held to fn at every example, under the same
    noise. examples: argument tuples, two or more unlike ones. samples: whether fn draws random numbers and is to be
    given to `vmap`: it would give every draw the noise of the first if the graph were free of in-place operations.
    """
    try:
        for graph in graphs_of(fn, examples[0], samples):
            if all(agree(graph, fn, example) for example in examples):
                return graph
    except NoGraph:
        pass
    return None


def graphs_of(fn: Callable[..., Any], example: tuple[Any, ...], in_place: bool = False) -> Iterator[Graph]:
    """Graphs of fn, unchecked: the one that it was known by on other data, then one of its own. Raises NoGraph.

    in_place: see `traced`.
    """
    if isinstance(fn, OfData) and not in_place:
        key = (
            fn.key,
            *((value.shape, value.stride(), value.dtype) for value in pytree.tree_leaves((fn.data, example))),
        )
        if known := _traced.get(key):
            with suppress(RuntimeError, IndexError):  # these are other data after all
                yield known.on(fn.data)
        with suppress(NoGraph):  # it looks at the data's values, and has a graph for these alone
            known = _traced[key] = _of_any_data(fn, example)
            while len(_traced) > MAX_TRACED:
                _traced.pop(next(iter(_traced)), None)
            yield known.on(fn.data)
            return
    yield traced(fn, example, in_place)


def traced(fn: Callable[..., Any], example: tuple[Any, ...], in_place: bool = False) -> Graph:
    """The graph of fn as it runs on that example, unchecked. Raises NoGraph.

    in_place: leave it as it comes; otherwise operations in place are replaced, and constants computed once.
    """
    leaves, into = pytree.tree_flatten(example)
    module, shape = _recorded(lambda *tensors: fn(*pytree.tree_unflatten(tensors, into)), leaves, in_place)
    if in_place:
        _draw_anew(module)
        return Graph(module, (), shape)
    return _traced_apart(module, (), shape).on(())


def _of_any_data(fn: OfData, example: tuple[Any, ...]) -> Traced:
    leaves, into = pytree.tree_flatten(example)
    number = len(fn.data)
    on = lambda *tensors: fn.fn(tensors[:number], *pytree.tree_unflatten(tensors[number:], into))  # noqa: E731
    module, shape = _recorded(on, [*fn.data, *leaves])
    return _traced_apart(module, fn.data, shape)


def _traced_apart(module: GraphModule, data: Sequence[Tensor], shape: pytree.TreeSpec) -> Traced:
    """A module's constants apart from the rest. Raises NoGraph where that cannot be done."""
    try:
        return Traced(*_split(module, data), shape)
    except Exception as error:  # an operation that does not run apart from the others
        raise NoGraph(f"its constants cannot be told from the rest ({one_line(error)})") from error


def _recorded(
    fn: Callable[..., Any], tensors: Sequence[Tensor], in_place: bool = False
) -> tuple[GraphModule, pytree.TreeSpec]:
    """What fn of these tensors does, from tensors to the leaves of its results; and how these belong together."""
    shape: list[pytree.TreeSpec] = []

    def flat(*tensors: Tensor) -> list[Tensor]:
        results, out = pytree.tree_flatten(fn(*tensors))
        shape[:] = [out]
        return results

    try:
        module = operations(flat, tensors, PURE)
        if not in_place and any(map(_is_in_place, module.graph.nodes)):
            module = operations(torch.func.functionalize(module), tensors)
    except Exception as error:  # torch raises many classes for "cannot trace this"; eager meets any real error again
        raise NoGraph(f"it cannot be traced ({one_line(error)})") from error
    return module, shape[0]


def operations(
    fn: Callable[..., Any], tensors: Sequence[Tensor], decompositions: Mapping[Any, Callable[..., Any]] | None = None
) -> GraphModule:
    """What fn does to tensors side by side, operation by operation, some of these replaced by what they come to."""
    # make_fx would otherwise begin a fake mode, and record a stack, for every tensor: half of its time.
    with tracing(TracingContext(FakeTensorMode(allow_fallback_kernels=True))):
        return make_fx(fn, decomposition_table=decompositions)(*tensors)


def _split(module: GraphModule, data: Sequence[Tensor]) -> tuple[GraphModule, GraphModule]:
    """A module without in-place operations as one of its inputs and its constants; and one of these, given the data.

    data: its first inputs, of which constants are made. What changes nothing is left out, and what is computed twice is
    computed once.
    """
    graph, chosen, seen = module.graph, cast(list[Node], []), cast(dict[Any, Node], {})
    for node in reversed(graph.nodes):
        if not node.users and node.op == "call_function":  # what is drawn in vain, as an assignment, too
            graph.erase_node(node)
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    known, first = _constants(module, dict(zip(inputs, data, strict=False))), inputs[-1].next
    _number_masks(graph, known)
    recipe = _recipe(module, known, inputs[: len(data)])
    for node in graph.nodes:
        if node in known:
            if any(user not in known for user in node.users):
                chosen.append(node)
                with graph.inserting_before(first):
                    node.replace_all_uses_with(graph.placeholder(f"constant_{len(chosen)}"), lambda u: u not in known)
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
    return GraphModule(torch.nn.Module(), graph), recipe(chosen)


def _recipe(
    module: GraphModule, known: Mapping[Node, Any], data: Sequence[Node]
) -> Callable[[Sequence[Node]], GraphModule]:
    """A copy of all that is known, from the data on; of some of it, once it is known which is wanted."""
    recipe, copies = torch.fx.Graph(), cast(dict[Node, Node], {})
    for node in [*data, *(node for node in module.graph.nodes if node in known and node not in data)]:
        if node.target in FILLED:
            like = node.meta["val"]
            options = {"dtype": like.dtype, "device": like.device}
            copies[node] = recipe.call_function(aten.full.default, (list(like.shape), FILLED[node.target]), options)
        else:
            copies[node] = recipe.node_copy(node, copies.__getitem__)

    def of(chosen: Sequence[Node]) -> GraphModule:
        recipe.output([copies[node] for node in chosen])
        recipe.eliminate_dead_code()
        return GraphModule(module, recipe)

    return of


def _draw_anew(module: GraphModule) -> None:
    """Let what is filled with noise be made with it, for `vmap` fills nothing that is alike in all draws."""
    for node in module.graph.nodes:
        if node.target is aten.normal_.default and len(node.args) == 1 and len(node.args[0].users) == 1:
            node.target = aten.randn_like.default
    module.recompile()


def _number_masks(graph: torch.fx.Graph, known: dict[Node, Any]) -> None:
    """Let masks that are constants choose by number: how much they choose is then a matter of shapes."""
    for node in [node for node in graph.nodes if node.target in CHOOSING and node not in known]:
        indices: list[Any] = []
        for index in node.args[1]:
            if index in known and known[index].dtype == torch.bool:
                with graph.inserting_before(node):
                    places = graph.call_function(aten.nonzero.default, (index,))
                    known[places] = known[index].nonzero()
                    for dim in range(known[index].dim()):
                        indices.append(graph.call_function(aten.select.int, (places, 1, dim)))
                        known[indices[-1]] = known[places][:, dim]
            else:
                indices.append(index)
        node.args = (node.args[0], indices, *node.args[2:])


def _changes_nothing(node: Node) -> bool:
    if node.target not in SAME_SHAPED:
        return node.target in SAME
    before, after = node.all_input_nodes[0].meta.get("val"), node.meta.get("val")
    return before is not None and after is not None and (before.shape, before.dtype) == (after.shape, after.dtype)


def _is_in_place(node: Node) -> bool:
    return getattr(getattr(node.target, "_schema", None), "is_mutable", False)


def _is_random(node: Node) -> bool:
    return torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())


def _constants(module: GraphModule, data: Mapping[Node, Tensor]) -> dict[Node, Any]:
    """What each node that depends on no other input comes to; random numbers are no constants."""
    interpreter = Interpreter(module)
    known: dict[Node, Any] = interpreter.env
    known |= data
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
            seed_torch(0)
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
