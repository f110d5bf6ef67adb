"""Records in the app's cache: few files stay open however many are viewed."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
from dmpo_explore_app.services import records
from run_folders import make_run
from synthetic import make_record

from dmpo_explore.records import arrays


@pytest.fixture
def run(tmp_path: Path) -> Path:
    make_record(8, 3, 5, split="test").save(make_run(tmp_path / "mine") / "records/test")
    return tmp_path / "mine"


@pytest.mark.parametrize(("whole", "most"), [(arrays.WHOLE, 0), (0, arrays.MANY)])
def test_300_records_viewed(run: Path, monkeypatch: pytest.MonkeyPatch, whole: int, most: int) -> None:
    monkeypatch.setattr(arrays, "WHOLE", whole)
    before = psutil.Process().num_fds()
    for state in range(300):
        assert records.record_at((str(run), "test", state, 0)).n_images == 8
        assert psutil.Process().num_fds() <= before + most
    records.record_at.cache_clear()
    records.record_at.__wrapped__.clear()  # type: ignore[attr-defined]
    assert psutil.Process().num_fds() <= before
