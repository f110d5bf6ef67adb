"""Files get the labels and exits that the record has; what cannot be read does not stop the others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import recorded_run, tiny_config

from dmpo_explore.fitting.fit import fit_policy
from dmpo_explore.inference.torch_engine import Prediction, predict_files, to_csv
from dmpo_explore.policies.rules import ConfidencePolicy
from dmpo_explore.policies.running import RunningPolicy
from dmpo_explore.runs.run import Run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return recorded_run(tmp_path_factory.mktemp("runs"), tiny_config(epochs=1))


@pytest.fixture
def files(run: Run, tmp_path: Path) -> list[Path]:
    """The first 20 test pictures as files."""
    pictures = run.image_set("test")
    paths = [tmp_path / f"{i:02d}.png" for i in range(20)]
    for i, path in enumerate(paths):
        Image.fromarray(pictures[i]).save(path)
    return paths


@pytest.mark.filterwarnings("ignore:this policy is fitted on a test record")  # exits are compared, nothing is claimed
@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_files_do_as_the_record_says(run: Run, files: list[Path], batch_size: int, held: bool) -> None:
    record = run.record("test").subset(slice(0, 20))
    policy = fit_policy(record, shares=(0.5, 0.5))
    policy = RunningPolicy(base=policy, shares=(0.3,), window=5) if held else policy
    exits = policy.exits(record)
    assert set(exits.tolist()) == {0, 1}
    found = list(predict_files(run, [files[0].parent], policy, device="cpu", batch_size=batch_size))
    assert [p.path for p in found] == files
    assert [p.exit for p in found] == exits.tolist()
    rows = np.arange(20)
    assert [p.label for p in found] == [run.class_names[label] for label in record.prediction[rows, exits]]
    assert [p.confidence for p in found] == pytest.approx(record.confidence[rows, exits].tolist(), abs=1e-5)


def test_an_unreadable_file_carries_its_error(run: Run, files: list[Path]) -> None:
    files[1].write_bytes(files[1].read_bytes()[:40])
    paths = [*files[:3], files[0].with_name("none.png")]
    found = list(predict_files(run, paths, ConfidencePolicy((0.5,)), device="cpu", batch_size=2))
    assert [p.path for p in found] == paths
    assert [bool(p.error) for p in found] == [False, True, False, True]
    assert "01.png cannot be read" in found[1].error and "no file" in found[3].error
    only = list(predict_files(run, paths[3:], ConfidencePolicy((0.5,)), device="cpu"))
    assert only == [Prediction(paths[3], error=found[3].error)]


def test_a_policy_for_other_exits_is_refused(run: Run, files: list[Path]) -> None:
    with pytest.raises(ValueError, match="3 thresholds; 2 exits"):
        next(predict_files(run, files, ConfidencePolicy((0.5, 0.6, 0.7)), device="cpu"))
    with pytest.raises(ValueError, match="batch_size=-1 must be at least 1"):
        next(predict_files(run, files, ConfidencePolicy((0.5,)), device="cpu", batch_size=-1))


def test_csv_counts_exits_from_one_and_quotes() -> None:
    rows = [Prediction(Path("a, b.png"), "T-shirt/top", 0, 0.5), Prediction(Path("c.png"), error="no file c.png")]
    assert to_csv(rows) == 'file,label,exit,confidence\n"a, b.png",T-shirt/top,1,0.500000\n'
