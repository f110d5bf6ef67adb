"""Graphs with float16 and int8 weights: fewer bytes, logits close by, thresholds of their own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from calls import call
from onnx import TensorProto, helper, numpy_helper
from tiny import recorded_run, tiny_config

import dmpo_explore as dx
from dmpo_explore.inference import torch_export
from dmpo_explore.inference.onnx_engine import OnnxEngine
from dmpo_explore.inference.onnx_weights import products, quantise_export, shrink_graph
from dmpo_explore.inference.torch_export import compare, compared, export_int8
from dmpo_explore.utils.files import read_json


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


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda graph: shrink_graph(graph, graph.with_name("b.onnx"), "int4"), "unknown kind of weights 'int4'"),
        (
            lambda graph: quantise_export(graph.parent, np.zeros((0, 3, 8, 8), np.float32)),
            "no images: int8 needs some",
        ),
        (
            lambda graph: export_int8(
                dx.load_run("demo"), graph.with_name("a"), dx.policies.ConfidencePolicy((0.5,)), images=-1
            ),
            "images=-1 must be at least 0",
        ),
    ],
)
def test_another_kind_and_no_images_are_refused(graph: Path, ask: Callable[[Path], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ask(graph)


CHANGED = {"exits": 2, "normalisation": "isqrt"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> dx.Run:
    """A tiny trained and recorded run."""
    return recorded_run(tmp_path_factory.mktemp("runs"), tiny_config(200, CHANGED, epochs=3))


@pytest.mark.slow
def test_it_is_an_export_close_to_float32(run: dx.Run, tmp_path: Path) -> None:
    steps: list[str] = []
    policy = dx.fit_policy(run.record(run.fitting_split), flops=0.8)
    path = export_int8(run, tmp_path / "int8", policy, progress=lambda what, done, total: steps.append(what))
    assert list(dict.fromkeys(steps)) == ["stages", "int8", "fit the policy"]
    plain = dx.inference.export_run(run, tmp_path / "plain", policy)
    assert sorted(p.name for p in path.iterdir()) == sorted(p.name for p in plain.iterdir())
    images = run.inputs("test", slice(0, 40)).numpy()
    ours, theirs = OnnxEngine(path), OnnxEngine(plain)
    difference = np.abs(ours.all_logits(images) - theirs.all_logits(images))
    assert 0 < difference.max() < 0.5 * np.abs(theirs.all_logits(images)).max()
    assert sum(p.stat().st_size for p in path.glob("*.onnx")) < 0.6 * sum(
        p.stat().st_size for p in plain.glob("*.onnx")
    )
    one_by_one = np.concatenate([ours.all_logits(images[i : i + 1]) for i in range(len(images))])
    np.testing.assert_allclose(one_by_one, ours.all_logits(images), atol=1e-4)  # the batch does not matter
    assert ours.policy.fitted["target"] == policy.fitted["target"] and ours.policy.fitted["split"] == run.fitting_split
    assert f"({ours.policy.thresholds[0]:g})" in (path / "README.md").read_text("utf-8")
    facts, found = read_json(path / "model.json"), compared(path)
    assert found is not None and facts["precision"] == "int8" and compared(plain) is None
    assert found.images == run.record(run.fitting_split).n_images and len(found.same) == 2
    assert found.accuracy - found.float32 == pytest.approx((found.rescued - found.hurt) / found.images)
    with pytest.raises(FileExistsError, match="name another place"):
        export_int8(run, path, policy)
    export_int8(run, path, policy, images=10, force=True)
    again = compared(path)
    assert again is not None and again.images == 10
    export_int8(run, path, policy, images=0, force=True)
    assert compared(path) is None and read_json(path / "model.json")["precision"] == "int8"
    assert OnnxEngine(path).policy == policy  # it stays


@pytest.mark.slow
def test_only_products_of_the_trunk_are_chosen(run: dx.Run, tmp_path: Path) -> None:
    import onnx

    policy = dx.policies.ConfidencePolicy((0.5,))
    path = dx.inference.export_run(run, tmp_path / "plain", policy)
    for k, stage in enumerate(run.model("cpu", merge=True).stages):
        blocks = sum(type(part).__name__ == "Block" for part in stage.trunk.modules())
        assert len(products(onnx.load(str(path / f"stage-{k + 1}.onnx")).graph)) == 4 * blocks  # qkv, proj, fc1, fc2


@pytest.mark.slow
def test_the_command_says_what_changes(run: dx.Run, tmp_path: Path) -> None:
    words = ["export", run.path, "--out", tmp_path / "a", "--precision", "int8", "--threshold", 0.6]
    answer = json.loads(call(*words, "--json").stdout)
    assert answer["policy"]["thresholds"] == [0.6] and answer["int8"]["images"] > 0  # a typed threshold stays
    assert f"int8 on {answer['int8']['images']:,} images" in call(*words, "--force").stdout


def test_rescued_and_hurt_are_counted_at_the_exits() -> None:
    def record(*predictions: list[int]) -> dx.ExitRecord:
        logits = np.eye(3)[np.array(predictions)] * 9
        return dx.record_logits([(logits, [0, 1, 2])], flops=(1, 2), split="calibration")

    first = dx.policies.ConfidencePolicy((0.0,))
    found = compare(record([0, 0], [0, 1], [2, 2]), first, record([1, 0], [1, 1], [2, 2]), first)
    assert (found.rescued, found.hurt, found.split, found.images) == (1, 1, "calibration", 3)
    assert found.same == pytest.approx((1 / 3, 1.0))


@pytest.mark.parametrize(
    ("scopes", "part"),
    [("['', 'stage.trunk', 'stage.trunk.0']", "trunk"), ("['', 'embed']", "embed"), ("['', 'mul_3']", ""), ("[]", "")],
)
def test_a_node_is_of_a_part(scopes: str, part: str) -> None:
    assert torch_export._part(scopes) == part
