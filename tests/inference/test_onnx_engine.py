"""The engine without torch: the same exits and labels, states that stay on a device, broken folders named."""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from answers import as_recorded, same_answers
from PIL import Image
from small_model import C, K, merged, pictures
from synthetic import between, make_record
from tiny import tiny_config

from dmpo_explore import Policy, fit_policy, infer, load_run
from dmpo_explore.data.splits import stratified_rows
from dmpo_explore.data.torch_loaders import make_transform
from dmpo_explore.inference import onnx_engine
from dmpo_explore.inference.exit_loop import ActiveBatch, Queue
from dmpo_explore.inference.onnx_engine import (
    CONCAT,
    GATHER,
    DeviceArray,
    OnnxEngine,
    SessionDevice,
    device_of,
    open_session,
    read_facts,
)
from dmpo_explore.inference.torch_export import export_model, export_run, record_digest
from dmpo_explore.policies.rules import ConfidencePolicy, PatiencePolicy
from dmpo_explore.utils.files import read_json, unseal, write_json, write_text

ON_CPU = ["CPUExecutionProvider"]


@pytest.fixture
def device() -> SessionDevice:
    return SessionDevice("cpu", 0, ON_CPU)


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
    monkeypatch.setattr(onnx_engine, "SessionDevice", lambda *all: all)

    def session(provider: str, kind: str = "tensor(float)", **options: str) -> Any:
        value = SimpleNamespace(type=kind)
        return SimpleNamespace(
            get_providers=lambda: [provider, *ON_CPU], get_provider_options=lambda: {provider: options},
            get_inputs=lambda: [value], get_outputs=lambda: [value],
        )  # fmt: skip

    gpu = session("CUDAExecutionProvider", device_id="1")
    assert device_of([gpu, gpu]) == ("cuda", 1, [("CUDAExecutionProvider", {"device_id": "1"})])
    assert device_of([gpu, session(ON_CPU[0])]) is None and device_of([session(ON_CPU[0])]) is None
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

    monkeypatch.setattr(
        "dmpo_explore.inference.onnx_engine.device_of", lambda sessions: SessionDevice("cpu", 0, ON_CPU)
    )
    engine, read = OnnxEngine(path), Counter[str]()
    monkeypatch.setattr(DeviceArray, "__array__", lambda *all, **more: read.update(["state"]))
    batches = [images[i : i + 7] for i in range(0, len(images), 7)]
    for found in (engine.infer(images, policy), engine.stream(batches, policy, refill=True)):
        same_answers(found, expected, atol=1e-6)
    monkeypatch.undo()
    assert not read
    for own, other in zip(engine.stage_inputs(images), plain.stage_inputs(images), strict=True):
        assert own.keys() == other.keys()
        assert all(type(own[k]) is np.ndarray and np.allclose(own[k], other[k], atol=1e-5) for k in own)


ROOT = Path(__file__).resolve().parents[2]


Export = tuple[Any, Path, Policy]  # a merged model, its export and its policy


@pytest.fixture(scope="module", params=["conv lora-all", "ladder lora-all", "conv vpt"])
def of_any_kind(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Export:
    """Slow, because torch.onnx is."""
    return export_of(request.param, tmp_path_factory.mktemp("export") / "exported")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Export:
    """One kind for all tests that need any."""
    return export_of("conv lora-all", tmp_path_factory.mktemp("export") / "exported")


def export_of(kind: str, folder: Path) -> Export:
    bypass, tuning = kind.split()
    model = merged(bypass=bypass, tuning=tuning)
    policy = ConfidencePolicy((between(infer_all(model)[:, :-1], 0.6),))
    return model, export_model(model, folder, policy, tuple("abcde")), policy


def infer_all(model: Any) -> Any:
    with torch.no_grad():
        return model(pictures(60)).softmax(-1).amax(-1).numpy()


@pytest.mark.slow
def test_same_exits_same_labels(of_any_kind: Export) -> None:
    model, path, policy = of_any_kind
    engine, images = OnnxEngine(path, threads=1), pictures(60)
    for asked in (policy, PatiencePolicy((1,)), ConfidencePolicy((0.0,)), ConfidencePolicy((1.01,))):
        expected = infer(model, images, asked)
        outs = [engine.infer(images.numpy(), asked)]
        outs += [engine.stream(images.numpy().reshape(6, 10, 3, 32, 32), asked, refill=refill) for refill in (0, 1)]
        outs.append(engine.stream([(batch, None) for batch in images.split(7)], asked))  # as loaders give them
        for out in outs:
            same_answers(out, expected)
    own = engine.infer(images.numpy())
    assert len(set(own.exit.tolist())) > 1
    np.testing.assert_array_equal(own.exit, infer(model, images, policy).exit)  # the export's own policy


@pytest.mark.slow
def test_later_stages_are_skipped(of_any_kind: Export) -> None:
    engine, images = OnnxEngine(of_any_kind[1]), pictures(60).numpy()
    ran: list[tuple[int, int]] = []

    def watched(k: int, step: Any) -> Any:
        def run(x: Any, side: Any) -> Any:
            ran.append((k, len(x)))
            return step(x, side)

        return run

    engine._steps = [watched(k, step) for k, step in enumerate(engine._steps)]
    engine.infer(images, ConfidencePolicy((0.0,)))
    assert ran == [(0, 60)]
    ran.clear()
    out = engine.infer(images)
    assert ran == [(k, n) for k in range(K) if (n := int((out.exit >= k).sum()))]


@pytest.mark.slow
def test_several_threads_share_an_engine(exported: Export) -> None:
    engine, images = OnnxEngine(exported[1], threads=1), pictures(60).numpy()
    expected = engine.infer(images)
    assert len(set(expected.exit.tolist())) > 1
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda k: engine.infer(images[k : k + 1]), [*range(60)] * 4))
    np.testing.assert_array_equal([int(one.exit[0]) for one in answers], np.tile(expected.exit, 4))
    np.testing.assert_array_equal([int(one.label[0]) for one in answers], np.tile(expected.label, 4))


@pytest.mark.slow
def test_the_requirements_of_an_export_are_all_that_it_needs(exported: Export) -> None:
    """Every other installed package is refused as if it were not there."""
    code = f"""
import importlib.metadata, sys
import numpy as np
named = set(open({str(exported[1] / "requirements.txt")!r}).read().split()) | {{"dmpo-explore"}}
packages = importlib.metadata.packages_distributions()
refused = {{name for name, owners in packages.items() if not named & set(owners)}}

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in refused:
            raise ModuleNotFoundError(f"no {{name}}", name=name)

sys.meta_path.insert(0, Refuse())
import dmpo_explore as dx
engine = dx.OnnxEngine({str(exported[1])!r})
print(engine.infer(engine.prepare([np.zeros((40, 50, 3), np.uint8)] * 2)).exit.size, "torch" in refused)"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.stdout.split() == ["2", "True"], done.stderr


@pytest.mark.slow
def test_pictures_are_prepared_as_in_training(exported: Export, tmp_path: Path) -> None:
    model, path, _ = exported
    engine = OnnxEngine(path)
    rng = np.random.default_rng(0)
    pixels = np.kron(rng.integers(0, 256, (6, 8, 3), np.uint8), np.ones((9, 9, 1), np.uint8))
    Image.fromarray(pixels).save(tmp_path / "a.png")
    prepared = engine.prepare([tmp_path / "a.png", pixels])
    assert prepared.shape == (2, 3, 32, 32) and prepared.dtype == np.float32
    expected = make_transform(model.preprocess)(pixels).numpy()
    grey_level = 1 / 255 / min(model.preprocess.std)
    assert np.abs(prepared - expected).max() <= 1.01 * grey_level
    assert np.abs(prepared - expected).mean() < 0.1 * grey_level
    with pytest.raises(ValueError, match="no images"):
        engine.prepare([])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((2, 3, 48, 48), np.float32), r"this model expects \(B, 3, 32, 32\)"),
        (np.zeros((0, 3, 32, 32), np.float32), "B ≥ 1"),
        (np.zeros((2, 3, 32, 32), np.uint8), "type uint8"),
    ],
)
def test_wrong_images_are_refused(exported: Export, images: Any, message: str) -> None:
    engine = OnnxEngine(exported[1])
    with pytest.raises(ValueError, match=message):
        engine.infer(images)
    with pytest.raises(ValueError, match=message):
        engine.stream([images])


@pytest.mark.slow
def test_a_policy_of_another_record_is_told(exported: Export, tmp_path: Path) -> None:
    path = shutil.copytree(exported[1], tmp_path / "copy")
    facts = json.loads((path / "model.json").read_text())
    policies = [fit_policy(make_record(50, K, C, seed), flops=0.7) for seed in (1, 2)]
    (path / "model.json").write_text(json.dumps(facts | record_digest(policies[0])))
    for policy in (policies[0], replace(policies[1], fitted={})):
        policy.save(path / "policy.json")
        assert OnnxEngine(path).policy == policy
    policies[1].save(path / "policy.json")
    with pytest.warns(UserWarning, match="policy.json was fitted on another record than this export's"):
        OnnxEngine(path)


def flipped(path: Path) -> None:
    """Among the weights: still a graph, with other answers."""
    content = bytearray((path / "stage-2.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (path / "stage-2.onnx").write_bytes(content)


def no_graph(path: Path) -> None:
    unseal(path, "model.json")
    (path / "stage-2.onnx").write_bytes(b"no graph")


def with_facts(**changes: Any) -> Callable[[Path], object]:
    return lambda path: write_json(path / "model.json", read_json(path / "model.json") | changes)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoil", "kind", "message"),
    [
        (lambda path: (path / "model.json").unlink(), FileNotFoundError, "is not an export.*dmpo-explore export"),
        (flipped, ValueError, r"stage-2.onnx is damaged or was changed after its export"),
        (no_graph, ValueError, r"stage-2.onnx is not a graph"),
        (with_facts(class_names=["one"]), ValueError, r"model.json names 1 classes, and stage-1.onnx has \d"),
        (lambda path: (path / "stage-2.onnx").unlink(), FileNotFoundError, r"stage-2.onnx is missing"),
        (with_facts(format_version=9), ValueError, "format_version=1"),
        (with_facts(stages=[]), ValueError, "'stages'"),
        (with_facts(stages=[{"file": "stage-1.onnx"}]), ValueError, "names 1 stages, and stage-1.onnx is not the last"),
    ],
)
def test_broken_folders_are_named(
    exported: Export, tmp_path: Path, spoil: Callable[[Path], object], kind: type[Exception], message: str
) -> None:
    path = Path(shutil.copytree(exported[1], tmp_path / "copy"))
    spoil(path)
    with pytest.raises(kind, match=message):
        OnnxEngine(path)


@pytest.mark.slow
def test_what_was_changed_is_opened_once_its_seal_is_gone(exported: Export, tmp_path: Path) -> None:
    path = Path(shutil.copytree(exported[1], tmp_path / "copy"))
    flipped(path)
    unseal(path, "model.json")
    assert OnnxEngine(path)


GPU, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    (tmp_path / "gather.onnx").write_bytes(GATHER)
    return tmp_path / "gather.onnx"


@pytest.mark.parametrize("starts", [False, True])
def test_a_provider_that_is_not_there_or_does_not_start_is_no_silent_cpu(
    graph: Path, starts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without its libraries onnxruntime has it, takes the CPU, and writes a line into its log."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [GPU, CPU] if starts else [CPU])
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *_, **__: SimpleNamespace(get_providers=lambda: [CPU]))
    with pytest.raises(ValueError, match=f"cannot use {GPU} here, only .*{CPU}: install onnxruntime-gpu"):
        open_session(graph, providers=[GPU, CPU])


def test_float32_is_float32_on_a_gpu_of_onnxruntime(graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in shows what onnxruntime is given: TF32 is its default, and a search at every batch size."""
    asked: list[Any] = []

    def session(file: str, options: Any, providers: Any) -> Any:
        asked.append(providers)
        return SimpleNamespace(get_providers=lambda: [GPU, CPU])

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [GPU, CPU])
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    open_session(graph, providers=[GPU, CPU])
    open_session(graph, providers=[(GPU, {"use_tf32": "1", "device_id": "1"})])
    whole = {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}
    assert asked == [[(GPU, whole), (CPU, {})], [(GPU, whole | {"use_tf32": "1", "device_id": "1"})]]


@pytest.mark.slow
def test_onnxruntime_may_be_missing(exported: Export, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match=r'an exported model needs onnxruntime, .*"dmpo-explore\[onnx\]"'):
        OnnxEngine(exported[1])


@pytest.mark.slow
@pytest.mark.usefixtures("fetched_backbone")
def test_the_demo_leaves_as_recorded(tmp_path: Path) -> None:
    """About 60 test images, some of every exit: both engines and the record agree on every exit and label."""
    run = load_run("demo")
    policy = fit_policy(run.record("val"), "confidence", flops=0.30)
    rows = stratified_rows(policy.exits(run.record("test")), 60, least=4)
    engine = OnnxEngine(export_run(run, tmp_path / "demo", policy))
    assert engine.class_names == run.class_names and engine.facts["flops"] == list(run.record("test").meta.flops)
    record, images = run.record("test").subset(rows), run.inputs("test", rows)
    assert len(set(policy.exits(record).tolist())) > 3
    for out in (
        engine.infer(images.numpy()),
        engine.stream(np.array_split(images.numpy(), 4), refill=True),
        infer(run.model("cpu", merge=True), images, policy),
    ):
        as_recorded(out, policy, record, atol=0.01)


FACTS: dict[str, Any] = {
    "format_version": 1,
    "class_names": ["a", "b"],
    "preprocess": {
        "image_size": 32,
        "resize": "squash",
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
        "interpolation": "bicubic",
    },
    "stages": [{"file": "stage-1.onnx"}, {"file": "stage-2.onnx"}],
}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stages": [{"file": "../../stage-1.onnx"}]}, "file='../../stage-1.onnx' of stage 1 must be 'stage-1.onnx'"),
        ({"stages": [{"inputs": []}]}, "file=None of stage 1"),
        ({"stages": ["stage-1.onnx"]}, "file=None of stage 1"),
        ({"class_names": [1, 2]}, "'class_names' must be texts"),
        ({"preprocess": {"mean": 1}}, "image_size=None"),
        ({"preprocess": FACTS["preprocess"] | {"image_size": True}}, "image_size=True"),
        ({"preprocess": FACTS["preprocess"] | {"interpolation": "psychic"}}, "interpolation='psychic'"),
        ({"preprocess": FACTS["preprocess"] | {"interpolation": "x" * 10**5}}, "interpolation='x.{,80} must be one of"),
        ({"preprocess": FACTS["preprocess"] | {"resize": "cut"}}, "resize='cut' must be one of squash, crop"),
        ({"preprocess": FACTS["preprocess"] | {"resize": ["crop"]}}, "resize=.'crop'. must be one of squash, crop"),
        ({"preprocess": FACTS["preprocess"] | {"crop_pct": 0}}, "crop_pct=0 must be a number from 0 to 1"),
        ({"preprocess": FACTS["preprocess"] | {"mean": [1, 2]}}, "mean=.* must be three numbers"),
        ({"preprocess": FACTS["preprocess"] | {"std": [1, 0, 1]}}, "std=.* must be three numbers, above 0"),
    ],
)
def test_facts_are_checked_and_lead_nowhere_else(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    (tmp_path / "model.json").write_text(json.dumps(FACTS))
    assert read_facts(tmp_path / "model.json") == FACTS
    (tmp_path / "model.json").write_text(json.dumps(FACTS | changes))
    with pytest.raises(ValueError, match=f"model.json: .*{message}"):
        OnnxEngine(tmp_path)


def test_a_run_that_merges_tokens_is_refused(tmp_path: Path) -> None:
    write_text(tmp_path / "run" / "config.json", tiny_config(model={"merge": 2}).to_json())
    with pytest.raises(ValueError, match="run 'run' merges tokens"):
        export_run(load_run(tmp_path / "run"), tmp_path / "out", ConfidencePolicy((0.9,)))
    assert not (tmp_path / "out").exists()
