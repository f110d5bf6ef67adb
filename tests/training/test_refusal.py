"""`refusal`: what a training would refuse is known before it, and nothing else."""

from __future__ import annotations

import pytest
from tiny import tiny_config

from dmpo_explore.training.train import refusal


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ""),
        ({"model.weights": "no-such-file.safetensors"}, ""),  # no weights are read
        ({"model.exits": 99}, "exits=99"),
        ({"model.backbone": "resnet10t", "model.tuning": "vpt"}, "tuning='vpt'"),
        ({"model.backbone": "resnet10t", "training.cutout": "attentive"}, "cutout='attentive' needs a ViT"),
    ],
)
def test_a_refusal_names_the_option(changes: dict[str, object], words: str) -> None:
    found = refusal(tiny_config(40).updated(changes))
    assert words in found and bool(found) == bool(words)
