"""Densities and their like as C functions in a shared library, built once and kept on disk: no Python in them."""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from scipy.linalg import cython_blas, cython_lapack
from scipy.special import cython_special
from torch import Tensor
from torch.fx import GraphModule

from .graph import Graph, NoGraph

SourceOf = Callable[[GraphModule, Sequence[Tensor]], str]

FLAGS = "-std=c++14 -O3 -march=native -fno-math-errno -fno-trapping-math -fno-signed-zeros -fassociative-math"
FLAGS += " -freciprocal-math"
FLAGS += " -fno-tree-pre"  # which makes branches of two comparisons in turn, and no vectors of a loop that has such
OFFERED = {  # by scipy, for what has no loops
    **{name: cython_blas.__pyx_capi__[name] for name in ("dgemm", "dtrsm")},
    "dpotrf": cython_lapack.__pyx_capi__["dpotrf"],
    "digamma": cython_special.__pyx_capi__["__pyx_fuse_1psi"],  # of doubles
}
KEPT_LIBRARIES = 500  # on disk: of 20 to 100 kB each


@dataclass(frozen=True)
class Native:
    """Tensors at a point (dim,), a value and a gradient, say, by a C function: its address, and its constants'."""

    library: ctypes.CDLL
    constants: tuple[Tensor, ...]
    pointers: ctypes.Array
    dim: int
    dtype: torch.dtype
    shapes: tuple[torch.Size, ...]

    def address(self, name: str) -> int:
        """Of a function of the library, see `kernels.source_of`."""
        return ctypes.cast(self.library[name], ctypes.c_void_p).value or 0

    def __call__(self, point: Tensor) -> list[Tensor]:
        return [result[0] for result in self.many(point.unsqueeze(0))]

    def many(self, points: Tensor) -> list[Tensor]:
        """The tensors at points (S, dim): each (S, ...)."""
        at = np.ascontiguousarray(points.detach().numpy(), np.float64)
        if at.shape[1:] != (self.dim,):
            raise ValueError(f"points have shape {at.shape}, but need (S, {self.dim})")
        lengths = [shape.numel() for shape in self.shapes]
        found = np.empty((len(at), sum(lengths)))
        sites = (ctypes.c_void_p(each.ctypes.data) for each in (at, found))
        if self.library.evaluate_many(ctypes.c_int64(len(at)), *sites, self.pointers) < 0:
            raise IndexError("an index that does not exist is asked for")
        parts = torch.from_numpy(found).to(self.dtype).split(lengths, 1)
        return [part.reshape(-1, *shape) for part, shape in zip(parts, self.shapes, strict=True)]


def native(graph: Graph, point: Tensor, source_of: SourceOf, writer: str) -> Native:
    """The C function of a graph of a point (dim,). Raises NoGraph where it cannot be built.

    source_of: writes a module's C++ for such inputs, where that is not on disk. writer: its own code, so that a library
    is not taken for that of another version.
    """
    inputs = [point, *graph.constants]
    if {value.device.type for value in inputs} != {"cpu"}:
        raise NoGraph("its data are not in the main memory")
    kinds = [(tuple(value.shape), value.stride(), value.dtype) for value in inputs]
    parts = (writer, FLAGS, _compiler(), _processor(), torch.__version__, graph.module.code, kinds)
    library = _library(hashlib.sha256(repr(parts).encode()).hexdigest()[:32], partial(source_of, graph.module, inputs))
    pointers = (ctypes.c_void_p * (len(inputs) - 1))(*(value.data_ptr() for value in graph.constants))
    with torch.no_grad():
        shapes = tuple(result.shape for result in graph.module(*inputs))
    return Native(library, graph.constants, pointers, len(point), point.dtype, shapes)


_loaded: dict[str, ctypes.CDLL] = {}


def _library(key: str, source: Callable[[], str]) -> ctypes.CDLL:
    """The library of that key: loaded before, kept on disk, or built."""
    if key not in _loaded:
        file = folder() / f"{key}.so"
        try:
            library = ctypes.CDLL(str(file))
        except OSError:  # not there, or not whole
            library = _built(source(), file)
        with suppress(OSError):
            file.touch()  # used last of all
        for name, capsule in OFFERED.items():
            ctypes.c_void_p.in_dll(library, name).value = _address(capsule)
        _loaded[key] = library
    return _loaded[key]


def _built(source: str, file: Path) -> ctypes.CDLL:
    """Compile a source to a library at that place, whole or not at all; elsewhere where nothing can be kept there."""
    with tempfile.TemporaryDirectory(prefix="pyrometer-") as scratch:
        made, written = Path(scratch) / "density.so", Path(scratch) / "density.cpp"
        written.write_text(source)
        command = [_compiler(), *FLAGS.split(), "-shared", "-fPIC", str(written), "-o", str(made)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            errors = [line.partition("error: ")[2] for line in done.stderr.splitlines() if "error: " in line]
            raise NoGraph(f"{_compiler()} refuses it: {errors[0] if errors else done.stderr.strip()}")
        aside = file.with_name(f"{file.stem}-{os.getpid()}-{threading.get_ident()}")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            aside.write_bytes(made.read_bytes())
            os.replace(aside, file)
            _prune(file.parent)
        except OSError:  # a full disk, or one that is only read
            file = made
            with suppress(OSError):
                aside.unlink()
        return ctypes.CDLL(str(file))


def _prune(folder: Path) -> None:
    """Delete what was used longest ago, where there is too much."""
    for file in sorted(folder.iterdir(), key=lambda file: file.stat().st_mtime, reverse=True)[KEPT_LIBRARIES:]:
        file.unlink(missing_ok=True)


@cache
def folder() -> Path:
    """Where libraries are kept: PYROMETER_CACHE, else the user's cache."""
    users = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pyrometer"
    return Path(os.environ.get("PYROMETER_CACHE") or users)


@cache
def _compiler() -> str:
    """The C++ compiler: CXX, else what the system has. Raises NoGraph where there is none."""
    for name in (os.environ.get("CXX", ""), "c++", "g++", "clang++"):
        if name and shutil.which(name):
            return name
    raise NoGraph("there is no C++ compiler: install one, g++ say, or name it in CXX")


@cache
def _processor() -> str:
    """What tells whether another machine can run what was compiled for this one."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        return platform.processor()


def _address(capsule: object) -> int:
    """The address of a C function that scipy offers."""
    name = ctypes.pythonapi.PyCapsule_GetName
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    name.restype, name.argtypes = ctypes.c_char_p, [ctypes.py_object]
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return pointer(capsule, name(capsule))
