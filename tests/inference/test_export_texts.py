"""What an export says: scripts that answer as the engine does, metadata, and graphs that small runtimes read."""

from __future__ import annotations

import io
import json
import re
import runpy
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
from picture_kinds import PICTURES, STRANGE, UNKNOWN
from PIL import Image
from small_model import merged

import dmpo_explore as dx
from dmpo_explore.config import Preprocess
from dmpo_explore.data.image_files import decode_image, to_rgb
from dmpo_explore.inference.export_texts import README, RUN, TIME, TIMING, texts
from dmpo_explore.inference.onnx_single import join_stages, metadata
from dmpo_explore.inference.torch_export import check_place
from dmpo_explore.policies import ConfidencePolicy, EntropyPolicy, MarginPolicy, PatiencePolicy, Policy, RunningPolicy
from dmpo_explore.utils.files import read_json, write_json, write_text

SQUASH = Preprocess(32, (0.5, 0.4, 0.3), (0.5, 0.6, 0.7))
CROP = Preprocess(32, (0.5, 0.4, 0.3), (0.5, 0.6, 0.7), resize="crop", crop_pct=0.875, interpolation="bilinear")


CLASSES = tuple("abcdü")
FACTS = {"flops": [1e9, 2e9, 3e9], "licence": "MIT"}
GRAPHS = [{"file": f"stage-{k}.onnx", "inputs": ["images"], "outputs": ["logits"]} for k in (1, 2, 3)]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("onnx")
    place = tmp_path_factory.mktemp("export") / "out"
    return dx.inference.export_model(merged(), place, ConfidencePolicy((0.36,)), CLASSES, facts=FACTS)


def run(folder: Path, *words: object) -> str:
    """A script of the folder, from elsewhere, without this project's settings."""
    command = [sys.executable, "-I", *map(str, words)]
    done = subprocess.run(command, cwd=folder.parent, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def paint(folder: Path) -> list[Path]:
    """Images of several shapes; `test_its_script_reads_images_as_the_engine_does` has those of other kinds."""
    paths = []
    for i, shape in enumerate([(40, 60), (61, 37), (32, 32), (50, 90), (33, 34), (45, 44)]):
        paths.append(folder / f"image {i}.png")
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (*shape, 3), np.uint8)).save(paths[-1])
    return paths


@pytest.mark.slow
@pytest.mark.parametrize(
    ("policy", "preprocess", "held"),
    [
        (ConfidencePolicy((0.5,), temperatures=(1.5, 1.0, 0.5)), SQUASH, False),
        (EntropyPolicy((0.5, 0.5)), CROP, False),
        (MarginPolicy((0.5,)), CROP, False),
        (EntropyPolicy((0.5,), temperatures=(1.5, 1.0, 0.5)), SQUASH, True),
        (MarginPolicy((0.5, 0.5)), SQUASH, True),
    ],
)
def test_its_script_gives_the_engines_answers(
    exported: Path, policy: Policy, preprocess: Preprocess, held: bool, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(exported, tmp_path / "out"))
    facts = read_json(folder / "model.json")
    write_json(folder / "model.json", facts | {"preprocess": facts["preprocess"] | asdict(preprocess)})
    images = paint(tmp_path)
    logits = dx.OnnxEngine(folder).all_logits(dx.OnnxEngine(folder).prepare(images))
    scores = [policy.read(k, logits[:, k])[str(policy.compared_score())] for k in range(2)]
    limits = [float(np.median(score)) for score in scores[: len(policy.thresholds)]]
    policy = replace(policy, thresholds=tuple(limits))  # half of the images exit at exit 1
    if held:
        policy = RunningPolicy(base=policy, shares=(0.5, 0.5), window=3)
    policy.save(folder / "policy.json")
    write_text(folder / RUN, texts(GRAPHS, CLASSES, preprocess, policy)[RUN])
    engine = dx.OnnxEngine(folder)
    found = engine.infer(engine.prepare(images))
    exits = found.exit.tolist()
    assert 0 < exits.count(0) < len(images)
    rows = [line.split("\t") for line in run(folder, folder / RUN, *images).splitlines()]
    assert rows == [
        [str(path), engine.class_names[label], str(exit + 1)]
        for path, label, exit in zip(images, found.label, exits, strict=True)
    ]


def script_of(policy: Policy, folder: Path) -> dict[str, Any]:
    """The names of the script that is made for a policy, after an import beside the policy.json in ``folder``."""
    pytest.importorskip("onnxruntime")
    write_json(folder / "model.json", {"stages": GRAPHS, "preprocess": asdict(SQUASH), "class_names": CLASSES})
    write_text(folder / RUN, texts(GRAPHS, CLASSES, SQUASH, policy)[RUN])
    return runpy.run_path(str(folder / RUN))


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    (policy := ConfidencePolicy((0.5,))).save((folder := tmp_path_factory.mktemp("script")) / "policy.json")
    return script_of(policy, folder)


@pytest.mark.parametrize(("name", "picture"), [row[:2] for row in PICTURES], ids=[row[0] for row in PICTURES])
def test_its_script_reads_images_as_the_engine_does(name: str, picture: Any, script: dict[str, Any]) -> None:
    in_file = isinstance(picture, bytes)  # or as Pillow holds it
    engine = decode_image(picture, name) if in_file else to_rgb(picture)
    image = script["opened"](io.BytesIO(picture)) if in_file else picture.copy()
    assert np.array_equal(np.asarray(script["rgb"](image)), engine)


@pytest.mark.parametrize(("name", "data", "words"), STRANGE, ids=[row[0] for row in STRANGE])
def test_its_script_refuses_what_the_engine_refuses(
    name: str, data: bytes, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path := tmp_path / name).write_bytes(data)
    (policy := ConfidencePolicy((0.5,))).save(tmp_path / "policy.json")
    script_of(policy, tmp_path)
    monkeypatch.setattr("onnxruntime.InferenceSession", MagicMock())
    monkeypatch.setattr(sys, "argv", [RUN, str(path)])
    with pytest.raises(SystemExit, match=re.escape(str(path))) as ended:
        runpy.run_path(str(tmp_path / RUN), run_name="__main__")
    assert ("cannot identify image file" if words == UNKNOWN else words) in str(ended.value)


@pytest.mark.parametrize("base", [ConfidencePolicy((0.5,)), EntropyPolicy((0.5,))])
def test_the_switch_for_early_exits_works_where_shares_are_held(base: Policy, tmp_path: Path) -> None:
    held = RunningPolicy(base=base, shares=(0.5, 0.5), window=4)
    off = replace(base, thresholds=(base.threshold_none,))
    sure, scores = np.eye(5, dtype=np.float32)[[0] * 9], {"confidence": np.ones(9), "entropy": np.zeros(9)}
    for policy, leaving in ((base, True), (off, False)):
        replace(held, base=policy).save(tmp_path / "policy.json")
        assert script_of(held, tmp_path)["exiting"](sure, 1).any() == leaving
        stream = replace(held, base=policy).begin()
        assert stream.decide(1, scores, stream.start(9, np.zeros(9)))[0].any() == leaving


def test_its_script_refuses_a_policy_of_another_rule(tmp_path: Path) -> None:
    made_for = ConfidencePolicy((0.5,))
    replace(made_for, thresholds=(0.25, 0.5)).save(tmp_path / "policy.json")
    assert script_of(made_for, tmp_path)["THRESHOLDS"] == [0.25, 0.5]
    heated, held = replace(made_for, temperatures=(1.5, 1.0, 0.5)), RunningPolicy(base=made_for, shares=(0.5, 0.5))
    for other in (MarginPolicy((0.5,)), heated, held):
        other.save(tmp_path / "policy.json")
        with pytest.raises(SystemExit, match="has another rule than this run.py: export the model again"):
            script_of(made_for, tmp_path)


@pytest.mark.slow
def test_its_stages_are_timed(exported: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(exported, tmp_path / "out"))
    lines = run(folder, folder / TIME, 3).splitlines()
    found = read_json(folder / TIMING)
    assert [row["file"] for row in found["stages"]] == [graph["file"] for graph in GRAPHS]
    assert len(lines) == 3 and all(0 < row["p50_ms"] <= row["p95_ms"] for row in found["stages"])
    assert (found["batch"], found["runs"]) == (1, 3) and "CPUExecutionProvider" in found["providers"]
    check_place(folder, force=True)  # what was measured may be replaced with the export


def test_the_readme_and_the_script_are_made_for_the_policy() -> None:
    made = {
        policy.name: texts(GRAPHS, CLASSES, SQUASH, policy)
        for policy in (ConfidencePolicy((0.5,)), EntropyPolicy((0.8, 0.9)), PatiencePolicy((1,)))
    }
    readme = {name: " ".join(found[README].split()) for name, found in made.items()}
    assert "stop where it is at least the threshold (0.5)" in readme["confidence"]
    assert "stop where it is at most its exit's threshold (0.8, 0.9)" in readme["entropy"]
    assert "Its policy, `patience`, decides by" in readme["patience"] and RUN not in readme["patience"]
    assert {name for name, found in made.items() if RUN in found} == {"confidence", "entropy"}
    held = RunningPolicy(base=EntropyPolicy((0.8,)), shares=(0.5, 0.5))
    made["running"] = texts(GRAPHS, CLASSES, SQUASH, held)
    assert "there is no bound on the risk" in " ".join(made["running"][README].split())
    assert "no bound" not in made["entropy"][README]
    for found in made.values():
        compile(found[TIME], TIME, "exec")
    lines = made["entropy"][RUN].splitlines()
    assert {line.split()[1] for line in lines if line.startswith(("import ", "from "))} == {
        "json", "sys", "pathlib", "numpy", "onnxruntime", "PIL"
    }  # fmt: skip


@pytest.mark.slow
def test_graphs_carry_what_is_needed_and_nothing_that_stops_a_small_runtime(exported: Path, tmp_path: Path) -> None:
    import onnx

    folder, policy = Path(shutil.copytree(exported, tmp_path / "out")), ConfidencePolicy((0.36,))
    join_stages(folder)
    for name, exit, flops in (("stage-2", "2 of 3", "2.0"), ("single", "3, all in this graph", "1.0, 2.0, 3.0")):
        graph = onnx.load(folder / f"{name}.onnx")
        said = {entry.key: entry.value for entry in graph.metadata_props}
        assert said == metadata(read_json(folder / "model.json"), policy, 1 if name == "stage-2" else None)
        assert (said["exit"], said["gflops"], said["licence"]) == (exit, flops, "MIT")
        assert json.loads(said["classes"]) == [*CLASSES] and said["image_size"] == "32"
        assert dx.policy_from_dict(json.loads(said["policy"])) == policy
        assert {"dmpo_explore", "torch", "onnx"} == {*json.loads(said["versions"])}
    for path in folder.glob("stage-*.onnx"):
        graph = onnx.load(path).graph
        assert not graph.value_info and not [node for node in graph.node if node.op_type == "EyeLike"]
        onnx.checker.check_model(str(path))
