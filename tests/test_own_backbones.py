"""The examples of own backbones, each as a run: trained, recorded, executed, exported, attributed and opened again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from calls import call, fails

import dmpo_explore as dx
from dmpo_explore.plugins import unload

pytestmark = pytest.mark.slow
EXAMPLES = Path(__file__).parents[1] / "examples"
SMALL = ["--data", "digits", "--train-size", 60, "--exits", 3, "--epochs", 1, "--precision", "no"]
KINDS = {
    "own_backbone": ["--tuning", "full", "--image-size", 64],
    "torchvision_backbone": ["--image-size", 64],
    "transformers_backbone": [],
}


@pytest.fixture
def example(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The name of an example, copied into a folder of its own with a tiny model beside it."""
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("DMPO_EXPLORE_PLUGINS", "")
    shutil.copy(EXAMPLES / f"{request.param}.py", tmp_path)
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2}
    config = transformers.Dinov2Config(**sizes, image_size=56, patch_size=14)
    transformers.Dinov2Model(config).save_pretrained(tmp_path / "my-model")
    transformers.BitImageProcessor().save_pretrained(tmp_path / "my-model")
    yield request.param
    unload(request.param)


@pytest.mark.parametrize("example", KINDS, indirect=True)
def test_an_example_is_a_whole_run(example: str, tmp_path: Path) -> None:
    file = tmp_path / f"{example}.py"
    call("train", *SMALL, *KINDS[example], "--backbone", f"{file}:make", "--name", "mine", "--record")
    run = dx.load_run("mine")
    assert run.config.model.backbone == f"{example}.py:make"
    assert [need.name for need in run.config.plugins] == [example]
    record, model = run.record("val"), run.model("cpu")
    flops = np.asarray(record.meta.flops) / record.meta.reference_flops
    assert flops[0] <= 0.5 and flops[-1] <= 1.05

    images = run.inputs("val", slice(0, 40))
    policy = dx.policies.ConfidencePolicy(tuple(_middle(record.confidence[:40, k]) for k in range(2)))
    live, said = dx.infer(model, images, policy), policy.exits(record)[:40]
    np.testing.assert_array_equal(live.exit, said)
    np.testing.assert_array_equal(live.label, record.prediction[np.arange(40), said])
    assert len(set(said.tolist())) > 1

    found = dx.attribute(model, images[:1], exit=1, method="integrated_gradients")
    assert np.isfinite(found.heat).all() and np.abs(found.heat).max() > 0
    assert json.loads(call("evaluate", "mine", "--flops", 0.7, "--json").stdout)["run"] == "mine"
    call("export", "mine", "--out", tmp_path / "out", "--flops", 0.7)  # compared with the model in onnxruntime

    unload(example)
    assert run.record("val").n_exits == 3
    assert f"needs the plug-in {example}" in fails("record", "mine", "--split", "test", "--force")


def _middle(values: np.ndarray) -> float:
    """A threshold in the widest gap, where float noise cannot decide: random weights hardly tell images apart."""
    ordered = np.unique(values.astype(float))
    at = int(np.argmax(np.diff(ordered)))
    return float(ordered[at] + ordered[at + 1]) / 2
