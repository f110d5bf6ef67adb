"""Smaller weights in ONNX graphs: stored as float16 or int8, computed in float32.

In: a graph as `torch_export` writes it. Out: the same graph, its large weights stored in fewer bytes. The graph's own
first nodes widen them, and a runtime evaluates these once, when it loads the graph. Every runtime can do that: it needs
no operator for half precision or quantised products. int8 weights of a matrix product or convolution are symmetric
around 0, with one scale for each output channel and group of inputs; other large weights become float16.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..utils.lazy import extra_imports
from ..utils.registry import unknown
from ..utils.typing import Progress
from .onnx_engine import Images, OnnxEngine, stage_file

KINDS = ("float32", "float16", "int8")  # of weights, the largest first
LEAST = 256  # numbers of a weight that is worth it
GROUP = 32  # inputs with one scale in int8; all of a channel where their number is no multiple


def shrink_graph(source: Path, target: Path, kind: str) -> None:
    """Write the graph ``source`` to ``target`` with its weights stored as ``kind``, one of `KINDS`.

    Raises:
        ValueError: another kind.
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


# Exported stages whose trunk multiplies in int8: onnxruntime's static quantisation, ranges measured on images.
#
# In: a folder of graphs as `torch_export` writes them, and images. Out: the same folder, where matrix products and
# convolutions of the trunk read whole numbers. The embedding stays in float32, and so do bypass and predictor: they are
# small, and with an embedding in int8 more predictions changed. Ranges are fixed, so that the answer for an image does
# not depend on the batch it is in. Weights have one scale per output channel and 7 bits, as 8 overflow on processors
# without VNNI (onnxruntime's documentation, "Quantize ONNX models").

PRODUCTS = ("MatMul", "Gemm", "Conv")
PART = "part"  # what `torch_export` notes of a node: its part of the model
IN_INT8 = "trunk"
BATCH = 16


def quantise_export(folder: Path, images: Images, progress: Progress | None = None) -> None:
    """Turn the trunk's products of an export into int8, in place.

    Args:
        folder: an export in float32.
        images: (n,3,S,S), preprocessed; their activations set the ranges.
        progress: called with (stages done, K).

    Raises:
        ValueError: no images, or a graph without products of a trunk.
        ImportError: onnxruntime is not installed.
    """
    if not len(images):
        raise ValueError("no images: int8 needs some to measure the ranges of activations on")
    engine = OnnxEngine(folder)
    inputs: list[list[dict[str, Any]]] = [[] for _ in engine.facts["stages"]]  # what every stage reads, in batches
    for first in range(0, len(images), BATCH):
        for k, values in enumerate(engine.stage_inputs(images[first : first + BATCH])):
            inputs[k].append(values)
    for k, feeds in enumerate(inputs):
        _quantise(folder / stage_file(k), feeds)
        if progress:
            progress(k + 1, len(inputs))


def _quantise(path: Path, feeds: list[dict[str, Any]]) -> None:
    with extra_imports("an export in int8", "onnx"):
        import onnx
        from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process

    class Feeds(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left: Iterator[dict[str, Any]] = iter(feeds)

        def get_next(self) -> dict[str, Any] | None:
            return next(self.left, None)

    chosen = products(onnx.load(str(path)).graph)
    if not chosen:
        raise ValueError(f"{path.name} has no products of a trunk that are known as such; export the run again")
    with tempfile.TemporaryDirectory() as place:
        shaped = Path(place) / path.name
        quant_pre_process(str(path), str(shaped), skip_optimization=True, skip_symbolic_shape=True)
        quantize_static(
            str(shaped), str(path), Feeds(), nodes_to_quantize=chosen, per_channel=True, reduce_range=True,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
        )  # fmt: skip


def products(graph: Any) -> list[str]:
    """Names of the nodes that multiply by a weight of the trunk."""
    weights = {weight.name for weight in graph.initializer}
    return [
        node.name for node in graph.node
        if node.op_type in PRODUCTS and node.input[1] in weights
        and any(one.key == PART and one.value == IN_INT8 for one in node.metadata_props)
    ]  # fmt: skip
