"""Times of stages: one for each, rising over the exits, and nothing of the model is changed."""

from __future__ import annotations

import torch
from small_model import made

from dmpo_explore.inference.torch_recording import time_stages


def test_stages_run_as_inference_runs_them() -> None:
    model, seen = made().train(), list[tuple[bool, bool]]()
    model.precision = "bf16"
    model.stages[1].predictor.register_forward_pre_hook(
        lambda part, _: seen.append((part.training, torch.is_autocast_enabled("cpu")))
    )
    time_stages(model, "tiny", passes=1)
    assert {*seen} == {(False, True)} and model.training


def test_every_stage_has_a_time_and_progress_ends() -> None:
    seen = list[tuple[int, int]]()
    model = made()
    found = time_stages(model, "tiny", passes=3, progress=lambda *both: seen.append(both))
    assert len(found.stages) == len(model.stages) and list(found.exits) == sorted(found.exits)
    assert found.run == "tiny" and "CPU" in found.device and seen == [(1, 3), (2, 3), (3, 3)]
