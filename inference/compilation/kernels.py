"""A graph as C++: Inductor's fused loops, called in turn on buffers whose sizes are known, in one function.

Inductor writes good loops and wraps them in Python, or in C++ that takes six seconds to compile. Here its Python is run
once on buffers that are only written down, which gives the list of calls; this list and the loops are the function.
"""

import re
from collections.abc import Callable, Sequence
from itertools import accumulate, product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._decomp import get_decompositions
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx import GraphModule
from torch.fx.passes.fake_tensor_prop import FakeTensorProp
from torch.utils._python_dispatch import TorchDispatchMode

from . import fusible
from .fusible import SPELT_OUT, once
from .graph import NoGraph, operations

WRITER = "".join(Path(file).read_text() for file in (__file__, fusible.__file__))  # libraries are known by it
ALIGNED = 64  # bytes, of every buffer
OWN = "__restrict__ "
INDEX_CHECK = re.compile(r"TORCH_CHECK\((\(0 <= (\w+)\) & \(\2 < \w+\)), [^;]*\);")
aten = torch.ops.aten

# What Inductor's loops ask for of its own header, which takes seconds to compile; and what their calls need. Of the
# system's headers these alone, for most of a compiler's time on a small density goes to them.
INCLUDED_WHERE_USED = {"algorithm": r"std::(max|min)\b", "memory": r"std::(unique_ptr|make_unique)\b"}
HEADER = r"""
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#if defined(__x86_64__) && defined(__GLIBC__) && !defined(__clang__)
extern "C" {  // loops may take four at once
__attribute__((simd("notinbranch"))) double exp(double) noexcept;
__attribute__((simd("notinbranch"))) double log(double) noexcept;
}
#endif
#define TORCH_CHECK(holds, ...) if (!(holds)) throw 0
namespace c10 {
template <class To, class From> inline To convert(From x) { return static_cast<To>(x); }
template <class T> inline T div_floor_integer(T a, T b) { return a / b - (a % b != 0 && (a < 0) != (b < 0)); }
}
template <class T> inline T max_propagate_nan(T a, T b) { return std::isnan(a) || a > b ? a : b; }
template <class T> inline T min_propagate_nan(T a, T b) { return std::isnan(a) || a < b ? a : b; }
template <class T> struct IndexValue { int64_t index; T value; };
template <class T> inline IndexValue<T> argmax_combine(IndexValue<T> a, T value, int64_t index) {
  return value > a.value || (value == a.value && index < a.index) ? IndexValue<T>{index, value} : a;
}
template <class T> inline IndexValue<T> argmin_combine(IndexValue<T> a, T value, int64_t index) {
  return value < a.value || (value == a.value && index < a.index) ? IndexValue<T>{index, value} : a;
}
inline void put(const double* from, int64_t number, double* to) { memmove(to, from, number * sizeof(double)); }
template <class From, class To> inline void put(const From* from, int64_t number, To* to) {
  for (int64_t i = 0; i < number; i++) to[i] = from[i];
}
template <class T> inline void atomic_add(volatile T* to, T by) { *to = *to + by; }  // buffers are a thread's own

extern "C" {  // of BLAS, LAPACK and SciPy's special functions, set by who loads this
void (*dgemm)(const char*, const char*, const int*, const int*, const int*, const double*, const double*, const int*,
              const double*, const int*, const double*, double*, const int*);
void (*dpotrf)(const char*, const int*, double*, const int*, int*);
void (*dtrsm)(const char*, const char*, const char*, const char*, const int*, const int*, const double*,
              const double*, const int*, double*, const int*);
double (*digamma)(double, int);
}
inline double calc_digamma(double x) { return digamma(x, 0); }
inline void multiply(char left, char right, int m, int n, int k, double* a, int lda, double* b, int ldb, double beta,
                     double* c, int ldc) {
  double one = 1;
  dgemm(&left, &right, &m, &n, &k, &one, a, &lda, b, &ldb, &beta, c, &ldc);
}
inline void cholesky(int n, double* factor, int* failed) {  // by columns; NaN where there is none
  char lower = 'L';
  dpotrf(&lower, &n, factor, &n, failed);
  for (long i = 0; *failed && i < long(n) * n; i++) factor[i] = std::numeric_limits<double>::quiet_NaN();
}
inline void solve(char side, char part, char turned, char diagonal, int m, int n, double* a, int lda, double* b) {
  double one = 1;
  dtrsm(&side, &part, &turned, &diagonal, &m, &n, &one, a, &lda, b, &m);
}
inline void copy(double* from, long rows, long columns, long row, long column, double* to, bool lower) {  // by columns
  for (long j = 0; j < columns; j++)
    for (long i = 0; i < rows; i++) to[j * rows + i] = lower && i < j ? 0 : from[i * row + j * column];
}
"""

ENTRY = """
static void evaluate(char* buffers, const {real}* point, {real}* results, void** constants) {{
{calls}
{copies}
}}

extern "C" int64_t evaluate_many(int64_t number, const double* at, double* results, void* constants) try {{
  alignas({aligned}) static thread_local char buffers[{size}];
  static thread_local {real} point[{dim}], found[{length}];
  for (int64_t n = 0; n < number; n++, at += {dim}, results += {length}) {{
    put(at, {dim}, point);
    evaluate(buffers, point, found, (void**)constants);
    put(found, {length}, results);
  }}
  return 0;
}} catch (int) {{
  return -1;
}}
"""

DENSITY = """
extern "C" int64_t log_density(uint64_t, const double* at, double* slope, double* height, void* constants) {{
  double results[{length}];
  if (evaluate_many(1, at, results, constants)) return -1;
  *height = results[0];
  put(results + 1, {dim}, slope);
  bool finite = true;
  for (double each : results) finite &= std::isfinite(each);
  return finite ? 0 : 4;
}}

extern "C" int64_t expand(uint64_t, uint64_t, const double* at, double* out, void* steps) {{
  ++*(int64_t*)steps;
  put(at, {dim}, out);
  return 0;
}}
"""


def source_of(module: GraphModule, inputs: Sequence[Tensor]) -> str:
    """C++ of a graph: point (dim,), constants -> tensors of the point's dtype. Raises NoGraph where it has none.

    `evaluate_many(number, points, results, constants)` gives the results at each point, one behind the other, and -1
    for an index that does not exist. constants: pointers to their memory. Where the graph gives a value () and a
    gradient (dim,), `log_density(dim, point, gradient, value, constants)` gives besides 4 where these are not finite.
    """
    log = _Calls()
    python = _lowered(module, inputs).replace("AsyncCompile()", "calls").replace("import calls", "import AsyncCompile")
    names: dict[str, Any] = {"calls": log}
    exec(python, names)
    # Each with memory of its own: two that share some here, as views of one tensor, need not do so in the next data.
    apart = [torch.empty_strided(value.shape, value.stride(), dtype=value.dtype) for value in inputs]
    with log:
        results = names["call"](list(apart))
    dim, lengths = len(inputs[0]), [result.numel() for result in results]
    if any(result.dtype != inputs[0].dtype or not result.is_contiguous() for result in results):
        raise NoGraph("its results are of several kinds")
    places, real = _Places(apart), {torch.float64: "double", torch.float32: "float"}[inputs[0].dtype]
    copies = [
        f"  memcpy(results + {end - length}, {places(result)}, {length} * sizeof({real}));"
        for end, length, result in zip(accumulate(lengths), lengths, results, strict=True)
    ]
    calls = [call(places) for call in log.calls]
    ends = {"calls": "\n".join(calls), "copies": "\n".join(copies), "real": real, "dim": dim, "length": sum(lengths)}
    entry = ENTRY + DENSITY * ([result.shape for result in results] == [(), (dim,)])
    loops = "".join(log.loops)
    used = "".join(f"#include <{name}>\n" for name, names in INCLUDED_WHERE_USED.items() if re.search(names, loops))
    return used + HEADER + loops + entry.format(**ends, size=places.size, aligned=ALIGNED)


def _lowered(module: GraphModule, inputs: Sequence[Tensor]) -> str:
    """The Python that Inductor writes for a graph, its loops left to the compiler to make vectors of."""
    from torch._inductor import config, cpu_vec_isa
    from torch._inductor.debug import DebugContext
    from torch._inductor.decomposition import select_decomp_table
    from torch._inductor.graph import GraphLowering
    from torch._inductor.virtualized import V

    fake = FakeTensorMode(allow_non_fake_inputs=True)
    faked = [fake.from_tensor(value) for value in inputs]
    table = {**select_decomp_table(), **get_decompositions([aten.addmm, aten.baddbmm, aten.addmv]), **SPELT_OUT}
    module = once(operations(module, inputs, table), inputs)
    FakeTensorProp(module, fake).propagate_dont_convert_inputs(*faked)
    probed = cpu_vec_isa.valid_vec_isa_list.cache_info().currsize  # which takes the compiler eight seconds
    try:
        with config.patch({"cpp.simdlen": 0, "cpp.vec_isa_ok": False, "cpp.threads": 1, "cpp_wrapper": False}):
            lowering = GraphLowering(module, example_inputs=faked, is_inference=True)
            with V.set_graph_handler(lowering), V.set_fake_mode(fake), V.set_debug_handler(DebugContext()):
                lowering.run(*faked)
                return lowering.codegen()[0].value
    finally:
        if not probed:  # Inductor's own loops need to know
            cpu_vec_isa.valid_vec_isa_list.cache_clear()


class _Places:
    """Where in memory each tensor of the calls lies, as C++: in the point, in a constant, or in a buffer of our own."""

    def __init__(self, inputs: Sequence[Tensor]) -> None:
        self.size = ALIGNED
        self._inputs = {value.untyped_storage().data_ptr(): n for n, value in enumerate(inputs)}
        self._given, self._buffers = inputs, dict[int, int]()

    def __call__(self, tensor: Tensor) -> str:
        memory = tensor.untyped_storage()
        if (n := self._inputs.get(memory.data_ptr())) is not None:
            start = "point" if n == 0 else f"constants[{n - 1}]"
            return f"((char*){start} + {tensor.data_ptr() - self._given[n].data_ptr()})"
        if memory.data_ptr() not in self._buffers:
            self._buffers[memory.data_ptr()] = self.size
            self.size += -(-memory.nbytes() // ALIGNED) * ALIGNED
        return f"(buffers + {self._buffers[memory.data_ptr()] + tensor.data_ptr() - memory.data_ptr()})"


def _loop(name: str, source: str) -> str:
    """A loop of Inductor's as a function of that name, so written that a compiler can take several turns at once.

    Each pointer is said to have memory of its own, and an index out of bounds is told at the end, not where it is met.
    """
    head, body = source.split("cpp_prefix.h>", 1)[1].split("\n{", 1)
    head = head.replace('extern "C" ', "static __attribute__((noinline)) ").replace("kernel(", f"{name}(")
    head = head.replace("* ", f"* {OWN}")
    body = re.sub(r"^.*inductor_cpu_(integer|throw).*$", "", body, flags=re.MULTILINE)
    body = INDEX_CHECK.sub(lambda check: _noted(check, body), body)
    return f"{head}\n{{\n    int64_t outside = 0;{body.rstrip().removesuffix('}')}    if (outside) throw 0;\n}}\n"


def _noted(check: re.Match[str], body: str) -> str:
    """An index out of bounds as a flag; what is read in its place is the first, under the name that is read by."""
    (holds, name), before = check.groups(), body[: check.start()]
    while defined := re.findall(rf"auto {name} = (.*);", before):  # names begin anew in each loop: the last one counts
        if not (same := re.fullmatch(r"(?:c10::convert<int64_t>\()?(tmp\d+)\)?", defined[-1])):
            break
        name = same[1]
    return f"outside |= int64_t(!({holds})); {name} = ({holds}) ? {name} : 0;"


class _Calls(TorchDispatchMode):
    """The calls that Inductor's Python makes, of its own loops and of torch's operations, in place of a compiler."""

    def __init__(self) -> None:
        super().__init__()
        self.loops: list[str] = []
        self.calls: list[Callable[[_Places], str]] = []

    def cpp_pybinding(self, types: list[str], source: str) -> Callable[..., None]:
        """Take a loop, and give what is called in its place."""
        number, name = len(self.loops), f"loop_{len(self.loops)}"
        self.loops.append(_loop(name, source))

        def call(*tensors: Tensor) -> None:  # which are held by the call, so that no other lies where one of them did
            memories = [tensor.untyped_storage().data_ptr() for tensor in tensors]
            for pointer, memory in zip(re.findall(rf"{OWN}(\w+)", self.loops[number]), memories, strict=True):
                if memories.count(memory) > 1:
                    self.loops[number] = re.sub(rf"{OWN}{pointer}\b", pointer, self.loops[number])

            def line(place: _Places) -> str:
                at = [f"({kind}){place(tensor)}" for kind, tensor in zip(types, tensors, strict=True)]
                return f"  {name}({', '.join(at)});"

            self.calls.append(line)

        return call

    def wait(self, _: Any) -> None:
        """Nothing is under way."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is aten._linalg_check_errors.default:  # where there is no factor it is NaN
            return None
        if func not in OPERATIONS:
            raise NoGraph(f"{func} is not known to it")
        results = func(*args, **kwargs)
        self.calls.append(lambda place: OPERATIONS[func](place, results, *args, **kwargs))
        return results


def _leading(matrix: Tensor) -> tuple[str, int]:
    """How BLAS reads a matrix by columns: as it lies, N, or turned, T; and how far apart its columns or rows are."""
    (row, column), (rows, columns) = matrix.stride(), matrix.shape
    if matrix.dtype == torch.float64 and (row == 1 or rows == 1) and (column >= rows or columns == 1):
        return "N", max(column, rows)
    if matrix.dtype == torch.float64 and (column == 1 or columns == 1) and (row >= columns or rows == 1):
        return "T", max(row, columns)
    raise NoGraph("it multiplies matrices that do not lie in rows or columns")


def _product(place: _Places, result: Tensor, left: Tensor, right: Tensor, out: Tensor | None = None) -> str:
    """The products of matrices, (..., M, K) by (..., K, N)."""
    lines = []
    for at in product(*map(range, result.shape[:-2])):
        a, b, c = left[at], right[at], result[at]
        if _leading(c)[0] == "T":  # its transpose is the product of theirs, in turn
            a, b, c = b.mT, a.mT, c.mT
        (turn_a, lda), (turn_b, ldb), (_, ldc) = map(_leading, (a, b, c))
        (m, k), n = a.shape, b.shape[1]
        at_a, at_b, at_c = (f"(double*){place(each)}" for each in (a, b, c))
        lines.append(
            f"  multiply('{turn_a}', '{turn_b}', {m}, {n}, {k}, {at_a}, {lda}, {at_b}, {ldb}, 0, {at_c}, {ldc});"
        )
    return "\n".join(lines)


def _cholesky(place: _Places, results: tuple[Tensor, Tensor], matrix: Tensor, upper: bool = False, **_: Any) -> str:
    """The lower factors of symmetric matrices (..., N, N)."""
    if upper:
        raise NoGraph("it takes an upper Cholesky factor")
    return "\n".join(
        f"{_copied(place, matrix[at], results[0][at], True)}\n"
        f"  cholesky({matrix.shape[-1]}, (double*){place(results[0][at])}, (int*){place(results[1][at])});"
        for at in product(*map(range, matrix.shape[:-2]))
    )


def _solve(
    place: _Places, result: Tensor, a: Tensor, b: Tensor, *, upper: bool, left: bool = True, unitriangular: bool = False
) -> str:
    """The solutions X of A X = B, or of X A = B, with triangular A: (..., N, M)."""
    lines, shape = [], torch.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    a, b = a.expand(*shape, *a.shape[-2:]), b.expand(*shape, *b.shape[-2:])
    for at in product(*map(range, shape)):
        turned, lda = _leading(a[at])
        sides = f"'{'L' if left else 'R'}', '{'U' if upper == (turned == 'N') else 'L'}', '{turned}'"
        sides += f", '{'U' if unitriangular else 'N'}', {b.shape[-2]}, {b.shape[-1]}"
        lines.append(_copied(place, b[at], result[at]))
        lines.append(f"  solve({sides}, (double*){place(a[at])}, {lda}, (double*){place(result[at])});")
    return "\n".join(lines)


def _copied(place: _Places, matrix: Tensor, to: Tensor, lower: bool = False) -> str:
    """A matrix brought to another's place, where it lies by columns."""
    if (to.stride() != (1, to.shape[0]) and to.numel() != 1) or to.dtype != torch.float64:
        raise NoGraph("it needs a matrix that lies by columns")
    numbers = ", ".join(map(str, (*matrix.shape, *matrix.stride())))
    return f"  copy((double*){place(matrix)}, {numbers}, (double*){place(to)}, {str(lower).lower()});"


OPERATIONS: dict[Any, Callable[..., str]] = {
    aten.mm.out: _product,
    aten.bmm.out: _product,
    aten.linalg_cholesky_ex.default: _cholesky,
    aten.linalg_solve_triangular.default: _solve,
}
