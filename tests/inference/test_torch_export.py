"""What an export holds, that it is whole or absent, and that it says what the model says."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from small_model import C, K, made, merged, pictures

from dmpo_explore import DMPO, OnnxEngine, Policy, Run, load_policy, load_run
from dmpo_explore.inference import export_model, export_run, torch_export
from dmpo_explore.policies.rules import ConfidencePolicy, OraclePolicy
from dmpo_explore.utils.files import read_json

CLASSES = tuple("abcde")
POLICY = ConfidencePolicy((0.5,), {"on": "val"}, temperatures=(1.0, 2.0, 1.5))


@pytest.mark.slow
def test_a_folder_says_what_it_is(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    path = export_model(
        merged(bypass="ladder"), tmp_path / "out", POLICY, CLASSES, facts={"run": "r"},
        progress=lambda done, total: calls.append((done, total)),
    )  # fmt: skip
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]  # nothing temporary is left
    graphs = [f"stage-{k}.onnx" for k in range(1, K + 1)]
    assert sorted(p.name for p in path.iterdir()) == sorted(
        [*graphs, "README.md", "model.json", "policy.json", "requirements.txt", "run.py", "time_stages.py"]
    )
    facts = read_json(path / "model.json")
    assert [stage["file"] for stage in facts["stages"]] == graphs
    assert [stage["inputs"] for stage in facts["stages"]] == [["images"], ["state", "side"], ["state", "side"]]
    ladder = ["logits", "next_state", "next_side"]
    assert [stage["outputs"] for stage in facts["stages"]] == [ladder, ladder, ["logits"]]
    assert (facts["class_names"], facts["exits"], facts["run"]) == (list(CLASSES), [2, 4, 6], "r")
    assert facts["preprocess"]["image_size"] == 32 and len(facts["preprocess"]["mean"]) == 3
    loaded = load_policy(path / "policy.json")
    assert loaded == POLICY and loaded.temperatures == POLICY.temperatures and loaded.fitted == {"on": "val"}
    readme = (path / "README.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in readme for name in graphs) and f"{C} classes" in readme
    assert "pip wheel --no-deps ." in readme and "install --no-deps dmpo_explore-*.whl" in readme  # no index has it
    assert readme.index("install -r requirements.txt") < readme.index("install --no-deps")  # pip then has no complaint
    assert calls == [(1, K), (2, K), (3, K)]
    places = [
        str(place).encode() for place in (Path(torch_export.__file__).parents[2], Path(torch.__file__).parents[1])
    ]
    for name in graphs:  # no folder of the machine that exported it, and no line of its code
        assert not [place for place in (*places, b"stack_trace") if place in (path / name).read_bytes()]


@pytest.mark.usefixtures("quick")
def test_only_an_export_is_replaced_and_not_unasked(tmp_path: Path) -> None:
    def refused(message: str, **how: bool) -> None:
        with pytest.raises(FileExistsError, match=message):
            export_model(model, path, POLICY, CLASSES, **how)

    model, path = made(), tmp_path / "out"
    path.mkdir()
    (path / "diary.txt").write_text("dear diary")
    refused("exists")
    refused("exists", force=True)
    assert (path / "diary.txt").read_text() == "dear diary"
    shutil.rmtree(path)
    export_model(model, path, POLICY, CLASSES)
    refused("--force")
    export_model(model, path, ConfidencePolicy((0.25,)), CLASSES, force=True)
    assert load_policy(path / "policy.json").thresholds == (0.25,)
    (path / "diary.txt").write_text("dear diary")
    refused(r"holds more than an export \(diary.txt\)", force=True)
    assert (path / "diary.txt").read_text() == "dear diary"
    (path / "diary.txt").unlink()
    (path / "model.json").write_text(json.dumps({"somebody": "else's"}))
    refused("is not an export; it is not replaced", force=True)
    assert (path / "policy.json").is_file()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("model", "policy", "message"),
    [
        (made(), ConfidencePolicy((0.5, 0.5, 0.5)), "has 3 thresholds; 3 exits need 1 or 2"),
        (made().train(), POLICY, "train mode"),
        (made(), OraclePolicy((2,)), "reads the labels"),
    ],
)
def test_wrong_policies_and_models_are_refused(model: DMPO, policy: Policy, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        export_model(model, tmp_path / "out", policy, CLASSES)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_graph_that_differs_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OnnxEngine, "all_logits", lambda self, images: np.zeros((len(images), 1, C), np.float32))
    with pytest.raises(RuntimeError, match="differ from the model by"):
        export_model(made(exits=(1,)), tmp_path / "out", ConfidencePolicy((0.5,)), CLASSES)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_exporting_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    model = made(exits=(1,), seed=3)  # which no other test exports: a graph that was kept leaves any model alone
    with torch.no_grad():
        before = model(pictures())
        export_model(model, tmp_path / "out", ConfidencePolicy((0.5,)), CLASSES)
        assert torch.equal(model(pictures()), before) and not model.training
    assert json.loads((tmp_path / "out" / "model.json").read_text())["format_version"] == 1


@pytest.mark.parametrize("package", ["onnxscript", "onnxruntime"])
def test_a_missing_extra_is_named_before_anything_is_written(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf'export to ONNX needs {package}, .*"dmpo-explore\[onnx\]"'):
        export_model(made(), tmp_path / "out", POLICY, CLASSES)
    with pytest.raises(ImportError, match=package), monkeypatch.context() as patch:
        patch.setattr(Run, "model", lambda *_, **__: pytest.fail("the weights were read first"))
        export_run(load_run("demo"), tmp_path / "out", POLICY)
    assert list(tmp_path.iterdir()) == []
