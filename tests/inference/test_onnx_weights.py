"""Graphs with float16 and int8 weights: fewer bytes, logits close by."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from dmpo_explore.inference.onnx_weights import shrink_graph


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """A convolution, a matrix product and a bias, with weights of different sizes."""
    rng = np.random.default_rng(0)
    weights = {
        "kernel": rng.normal(size=(8, 3, 5, 5)) * np.geomspace(0.01, 10, 8)[:, None, None, None],
        "wide": rng.normal(size=(8, 64)),
        "matrix": rng.normal(size=(64, 64)),
        "bias": rng.normal(size=64),
        "table": rng.normal(size=(8, 64)),  # added, not multiplied: no output channels
    }
    nodes = [
        helper.make_node("Conv", ["images", "kernel"], ["found"]),
        helper.make_node("GlobalAveragePool", ["found"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "wide"], ["broad"]),
        helper.make_node("MatMul", ["broad", "matrix"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["sum"]),
        helper.make_node("Add", ["sum", "row"], ["logits"]),
        helper.make_node("ReduceMean", ["table"], ["row"], axes=[0], keepdims=1),
    ]
    nodes = [nodes[-1], *nodes[:-1]]
    made = helper.make_graph(
        nodes, "small",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["b", 3, 9, 9])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["b", 64])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )  # fmt: skip
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), tmp_path / "a.onnx")
    return tmp_path / "a.onnx"


@pytest.mark.parametrize(("kind", "share", "close"), [("float32", 1.0, 0), ("float16", 0.6, 2e-3), ("int8", 0.5, 2e-2)])
def test_weights_are_smaller_and_answers_close(graph: Path, kind: str, share: float, close: float) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    images = np.random.default_rng(1).normal(size=(4, 3, 9, 9)).astype(np.float32)

    def logits(path: Path) -> np.ndarray:
        return np.asarray(onnxruntime.InferenceSession(str(path)).run(None, {"images": images})[0])

    small = graph.with_name("b.onnx")
    shrink_graph(graph, small, kind)
    onnx.checker.check_model(str(small))
    assert small.stat().st_size <= share * graph.stat().st_size * 1.02
    expected = logits(graph)
    assert np.abs(logits(small) - expected).max() <= close * np.abs(expected).max()


def test_each_output_channel_and_group_of_inputs_has_its_scale(graph: Path) -> None:
    shrink_graph(graph, graph.with_name("b.onnx"), "int8")
    stored = {one.name: numpy_helper.to_array(one) for one in onnx.load(graph.with_name("b.onnx")).graph.initializer}
    assert stored["kernel.scale"].shape == (8, 1, 1) and stored["wide.scale"].shape == (1, 1, 64)
    assert stored["matrix.scale"].shape == (2, 1, 64)  # groups of 32 inputs
    assert np.abs(stored["kernel.bytes"].astype(int)).max(axis=(1, 2)).tolist() == [127] * 8
    assert stored["table.half"].dtype == np.float16 and stored["bias"].dtype == np.float32


def test_another_kind_is_refused(graph: Path) -> None:
    with pytest.raises(ValueError, match="unknown kind of weights 'int4'"):
        shrink_graph(graph, graph.with_name("b.onnx"), "int4")
