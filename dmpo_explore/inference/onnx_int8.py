"""Exported stages whose trunk multiplies in int8: onnxruntime's static quantisation, ranges measured on images.

In: a folder of graphs as `torch_export` writes them, and images. Out: the same folder, where matrix products and
convolutions of the trunk read whole numbers. The embedding stays in float32, and so do bypass and predictor: they are
small, and with an embedding in int8 more predictions changed. Ranges are fixed, so that the answer for an image does
not depend on the batch it is in. Weights have one scale per output channel and 7 bits, as 8 overflow on processors
without VNNI (onnxruntime's documentation, "Quantize ONNX models").
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..utils.lazy import extra_imports
from ..utils.typing import Progress
from .onnx_engine import Images, OnnxEngine, stage_file

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
    inputs = _inputs(OnnxEngine(folder), images)
    for k, feeds in enumerate(inputs):
        _quantise(folder / stage_file(k), feeds)
        if progress:
            progress(k + 1, len(inputs))


def _inputs(engine: OnnxEngine, images: Images) -> list[list[dict[str, Any]]]:
    """What every stage reads, in batches, computed in float32."""
    found: list[list[dict[str, Any]]] = [[] for _ in engine.facts["stages"]]
    for first in range(0, len(images), BATCH):
        for k, values in enumerate(engine.stage_inputs(images[first : first + BATCH])):
            found[k].append(values)
    return found


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
