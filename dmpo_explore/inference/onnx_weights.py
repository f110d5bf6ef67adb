"""Smaller weights in ONNX graphs: stored as float16 or int8, computed in float32.

In: a graph as `torch_export` writes it. Out: the same graph, its large weights stored in fewer bytes. The graph's own
first nodes widen them, and a runtime evaluates these once, when it loads the graph. Every runtime can do that: it needs
no operator for half precision or quantised products. int8 weights of a matrix product or convolution are symmetric
around 0, with one scale for each output channel and group of inputs; other large weights become float16.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..utils.registry import unknown

KINDS = ("float32", "float16", "int8")  # of weights, the largest first
LEAST = 256  # numbers of a weight that is worth it
GROUP = 32  # inputs with one scale in int8; all of a channel where their number is no multiple


def shrink_graph(source: Path, target: Path, kind: str) -> None:
    """Write the graph ``source`` to ``target`` with its weights stored as ``kind``, one of `KINDS`.

    Raises:
        ValueError: another kind.

    Example:
        >>> shrink_graph(Path("stage-1.onnx"), Path("small.onnx"), "int4")
        Traceback (most recent call last):
        ValueError: unknown kind of weights 'int4'...
    """
    if kind not in KINDS:
        raise ValueError(unknown("kind of weights", kind, KINDS))
    import onnx
    from onnx import numpy_helper

    model = onnx.load(str(source))
    graph = model.graph
    stored, widening = [], []
    for weight in graph.initializer if kind != "float32" else ():
        array = numpy_helper.to_array(weight)
        if weight.data_type != onnx.TensorProto.FLOAT or array.size < LEAST:
            stored.append(weight)
            continue
        axis = _output_axis(graph, weight.name, array.ndim) if kind == "int8" else None
        kept, nodes = _half(weight.name, array) if axis is None else _bytes(weight.name, array, axis)
        stored += kept
        widening += nodes
    if kind != "float32":
        nodes = [*widening, *graph.node]
        del graph.initializer[:], graph.node[:]
        graph.initializer.extend(stored)
        graph.node.extend(nodes)
    onnx.save(model, str(target))


def _half(name: str, array: Any) -> tuple[list[Any], list[Any]]:
    from onnx import TensorProto, helper, numpy_helper

    half = np.clip(array, *np.finfo(np.float16).min * np.array([1, -1])).astype(np.float16)
    return [numpy_helper.from_array(half, f"{name}.half")], [
        helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT)
    ]


def _bytes(name: str, array: Any, axis: int) -> tuple[list[Any], list[Any]]:
    from onnx import TensorProto, helper, numpy_helper

    channels = array.shape[axis]
    inputs = array.size // channels
    group = GROUP if inputs % GROUP == 0 else inputs
    parts = (channels, inputs // group, group) if axis == 0 else (inputs // group, group, channels)
    blocks = array.reshape(parts)
    scale = (np.abs(blocks).max(axis=2 if axis == 0 else 1, keepdims=True) / 127).astype(np.float16)
    scale[scale == 0] = 1
    whole = np.clip(np.rint(blocks / scale.astype(np.float32)), -127, 127).astype(np.int8)
    kept = {"bytes": whole, "scale": scale, "shape": np.array(array.shape, np.int64)}
    return [numpy_helper.from_array(value, f"{name}.{part}") for part, value in kept.items()], [
        helper.make_node("Cast", [f"{name}.bytes"], [f"{name}.wide"], to=TensorProto.FLOAT),
        helper.make_node("Cast", [f"{name}.scale"], [f"{name}.scales"], to=TensorProto.FLOAT),
        helper.make_node("Mul", [f"{name}.wide", f"{name}.scales"], [f"{name}.blocks"]),
        helper.make_node("Reshape", [f"{name}.blocks", f"{name}.shape"], [name]),
    ]


def _output_axis(graph: Any, name: str, ndim: int) -> int | None:
    """The axis of a weight's output channels; None unless one matrix product or convolution reads it."""
    readers = [node for node in graph.node if name in node.input]
    if ndim < 2 or len(readers) != 1 or list(readers[0].input).index(name) != 1:
        return None
    node = readers[0]
    if node.op_type == "Conv":
        return 0
    if node.op_type == "Gemm":
        return 0 if any(one.name == "transB" and one.i for one in node.attribute) else 1
    return ndim - 1 if node.op_type == "MatMul" else None
