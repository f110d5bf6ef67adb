"""timings.json: speeds of both models and the machine; timing.json: times of stages; or an error that names why."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from synthetic import make_record

import dmpo_explore as dx
from dmpo_explore.runs import BUNDLED_RUNS, read_stage_times, read_timings
from dmpo_explore.utils.files import write_json

ROW = {"threshold": 0.9, "flops_fraction": 0.5, "images_per_s": 200.0}
GOOD: dict[str, Any] = {
    "machine": {"cpu": "a processor", "threads": 2, "load": 0.5, "device": "cpu"},
    "batch_size": 64,
    "precision": "no",
    "images": 128,
    "full": {"images_per_s": 100.0},
    "early": [ROW, ROW | {"flops_fraction": 1.0, "images_per_s": 100.0}],
}


@pytest.mark.parametrize("name", ["demo", "demo-naive", "demo-cnn", "fashion", "fashion-naive", "caltech"])
def test_bundled_runs_carry_timings_over_their_whole_range(name: str) -> None:
    run = dx.load_run(BUNDLED_RUNS / name)
    timings, record = read_timings(run.path), run.record("test")
    assert timings is not None and timings.machine and timings.images >= 100
    assert timings.flops_fraction[0] == pytest.approx(record.flops_fraction[0], rel=1e-3)
    assert timings.flops_fraction[-1] == pytest.approx(record.flops_fraction[-1], rel=1e-3)
    assert timings.early_seconds(timings.flops_fraction[0]) < timings.early_seconds(0.5) < timings.full_seconds * 1.2


def test_between_timed_settings_seconds_are_linear_in_flops(tmp_path: Path) -> None:
    assert read_timings(tmp_path) is None
    write_json(tmp_path / "timings.json", GOOD)
    timings = read_timings(tmp_path)
    assert timings is not None and (timings.machine, timings.threads, timings.load) == ("a processor", 2, 0.5)
    assert timings.full_seconds == 0.01
    assert [timings.early_seconds(share) for share in (0.5, 0.75, 1.0, 2.0)] == [0.005, 0.0075, 0.01, 0.01]


def with_value(value: object, *keys: Any) -> str:
    """Good timings but for one value, as text."""
    values = copy.deepcopy(GOOD)
    place: Any = values
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    return json.dumps(values)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (with_value(None, "machine"), "holds no timings: .*AttributeError"),
        (with_value([], "machine"), "holds no timings: .*AttributeError"),
        (with_value(0, "full", "images_per_s"), "holds no timings: .*must be positive"),
        (with_value("fast", "full", "images_per_s"), "holds no timings: .*could not convert"),
        (with_value([], "early"), "holds no timings: .*at least one setting"),
        (with_value({"a": 1}, "early"), "holds no timings: .*TypeError"),
        (with_value(2.0, "early", 0, "flops_fraction"), "holds no timings: .*must rise"),
        (with_value(-1, "early", 0, "images_per_s"), "holds no timings: .*must be positive"),
        (with_value(None, "batch_size"), "holds no timings: .*TypeError"),
        ("[]", "holds no timings"),
        ("{}", "holds no timings: KeyError: 'machine'"),
        ("{", "is not valid JSON"),
    ],
)
def test_what_holds_no_timings_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "timings.json").write_text(text)
    with pytest.raises(ValueError, match=rf"timings\.json {message}"):
        read_timings(tmp_path)


def test_stage_times_are_those_of_the_exports_script_and_stand_for_flops() -> None:
    text = '{"run": "demo", "machine": "aarch64", "system": "Linux", "stages": [{"p50_ms": 2.0}, {"p50_ms": 3.0}]}'
    times = read_stage_times(text)
    assert (times.run, times.device, times.exits) == ("demo", "aarch64, Linux", (2.0, 5.0))
    record = make_record(50, 2, 4)
    timed = times.timed(record)
    assert timed.flops_fraction.tolist() == [0.4, 1.0] and (timed.prediction == record.prediction).all()
    with pytest.raises(ValueError, match="2 stages were timed, but demo has 3 exits"):
        times.timed(make_record(50, 3, 4))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"stages": [{"p50_ms": 2.0}]}', "no 'run'"),
        ("[]", "no timing.json"),
        (b"\xff", "no timing.json"),
        ('{"run": "demo", "stages": [{"p50_ms": 0}]}', "positive milliseconds"),
        ('{"run": "demo", "stages": []}', "positive milliseconds"),
    ],
)
def test_other_files_are_refused_in_one_line(text: str | bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said) as error:
        read_stage_times(text)
    assert "\n" not in str(error.value)
