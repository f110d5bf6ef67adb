"""The header of the weights names backbone and classes."""

from __future__ import annotations

import torch
from run_folders import CONFIG

from dmpo_explore.config import ModelConfig
from dmpo_explore.runs.run import Run
from dmpo_explore.runs.store import load_run
from dmpo_explore.runs.torch_weights import save_weights
from dmpo_explore.runs.weights_file import backbone_sha256, read_weights_meta


def test_the_header_names_backbone_and_classes(trained: Run) -> None:
    meta = read_weights_meta(trained.path)
    assert (meta["backbone"], meta["backbone_sha256"]) == ("test_vit", "")
    assert trained.class_names == tuple("0123456789")
    save_weights(trained.path, {"a": torch.zeros(2)}, CONFIG.model)
    assert load_run("mine").class_names == tuple("0123456789")  # then from the data
    assert backbone_sha256(ModelConfig()).startswith("198644e3")
