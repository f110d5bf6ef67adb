"""The header of the weights names backbone and classes."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from run_folders import CONFIG

from dmpo_explore.config import ModelConfig
from dmpo_explore.runs.run import Run
from dmpo_explore.runs.run_files import backbone_sha256, read_weights_meta
from dmpo_explore.runs.store import load_run
from dmpo_explore.runs.torch_model import read_weights, save_weights


def test_the_header_names_backbone_and_classes(trained: Run) -> None:
    meta = read_weights_meta(trained.path)
    assert (meta["backbone"], meta["backbone_sha256"]) == ("test_vit", "")
    assert trained.class_names == tuple("0123456789")
    save_weights(trained.path, {"a": torch.zeros(2)}, CONFIG.model)
    assert load_run("mine").class_names == tuple("0123456789")  # then from the data
    assert backbone_sha256(ModelConfig()).startswith("198644e3")


def test_equal_weights_are_equal_bytes(tmp_path: Path) -> None:
    state = {name: torch.full((3, 2), float(i)) for i, name in enumerate(("b", "a", "c.d"))}
    files = []
    for names in (("a", "b", "c.d"), ("c.d", "b", "a")) * 4:  # the library orders a header's texts at random
        save_weights(tmp_path, {name: state[name] for name in names}, CONFIG.model, ("cat", "dög"))
        files.append((tmp_path / "weights.safetensors").read_bytes())
    assert len(set(files)) == 1
    assert all(torch.equal(value, state[name]) for name, value in read_weights(tmp_path).items())
    assert json.loads(read_weights_meta(tmp_path)["class_names"]) == ["cat", "dög"]
    assert int.from_bytes(files[0][:8], "little") % 8 == 0
