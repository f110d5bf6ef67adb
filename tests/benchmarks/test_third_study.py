"""The study with 1,000 images: its plan, data, orders of loss weights, comparisons, rows; the forecast."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import stats
from synthetic import make_record
from tiny import tiny_config

import dmpo_explore as dx
import forecast
import third_study
from _common import comparisons
from _common.rows import Rows
from _common.study import make_row
from _third import protocol
from _third.data import MOST, SETS, TRAIN
from _third.protocol import BUDGETS, COMPARISONS, PARTS_OF_STUDY
from dmpo_explore.analysis.saving_forecast import Forecast
from dmpo_explore.data import DATASETS
from dmpo_explore.data.image_set import ImageFiles
from dmpo_explore.data.splits import SPLITS
from dmpo_explore.training.schedules import SCHEDULES, loss_weights


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    protocol.register()
    yield
    for name in SETS:
        del DATASETS[f"third-{name}"]
    for name in ("third-constant", "third-reversed"):
        del SCHEDULES[name]


@pytest.mark.slow
def test_every_run_is_planned_once_and_every_comparison_has_its_arms() -> None:
    runs = protocol.plan(tuple(PARTS_OF_STUDY))
    configs = [PARTS_OF_STUDY[part].config(*run).to_json() for part, *run in runs]
    assert len(configs) == len({*configs})
    arms = {arm for part in PARTS_OF_STUDY.values() for arm in part.arms}
    assert {arm for comparison in COMPARISONS for arm in (comparison.arm, comparison.other)} <= arms
    tests = [(data_, arm, seed) for part, data_, arm, seed in runs if part == "b"]
    assert ("birds100", "dmpo", 0) not in tests and ("birds100", "dmpo-uniform", 0) in tests  # the first is in part a
    for part, *run in runs:
        config = PARTS_OF_STUDY[part].config(*run)
        assert len(loss_weights(config.training.schedule, 0, 12, 6)) == 6
        assert (config.data.train_size, config.data.calibration) == (None, None)  # all of the set, and with one


@pytest.mark.slow
def test_the_kept_rows_are_of_the_plan_as_it_stands_and_give_the_kept_comparisons(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert third_study.main(["--list"]) == 0 and capsys.readouterr().out == "every run is there\n"
    kept = pd.read_csv(third_study.RESULTS / "third-comparisons.csv")
    pd.testing.assert_frame_equal(third_study.compared(third_study.ROWS), kept, check_exact=False)


def test_the_pages_show_what_is_complete() -> None:
    for page, name, lines in third_study.tables(pd.read_csv(third_study.RESULTS / "third-comparisons.csv")):
        assert "\n".join(lines) in page.read_text(encoding="utf-8"), name


def test_orders_have_the_mean_of_linear_and_its_reverse() -> None:
    mean = loss_weights("third-constant", 3, 12, 6)
    assert mean == loss_weights("third-constant", 11, 12, 6)
    np.testing.assert_allclose(mean, (0.45, 0.36, 0.40, 0.68, 1.06, 1.48), atol=0.006)
    for epoch in range(12):
        assert loss_weights("third-reversed", epoch, 12, 6) == loss_weights("linear", 11 - epoch, 12, 6)


def test_comparisons_take_the_endpoints_that_both_arms_have(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    right = rng.random(400) < 0.7
    better, rows = right | (rng.random(400) < 0.2), Rows(tmp_path / "made.parquet")
    for seed in (0, 1):
        for arm, values in (("dmpo", better), ("naive", right)):
            found = {"exit 1": right, "exit 2": values, "30 %": values, "static-6": values}
            rows.add("birds100", f"{arm}-s{seed}", protocol.BASE, {}, found)
        for arm in ("single", "static-6"):
            rows.add("birds100", f"{arm}-s{seed}", protocol.BASE, {}, {"exit 1": right})
    table = comparisons.table(rows, COMPARISONS, BUDGETS, protocol.planned)
    naive = table[table["b"] == "naive"].set_index("at")
    assert naive.index.tolist() == ["exit 1", "early exits", "last exit", "30 %"]
    gain = 100 * (better.mean() - right.mean())
    assert naive.loc["30 %", "points"] == pytest.approx(gain) and naive.loc["30 %", "verdict"] == "larger"
    assert naive.loc["exit 1", "points"] == 0 and naive.loc["exit 1", "verdict"] == "open"
    assert naive.preliminary.all() and (naive.seeds == 2).all()
    assert table[table["a"] == "dmpo"].groupby("b")["at"].apply(list).to_dict() == {
        "naive": naive.index.tolist(), "single": ["last exit", "30 %"], "static-6": ["last exit", "static-6"]
    }  # fmt: skip
    expected = dx.analysis.seeds_interval(100.0 * np.stack([better * 1.0 - right] * 2))
    assert tuple(naive.loc["30 %", ["points", "low", "high"]]) == pytest.approx(expected)


def test_the_level_of_a_comparison_is_students_for_one_training_and_1_for_equal_arms() -> None:
    values = np.random.default_rng(0).normal(0.1, 1, (1, 300))
    assert comparisons.p_value(values) == pytest.approx(stats.ttest_1samp(values[0], 0).pvalue)
    assert comparisons.p_value(np.zeros((3, 20))) == 1
    assert comparisons.p_value(1 + values / 100) == comparisons.LEAST_P


def test_at_the_level_of_a_kept_comparison_its_interval_just_reaches_0() -> None:
    kept = pd.read_csv(third_study.RESULTS / "third-comparisons.csv")
    assert ((kept["p"] <= 0.05) == (kept["verdict"] != "open")).all()
    ordered = kept["p"].sort_values().to_numpy()
    largest = np.flatnonzero(ordered <= 0.05 * np.arange(1, len(kept) + 1) / len(kept))[-1]  # Benjamini-Hochberg
    assert (kept["p_adjusted"] <= 0.05).sum() == largest + 1


@pytest.mark.slow
def test_a_row_is_kept_with_its_config_and_answers_and_is_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path / "runs"))
    config, rows = tiny_config(epochs=1).updated({"data.calibration": True}), Rows(tmp_path / "made.parquet")
    rival = config.updated({"model.exits": 1})
    how = {"image_size": config.model.image_size, "rivals": {"single": rival}, "drop": 0.01}
    for _ in range(2):
        make_row(tmp_path / "runs" / "a-s0", rows, "digits", config, lambda _: None, budgets={"90 %": 0.9}, **how)
    (row,), answers = rows.numbers("digits").to_dict("records"), rows.outcomes("digits")["a-s0"]
    record = dx.load_run("a-s0").record("test")
    assert {f"exit {k + 1}" for k in range(record.n_exits)} | {"single"} <= answers.keys()
    assert (answers["exit 2"] == record.correct[:, 1]).all() and row["exit_2"] == record.correct[:, 1].mean()
    assert row["read"] == "test" and row["share_drop"] <= row["full_share"] and row["val_exit_1"] >= 0
    with pytest.raises(ValueError, match="digits/a-s0 was made with another config"):
        rows.has("digits", "a-s0", rival)
    assert rows.numbers("other").empty and not rows.has("digits", "b-s0", config)


# -- its data sets: 1,000 training images each, no image in two splits --


def test_bundled_groceries_keep_their_splits() -> None:
    found = {split: dx.load_images("third-grocery", split) for split in SPLITS}
    assert {split: len(images) for split, images in found.items()} == {
        "train": TRAIN, "val": 649, "calibration": 655, "test": 1300,
    }  # fmt: skip
    whole = dx.load_images("grocery", "test")
    assert all(np.array_equal(found["test"][i], whole[i]) for i in (0, 1299))
    assert np.unique(found["train"].labels).size == 81


def paint(folder: Path, count: int) -> None:
    folder.mkdir(parents=True)
    for i in range(count):
        Image.new("L", (2, 2), i % 256).save(folder / f"{i:04}.png")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["birds100", "trashnet"])
def test_a_folder_is_divided_without_overlap(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_DATA", str(tmp_path))
    parts = ("train", "test") if name == "birds100" else ("",)
    for part in parts:
        for label, count in (("a", 900), ("b", 700)):
            paint(tmp_path / name / part / label, count)
    files = {}
    for split in SPLITS:
        images = dx.load_images(f"third-{name}", split)
        assert isinstance(images.pixels, ImageFiles)
        files[split] = {images.pixels.paths[i] for i in images.indices}
    assert len(files["train"]) == TRAIN and len(set.union(*files.values())) == sum(map(len, files.values()))
    rest = (1600 if name == "birds100" else 1120) - TRAIN
    assert len(files["val"]) == len(files["calibration"]) == rest // 2
    assert len(files["test"]) == (1600 if name == "birds100" else 480) <= MOST


@pytest.mark.parametrize("name", ["birds100", "scenes15", "trashnet"])
def test_what_is_missing_is_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=f"{name} is not in "):
        SETS[name].read("train", None)


def test_the_kept_forecasts_stand_beside_the_mean_of_the_kept_trainings() -> None:
    kept = pd.read_csv(forecast.RESULTS / "forecast.csv")
    found = forecast.reached(kept, Rows(forecast.RESULTS / "third.parquet"))
    pd.testing.assert_frame_equal(found, kept, check_exact=False, rtol=1e-4)


def test_a_forecast_says_how_well_the_kept_ones_agree_with_trainings() -> None:
    kept = pd.read_csv(forecast.RESULTS / "forecast.csv")
    answers = make_record(40, 3, 3)
    table = pd.DataFrame({"block": [1, 2, 3], "mean": 0.5, "second_order": 0.5})
    said = Forecast(answers, table, (1, 3), 0.01, np.ones(2), np.zeros(2), 100).lines()[-1]
    assert len(kept) == 9 and "over nine models" in said and f"reached was {forecast.correlation(kept):.2f}," in said


def test_the_page_shows_the_kept_table() -> None:
    lines = forecast.lines_of(pd.read_csv(forecast.RESULTS / "forecast.csv"))
    assert "\n".join(lines) in forecast.PAGE.read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_forecast_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DATASETS, "third-digits", DATASETS["digits"])
    row = forecast.forecast_of("digits", dx.ModelConfig("test_vit", "random", 32, channels=8, bypass_width=8))
    assert row["backbone"] == "test_vit" and row["low"] <= row["share"] <= row["high"] and row["seconds"] > 0
