"""The table of sizes: real records, a process of its own, and aims that can be missed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import dmpo_explore as dx
import scale


def test_a_synthetic_record_is_a_record(tmp_path: Path) -> None:
    record = scale.synthetic_record(300, 5)
    record.save(tmp_path / "record")
    assert dx.ExitRecord.load(tmp_path / "record").n_images == 300
    accuracy = record.correct.mean(axis=0)
    assert (np.diff(accuracy) > 0).all() and 0.2 < accuracy[0] < accuracy[-1] < 0.9


@pytest.mark.slow
def test_a_row_is_measured_in_a_process_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert scale.main(["--images", "1000", "--exits", "4"]) == 0
    head, _, row = capsys.readouterr().out.splitlines()
    assert "| 1,000 " in row and "trade-off s" in head


def test_aims_are_judged() -> None:
    row = {
        "images": 1_000_000,
        "exits": 12,
        "open_s": 1,
        "fit_s": 1,
        "trade_off_s": 0.6,
        "threshold_s": 0.004,
        "peak_mib": 290,
    }
    assert scale.table([row])[-1].rstrip(" |").endswith("met")
    assert "missed: trade off" in scale.table([row | {"trade_off_s": 0.8}])[-1]
    assert "missed: peak mib" in scale.table([row | {"peak_mib": 310}])[-1]


@pytest.mark.slow
def test_the_peak_is_the_measuring_programs_own() -> None:
    """What the process that starts it once held is not counted (on Linux)."""
    if not Path("/proc/self/status").is_file():
        pytest.skip("no /proc")
    held = np.ones(512 * 2**17)  # 512 MiB
    del held
    assert scale.peak_mib() > 500
    assert 20 < scale.measure_apart(1000, 4)["peak_mib"] < 500
