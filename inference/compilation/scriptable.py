"""The gradient of a convolution in a form that TorchScript's tracer can record."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import torch
from torch.fx import GraphModule

__all__ = ["scriptable"]

aten = torch.ops.aten

SOURCE = """
def convolution_backward(
    grad: Tensor, x: Tensor, weight: Tensor, bias: List[int], stride: List[int], padding: List[int],
    dilation: List[int], transposed: bool, output_padding: List[int], groups: int, wanted: List[int]
) -> Tuple[Tensor, Tensor, Tensor]:
    mask = [wanted[0] == 1, wanted[1] == 1, wanted[2] == 1]
    a, b, c = torch.ops.aten.convolution_backward(
        grad, x, weight, bias, stride, padding, dilation, transposed, output_padding, groups, mask
    )
    nothing = torch.zeros([0])
    return (a if mask[0] else nothing, b if mask[1] else nothing, c if mask[2] else nothing)
"""
with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # torch's, of TorchScript as a whole
    _backward = torch.jit.CompilationUnit(SOURCE).convolution_backward


def scriptable(module: GraphModule) -> GraphModule:
    """The module with each convolution's gradient as a script of its own.

    The tracer records neither a list of truth values nor a result that is missing.
    """
    module = copy.copy(module)
    module.graph = copy.deepcopy(module.graph)
    for node in module.graph.nodes:
        if node.target is aten.convolution_backward.default:
            node.target = _convolution_backward
    module.recompile()
    return module


def _convolution_backward(
    grad: Any, x: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, *rest: Any
) -> Any:
    transposed, output_padding, groups, mask = rest
    wanted = [int(each) for each in mask]
    return _backward(
        grad, x, weight, bias or [0], stride, padding, dilation, transposed, output_padding, groups, wanted
    )
