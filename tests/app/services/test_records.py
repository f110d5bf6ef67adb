"""Records in the app's cache: few files stay open however many are viewed; other weights make a record stale."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from dmpo_explore_app.services import records
from run_folders import make_run
from synthetic import make_record

import dmpo_explore as dx
from dmpo_explore.records import validation as arrays
from dmpo_explore.utils.files import sha256


@pytest.fixture
def run(tmp_path: Path) -> Path:
    make_record(8, 3, 5, split="test").save(make_run(tmp_path / "mine") / "records/test")
    return tmp_path / "mine"


@pytest.mark.slow
@pytest.mark.parametrize(("whole", "most"), [(arrays.WHOLE, 0), (0, arrays.MANY)])
def test_300_records_viewed(run: Path, monkeypatch: pytest.MonkeyPatch, whole: int, most: int) -> None:
    monkeypatch.setattr(arrays, "WHOLE", whole)
    before = psutil.Process().num_fds()
    for state in range(300):
        assert records.record_at((str(run), "test", state, 0)).n_images == 8
        assert psutil.Process().num_fds() <= before + most
    recent = inspect.getattr_static(records.record_at, "__wrapped__")
    recent.cache_clear()
    recent.__wrapped__.clear()
    assert psutil.Process().num_fds() <= before


def test_a_record_is_checked_again_when_the_weights_change(tmp_path: Path) -> None:
    run = dx.load_run(make_run(tmp_path / "mine"))
    weights = run.path / dx.runs.WEIGHTS
    weights.write_bytes(b"first")
    record = make_record(8, 3, 5, split="test")
    replace(record, meta=replace(record.meta, weights_sha256=sha256(weights))).save(run.path / "records/test")
    assert records.record(run, "test").n_images == 8
    weights.write_bytes(b"trained on")
    with pytest.raises(ValueError, match="is of earlier weights"):
        records.record(run, "test")
