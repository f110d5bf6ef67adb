"""The table of sizes: real records, a process of its own, and aims that can be missed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import dmpo_explore as dx
import scale
from _scale.page import PAGE, imagenet, page, slopes
from dmpo_explore.utils.files import read_json


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
    assert scale.records([row], scale.AIMS)[-1].rstrip(" |").endswith("met")
    assert "missed: trade off" in scale.records([row | {"trade_off_s": 0.8}], scale.AIMS)[-1]
    assert "missed: peak mib" in scale.records([row | {"peak_mib": 310}], scale.AIMS)[-1]


@pytest.mark.slow
def test_the_page_is_made_of_the_committed_results() -> None:
    recording, sizes, speed = (
        read_json(scale.RESULT.parent / f"{name}.json") for name in ("recording", "scale", "speed")
    )
    assert PAGE.read_text(encoding="utf-8") == page(recording, sizes, speed)


def test_what_is_calculated_follows_from_the_rows() -> None:
    rows = [
        {"images": n, "processes": 2, "cpu_s": 10 + n / 1000, "largest_process_mib": 500 + n / 1000}
        for n in (1000, 5000)
    ]
    assert slopes(rows) == pytest.approx((1.0, 0.001, 500))
    curve = [{"images": n, "exits": 12, "trade_off_s": s} for n, s in ((1000, 0.01), (50_000, 0.06), (10**7, 4.0))]
    head, _, check, decode, model, listed, *_, curves = imagenet(
        {"rows": rows, "photograph_ms": 2.0}, curve, 0.1, 0.001, 500
    )
    assert head.count("ImageNet") == 3
    assert [float(line.split("|")[2]) for line in (check, decode)] == [0.0069, 0.014]  # 50,000 x 1 ms on two cores
    assert float(model.split("|")[2]) == 1.4 and float(listed.split("|")[2]) == 0.54
    assert [float(cell) for cell in curves.split("|")[2:4]] == [0.06, 1.5]  # as measured, and at its rate


@pytest.mark.slow
def test_the_peak_is_the_measuring_programs_own() -> None:
    """What the process that starts it once held is not counted (on Linux)."""
    if not Path("/proc/self/status").is_file():
        pytest.skip("no /proc")
    held = np.ones(512 * 2**17)  # 512 MiB
    del held
    assert scale.peak_mib() > 500
    assert 20 < scale.measure_apart(1000, 4)["peak_mib"] < 500
