"""The examples of other training loops: each trains, and leaves records that are opened like any other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dmpo_explore.analysis.evaluation import evaluate_runs
from dmpo_explore.runs.score_folder import ScoreFolder

EXAMPLES = Path(__file__).parents[1] / "examples"
MOST = 60  # lines


@pytest.mark.slow
@pytest.mark.parametrize(("example", "folder"), [("own_loop.py", "my-loop"), ("hf_trainer.py", "hf-trainer")])
def test_another_loop_trains_the_model_and_leaves_records(example: str, folder: str, tmp_path: Path) -> None:
    code = EXAMPLES / example
    assert len(code.read_text(encoding="utf-8").splitlines()) <= MOST
    made = subprocess.run([sys.executable, "-W", "error", code], cwd=tmp_path, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    scores = ScoreFolder(tmp_path / folder)
    test = scores.record("test")
    assert test.n_exits == 3 and test.correct.mean(axis=0).min() > 0.8  # digits: chance is 0.1
    assert test.meta.exit_blocks == (2, 4, 6) and test.meta.flops[-1] > test.meta.flops[0]
    assert f"accuracy by exit {test.correct.mean(axis=0).round(3).tolist()}" in made.stdout
    if "val" in scores.splits():
        (row,) = evaluate_runs([scores])
        assert row["accuracy"] > 0.8
