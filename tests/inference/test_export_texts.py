"""What an export says: scripts that answer as the engine does, metadata, and graphs that small runtimes read."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import dmpo_explore as dx
from dmpo_explore.config import Preprocess
from dmpo_explore.inference.export_texts import RUN, TIME, TIMING
from dmpo_explore.inference.onnx_description import metadata
from dmpo_explore.inference.onnx_single import join_stages
from dmpo_explore.policies import ConfidencePolicy, EntropyPolicy, MarginPolicy, PatiencePolicy, Policy
from dmpo_explore.utils.files import read_json

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
SQUASH = Preprocess(32, (0.5, 0.4, 0.3), (0.5, 0.6, 0.7))
CROP = Preprocess(32, (0.5, 0.4, 0.3), (0.5, 0.6, 0.7), resize="crop", crop_pct=0.875, interpolation="bilinear")


@pytest.fixture(scope="module")
def model() -> dx.models.DMPO:
    return dx.build_model(dx.ModelConfig("test_vit", "random", 32, exits=3, channels=8, bypass_width=8), 3).eval()


def run(folder: Path, *words: object) -> str:
    """A script of the folder, from elsewhere, without this project's settings."""
    command = [sys.executable, "-I", *map(str, words)]
    done = subprocess.run(command, cwd=folder.parent, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def paint(folder: Path) -> list[Path]:
    """Images of several shapes, one of which lies on its side by its EXIF orientation."""
    paths = []
    for i, shape in enumerate([(40, 60), (61, 37), (32, 32), (50, 90), (33, 34), (45, 44)]):
        pixels = np.random.default_rng(i).integers(0, 256, (*shape, 3), np.uint8)
        exif = Image.Exif()
        exif[0x0112] = 6 if i == 3 else 1
        paths.append(folder / f"image {i}.png")
        Image.fromarray(pixels).save(paths[-1], exif=exif)
    return paths


@pytest.mark.parametrize(
    ("policy", "preprocess"),
    [
        (ConfidencePolicy((0.36,), temperatures=(1.5, 1.0, 0.5)), SQUASH),
        (EntropyPolicy((1.0, 1.09)), CROP),
        (MarginPolicy((0.02,)), CROP),
    ],
)
def test_its_script_gives_the_engines_answers(
    model: dx.models.DMPO, policy: Policy, preprocess: Preprocess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "preprocess", preprocess)
    folder = dx.inference.export_model(model, tmp_path / "out", policy, ["a", "b", "c"])
    images = paint(tmp_path)
    logits = dx.OnnxEngine(folder).all_logits(dx.OnnxEngine(folder).prepare(images))
    scores = [policy.read(k, logits[:, k])[str(policy.compared_score())] for k in range(2)]
    limits = [float(np.median(score)) for score in scores[: len(policy.thresholds)]]
    replace(policy, thresholds=tuple(limits)).save(folder / "policy.json")  # half of the images exit at exit 1
    engine = dx.OnnxEngine(folder)
    found = engine.infer(engine.prepare(images))
    exits = found.exit.tolist()
    assert 0 < exits.count(0) < len(images)
    rows = [line.split("\t") for line in run(folder, folder / RUN, *images).splitlines()]
    assert rows == [
        [str(path), engine.class_names[label], str(exit + 1)]
        for path, label, exit in zip(images, found.label, exits, strict=True)
    ]
    text = (folder / RUN).read_text(encoding="utf-8")
    assert {line.split()[1] for line in text.splitlines() if line.startswith(("import ", "from "))} == {
        "json", "sys", "pathlib", "numpy", "onnxruntime", "PIL"
    }  # fmt: skip


def test_its_stages_are_timed(model: dx.models.DMPO, tmp_path: Path) -> None:
    folder = dx.inference.export_model(model, tmp_path / "out", ConfidencePolicy((0.5,)), ["a", "b", "c"])
    lines = run(folder, folder / TIME, 3).splitlines()
    found = read_json(folder / TIMING)
    assert [row["file"] for row in found["stages"]] == [
        stage["file"] for stage in read_json(folder / "model.json")["stages"]
    ]
    assert len(lines) == 3 and all(0 < row["p50_ms"] <= row["p95_ms"] for row in found["stages"])
    assert (found["batch"], found["runs"]) == (1, 3) and "CPUExecutionProvider" in found["providers"]
    dx.inference.export_model(model, folder, ConfidencePolicy((0.4,)), ["a", "b", "c"], force=True)  # replaced with it


def test_the_readme_is_made_for_the_policy(model: dx.models.DMPO, tmp_path: Path) -> None:
    texts = {}
    for policy in (ConfidencePolicy((0.5,)), EntropyPolicy((0.8, 0.9)), PatiencePolicy((1,))):
        folder = dx.inference.export_model(model, tmp_path / policy.name, policy, ["a", "b", "c"])
        texts[policy.name] = (folder / "README.md").read_text(encoding="utf-8")
        assert (folder / RUN).exists() == (policy.name != "patience")
    assert "stop where it is at least the threshold (0.5)" in texts["confidence"]
    assert "stop where it is at most its exit's threshold (0.8, 0.9)" in texts["entropy"]
    assert "Its policy, `patience`, decides by" in texts["patience"] and "run.py" not in texts["patience"]


def test_graphs_carry_what_is_needed_and_nothing_that_stops_a_small_runtime(
    model: dx.models.DMPO, tmp_path: Path
) -> None:
    policy = ConfidencePolicy((0.36,))
    facts = {"flops": [1e9, 2e9, 3e9], "licence": "MIT"}
    folder = dx.inference.export_model(model, tmp_path / "out", policy, ["a", "b", "ü"], facts=facts)
    join_stages(folder)
    for name, exit, flops in (("stage-2", "2 of 3", "2.0"), ("single", "3, all in this graph", "1.0, 2.0, 3.0")):
        graph = onnx.load(folder / f"{name}.onnx")
        said = {entry.key: entry.value for entry in graph.metadata_props}
        assert said == metadata(read_json(folder / "model.json"), policy, 1 if name == "stage-2" else None)
        assert (said["exit"], said["gflops"], said["licence"]) == (exit, flops, "MIT")
        assert json.loads(said["classes"]) == ["a", "b", "ü"] and said["image_size"] == "32"
        assert dx.policy_from_dict(json.loads(said["policy"])) == policy
        assert {"dmpo_explore", "torch", "onnx"} == {*json.loads(said["versions"])}
    for path in folder.glob("stage-*.onnx"):
        graph = onnx.load(path).graph
        assert not graph.value_info and not [node for node in graph.node if node.op_type == "EyeLike"]
        onnx.checker.check_model(str(path))
