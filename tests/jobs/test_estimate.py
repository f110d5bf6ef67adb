"""What a training will cost: measured on real steps that leave nothing, then plain arithmetic."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from image_files import fill
from tiny import tiny_config, tiny_options
from typer.testing import CliRunner

from dmpo_explore.cli import root
from dmpo_explore.config import Config, DataConfig
from dmpo_explore.jobs.estimate import STEPS, Rates, estimate_training, measure_rates, probe
from dmpo_explore.training import loop

RATES = Rates((0.5, 0.75), 64, 0.01, 0.02, 5.0, 1000, 0, "CPU", train=1000, val=300, test=200)


pytestmark = pytest.mark.usefixtures("runs")


def test_the_sum_by_hand() -> None:
    config = Config(DataConfig(train_size=640))
    config = replace(config, training=replace(config.training, epochs=3, validation_size=100))
    found = estimate_training(config, RATES)
    fixed = 5 + 3 * 100 * 0.01
    assert found.training == pytest.approx((fixed + 30 * 0.5, fixed + 30 * 0.75))
    assert found.recording == pytest.approx(500 * 0.02) and found.memory == (1000, 1250)
    assert found.seconds == pytest.approx((found.training[0] + 10, found.training[1] + 10))
    everything = estimate_training(replace(config, data=DataConfig()), RATES)
    assert everything.training[0] == pytest.approx(fixed + 3 * 16 * 0.5)  # 1,000 images: 16 steps
    assert estimate_training(replace(config, data=DataConfig(train_size=9999)), RATES) == everything
    checked = estimate_training(config, replace(RATES, checking=0.1))  # every file once, before the first step
    assert checked.training[0] == pytest.approx(found.training[0] + (640 + 300 + 200) * 0.1)


def test_only_what_changes_the_rate_asks_for_another_measurement() -> None:
    config = tiny_config(1000)
    training = config.training
    for same in (
        replace(config, training=replace(training, epochs=9, tuning_lr=1.0, schedule="uniform", seed=3)),
        replace(config, data=replace(config.data, train_size=None)),
    ):
        assert probe(same) == probe(config)
    for other in (
        replace(config, training=replace(training, batch_size=21)),
        replace(config, model=replace(config.model, bypass="none")),
        replace(config, training=replace(training, coupling="sigmoid")),
    ):
        assert probe(other) != probe(config)
    assert probe(config).data.train_size == 20 * (STEPS + 1) and probe(config).training.epochs == 1


@pytest.mark.slow
@pytest.mark.parametrize("train_size", [None, 15])
def test_real_steps_are_timed_and_nothing_is_left(runs: Path, train_size: int | None) -> None:
    config = tiny_config()
    seen: list[tuple[int, int]] = []
    config = replace(config, data=replace(config.data, train_size=train_size))
    rates = measure_rates(config, "cpu", lambda *done: seen.append(done))
    assert seen == [(step, len(seen)) for step in range(1, len(seen) + 1)]  # none in silence
    assert len(rates.steps) == (STEPS if train_size is None else 1)
    assert all(0 < seconds < 60 for seconds in (*rates.steps, rates.validation, rates.recording))
    assert (rates.train, rates.val, rates.test) == (1295, 143, 359) and rates.batch_size == 20
    assert rates.memory > 50 << 20 and rates.start > 0 and "CPU" in rates.device and not rates.device_memory
    assert not runs.exists()
    assert Rates.from_dict(json.loads(json.dumps(asdict(rates)))) == rates


@pytest.mark.slow
def test_on_a_gpu_too_every_step_is_timed_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """A training looks at its losses once in 16 steps there: the calls of seven steps would come at once."""
    monkeypatch.setattr(loop, "_looks_at_every_step", lambda device: False)
    computed: list[int] = []
    known: list[int] = []
    losses = loop.JoinedParts.losses
    monkeypatch.setattr(loop.JoinedParts, "losses", lambda *given: (computed.append(1), losses(*given))[1])
    rates = measure_rates(tiny_config(), "cpu", lambda *done: known.append(len(computed)))
    assert known == [1, 2, 3, 4, 5] and len(rates.steps) == 4  # 100 images in batches of 20, the first for warm-up


@pytest.mark.slow
def test_the_command_line_says_it_and_stops(runs: Path) -> None:
    options = ["train", *tiny_options(), "--estimate", "--device", "cpu"]
    done = CliRunner().invoke(root.app, [*options, "--json"])
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    assert 0 < answer["seconds"][0] <= answer["seconds"][1] and answer["memory_bytes"][0] > 50 << 20
    assert len(Rates.from_dict(answer["rates"]).steps) == 4 and not runs.exists()  # 100 images: 5 steps
    assert answer["smallest_risk"] == 1.0  # it has no calibration images
    text = CliRunner().invoke(root.app, options).stdout
    assert (
        re.search(r" for \d+ epochs?, .* of it to record\n", text)
        and "GiB of memory" in text
        and "steps of 20 images" in text
        and "no calibration images: " in text
    )


def test_what_cannot_be_trained_cannot_be_estimated() -> None:
    with pytest.raises(ValueError, match="unknown data 'nowhere'"):
        measure_rates(Config(DataConfig("nowhere")))


def own(tmp_path: Path, *counts: int, **data: Any) -> Config:
    for number, count in enumerate(counts):
        fill(tmp_path / "own", (f"class{number}",), count, 1000 * number)
    config = tiny_config()
    return replace(config, data=DataConfig(str(tmp_path / "own"), **data))


@pytest.mark.slow
def test_a_rare_class_and_held_out_images_do_not_stop_it(tmp_path: Path) -> None:
    config = own(tmp_path, 200, 200, 8)
    config = replace(config, training=replace(config.training, schedule="learned", batch_size=4))
    with pytest.warns(UserWarning, match="imbalance: class 'class0'"):
        rates = measure_rates(config, "cpu")
    assert len(rates.steps) == STEPS and rates.train + rates.val + rates.test == 408
    assert 0 < rates.checking < rates.start
    assert probe(config).training.schedule == "learned" != probe(tiny_config()).training.schedule


@pytest.mark.slow
def test_broken_images_that_are_skipped_are_not_counted(tmp_path: Path) -> None:
    config = own(tmp_path, 30, 30, skip_broken=True)
    (tmp_path / "own" / "class0" / "07.png").write_bytes(b"no image")
    with pytest.warns(UserWarning, match="left out|cannot be read"):
        rates = measure_rates(config, "cpu")
    assert rates.train + rates.val + rates.test == 59
