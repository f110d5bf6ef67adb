"""States that stay on the device of onnxruntime, tried with its CPU provider: same answers, only logits come back."""

from __future__ import annotations

import importlib
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from small_model import merged, pictures
from synthetic import between

from dmpo_explore.inference import onnx_engine as onnx_device
from dmpo_explore.inference.exit_loop import ActiveBatch, Queue
from dmpo_explore.inference.onnx_engine import CONCAT, GATHER, DeviceArray, OnnxEngine, SessionDevice, device_of
from dmpo_explore.inference.torch_export import export_model
from dmpo_explore.policies.rules import ConfidencePolicy

CPU = ["CPUExecutionProvider"]


@pytest.fixture
def device() -> SessionDevice:
    return SessionDevice("cpu", 0, CPU)


def test_rows_are_picked_and_joined_on_the_device(device: SessionDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    states = np.arange(24, dtype=np.float32).reshape(6, 2, 2)
    x = device.put(states)
    with monkeypatch.context() as patch:  # nothing comes to the host meanwhile
        patch.setattr(DeviceArray, "__array__", None)
        batch, queue = ActiveBatch(np.arange(6), x, x[::-1], (np.arange(6),)), Queue()
        queue.put(batch.take(np.array([4, 1, 2])))
        queue.put(batch.take(slice(5, None)))
        found, rest = queue.get(2), queue.get(9)
    for got, rows in ((found, [4, 1]), (rest, [2, 5])):
        assert got.rows.tolist() == rows and got.memory[0].tolist() == rows and got.x.shape == (2, 2, 2)
        np.testing.assert_array_equal(np.asarray(got.x), states[rows])
        np.testing.assert_array_equal(np.asarray(got.side), states[::-1][rows])


@pytest.mark.parametrize(("graph", "operator"), [(GATHER, "Gather"), (CONCAT, "Concat")])
def test_the_small_graphs_are_what_onnx_writes(graph: bytes, operator: str) -> None:
    helper: Any = importlib.import_module("onnx.helper")
    types = {"x": 1, "rows": 7} if operator == "Gather" else {"x": 1, "z": 1}  # 1: float32, 7: int64
    inputs = [helper.make_tensor_value_info(name, kind, None) for name, kind in types.items()]
    node = helper.make_node(operator, list(types), ["y"], axis=0)
    made = helper.make_graph([node], operator, inputs, [helper.make_tensor_value_info("y", 1, None)])
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 13)], ir_version=8, producer_name="")
    assert graph == model.SerializeToString()


def test_a_gpu_is_recognised_by_its_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_device, "SessionDevice", lambda *all: all)

    def session(provider: str, kind: str = "tensor(float)", **options: str) -> Any:
        value = SimpleNamespace(type=kind)
        return SimpleNamespace(
            get_providers=lambda: [provider, *CPU], get_provider_options=lambda: {provider: options},
            get_inputs=lambda: [value], get_outputs=lambda: [value],
        )  # fmt: skip

    gpu = session("CUDAExecutionProvider", device_id="1")
    assert device_of([gpu, gpu]) == ("cuda", 1, [("CUDAExecutionProvider", {"device_id": "1"})])
    assert device_of([gpu, session(CPU[0])]) is None and device_of([session(CPU[0])]) is None
    assert device_of([session("CUDAExecutionProvider", "tensor(float16)")]) is None


@pytest.mark.slow
@pytest.mark.parametrize("bypass", ["conv", "ladder"])
def test_only_logits_come_to_the_host(bypass: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, images = merged(bypass=bypass), pictures(40).numpy()
    path = export_model(model, tmp_path / "exported", ConfidencePolicy((1.0,)), tuple("abcde"))
    plain = OnnxEngine(path)
    confidences = np.exp(z := plain.all_logits(images)[:, :-1].astype(float)).max(-1) / np.exp(z).sum(-1)
    policy = ConfidencePolicy((between(confidences, 0.5),))
    expected = plain.infer(images, policy)
    assert len(set(expected.exit.tolist())) > 1

    monkeypatch.setattr("dmpo_explore.inference.onnx_engine.device_of", lambda sessions: SessionDevice("cpu", 0, CPU))
    engine, read = OnnxEngine(path), Counter[str]()
    monkeypatch.setattr(DeviceArray, "__array__", lambda *all, **more: read.update(["state"]))
    batches = [images[i : i + 7] for i in range(0, len(images), 7)]
    for found in (engine.infer(images, policy), engine.stream(batches, policy, refill=True)):
        np.testing.assert_array_equal(found.exit, expected.exit)
        np.testing.assert_array_equal(found.label, expected.label)
        np.testing.assert_allclose(found.confidence, expected.confidence, atol=1e-6)
    monkeypatch.undo()
    assert not read
    for own, other in zip(engine.stage_inputs(images), plain.stage_inputs(images), strict=True):
        assert own.keys() == other.keys()
        assert all(type(own[k]) is np.ndarray and np.allclose(own[k], other[k], atol=1e-5) for k in own)
