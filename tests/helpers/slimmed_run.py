"""A tiny ViT that is trained and then slimmed, with the records of both."""

from __future__ import annotations

from typing import Any

import pytest
from tiny import tiny_config

from dmpo_explore.inference.torch_recording import record_run
from dmpo_explore.neighbours.slimming.slim import slim
from dmpo_explore.runs.run import Run
from dmpo_explore.training.train import train

SLIM: dict[str, Any] = {"heads": 0.5, "ffn": 0.5, "epochs": 2, "images": 40, "device": "cpu"}


def wide_and_slim(model: dict[str, Any] | None = None, splits: tuple[str, ...] = ("val", "test")) -> tuple[Run, Run]:
    """The runs ``wide`` and ``thin`` below the runs root, recorded."""
    pytest.importorskip("torch_pruning", reason="the extra slim is not installed")
    wide = train(tiny_config(model=model), "wide", device="cpu")
    thin = slim(wide, "thin", **SLIM)
    for run in (wide, thin):
        for split in splits:
            record_run(run, split, device="cpu")
    return wide, thin
