"""`record_run` with features: the mean patch token that each predictor reads, beside scores that stay as they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import tiny_config

from dmpo_explore.inference.torch_recording import record_run
from dmpo_explore.runs.run import Run
from dmpo_explore.training.train import train

HOW: dict[str, Any] = {"device": "cpu", "batch_size": 100}  # the test split has 359 images: the last batch is short


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path))
    return train(tiny_config(40, epochs=1, validation_size=20), "run", device="cpu")


def test_features_are_what_the_predictors_read_and_a_stopped_recording_keeps_them(run: Run) -> None:
    plain = record_run(run, "test", **HOW)

    def stop(done: int, total: int) -> None:
        if done >= 100:
            raise KeyboardInterrupt

    how = HOW | {"keep_features": True, "force": True}
    with pytest.raises(KeyboardInterrupt):
        record_run(run, "test", **how, progress=stop)
    steps = list[int]()
    record = record_run(run, "test", **how, progress=lambda done, _: steps.append(done))
    assert steps == [100, 200, 300, 359]  # the first batch was there
    with torch.inference_mode():
        walk = run.model("cpu").walk(run.inputs("test", slice(4)))
        wanted = [output.stage.norm(output.read)[:, output.stage.prefix :].mean(1) for output in walk]
    assert record.features is not None and record.embedding is not None
    assert record.features.shape == (359, len(wanted), max(one.shape[1] for one in wanted))
    for k, one in enumerate(wanted):
        np.testing.assert_allclose(record.features[:4, k, : one.shape[1]], one, atol=2e-3, rtol=2e-3)
    assert record.embedding.shape == (359, len(wanted), 2)
    assert plain.features is None and np.array_equal(plain.prediction, record.prediction)
    assert plain.logits is not None and np.array_equal(plain.logits, record.logits)
