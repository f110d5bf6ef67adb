"""Research on photographs and the study's second edition, on digits: rows, budgets, frozen tokens, protocol."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from synthetic import make_record
from tiny import tiny_config
from torch.nn import functional as F

import dmpo_explore as dx
import photos
import second_study
from _photos import ensembles, fitted_on, pixels, probes, protocol, run, tokens
from _photos.trials import SMALL_SCREENS, TRIALS, Trial
from dmpo_explore.data.images import images_of
from dmpo_explore.data.torch_loaders import make_loader
from dmpo_explore.models.flops import config_flops

CONFIG = tiny_config(epochs=1, model={"image_size": 64})
CALIBRATED = replace(CONFIG, data=replace(CONFIG.data, calibration=True))


@pytest.mark.slow
def test_a_finished_row_is_never_made_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path))  # which the command sets: restored afterwards
    static = replace(CALIBRATED, model=replace(CALIBRATED.model, exits=(4,)))
    arms = {"static-4": static, "dmpo": CALIBRATED}
    monkeypatch.setattr(second_study, "STUDIES", {"tiny": protocol.Study(arms, 96)})
    monkeypatch.setattr(second_study, "RESULTS", tmp_path / "results")
    options = ["tiny", "--arms", "dmpo", "--seeds", "1", "--root", str(tmp_path / "runs")]
    assert second_study.main([*options, "--list"]) == 0 and capsys.readouterr().out == "dmpo-s0\n"
    assert second_study.main(options) == 0 and "epoch 1/1" in capsys.readouterr().out
    table = (tmp_path / "results" / "second-tiny.csv").read_bytes()
    assert second_study.main(options) == 0 and "epoch" not in capsys.readouterr().out
    assert (tmp_path / "results" / "second-tiny.csv").read_bytes() == table
    row = run.read_json(tmp_path / "results" / "second" / "tiny" / "dmpo-s0" / "row.json")
    finished = dx.load_run(tmp_path / "runs" / "tiny" / "dmpo-s0")
    assert row["read"] == "test" and row["exit_2"] == finished.record("test").correct[:, 1].mean()
    assert row["val_exit_2"] == finished.record("val").correct[:, 1].mean()
    cost = config_flops(static.model, 10).cumulative[-1]
    assert row["share_static-4"] <= cost / run.reference_flops(CALIBRATED, 96, 10)
    reached = run.at_budget(finished.record("calibration"), finished.record("test"), cost)
    assert reached is not None and row["accuracy_static-4"] == reached.correct.mean()
    after = [probes.merged_after(finished, merge, 1) for merge in (0, 1)]
    assert (
        after[0]["exit_2"] == pytest.approx(row["val_exit_2"], abs=0.02) and after[1]["share_2"] < after[0]["share_2"]
    )
    plain, mixed = ensembles.ensembled(
        finished, ["0", "0.5"], run.reference_flops(CALIBRATED, 96, 10), finished.record("val").correct[:, 1]
    )
    assert plain["low_50%"] <= plain["difference_50%"] <= plain["high_50%"]
    assert plain["exit_1"] == mixed["exit_1"] and plain["exit_2"] == pytest.approx(row["val_exit_2"], abs=0.02)
    assert row["gflops_2"] == finished.record("test").meta.flops[1] / 1e9 and row["full_share"] < 0.6  # of 96 pixels


def test_exits_read_the_log_probabilities_of_earlier_ones() -> None:
    record = make_record(300, 3, 5)
    own = torch.from_numpy(np.asarray(record.logits, np.float32)).log_softmax(-1)
    mixed = ensembles.combined(record, ensembles.decayed(3, 0.5))
    last = ((4 * own[:, 2] + 2 * own[:, 1] + own[:, 0]) / 7).softmax(-1)
    np.testing.assert_allclose(mixed.confidence[:, 2], last.amax(-1), rtol=1e-5)
    assert torch.equal(ensembles.decayed(3, 0.0), torch.eye(3))
    labels = torch.from_numpy(record.labels)
    weights = ensembles.learned(own, labels)
    assert weights.triu(1).eq(0).all()

    def loss(weights: torch.Tensor) -> torch.Tensor:
        said = torch.einsum("kj,bjc->bck", weights, own)
        return F.cross_entropy(said, labels[:, None].expand(-1, 3), reduction="none").mean(0)

    assert all((loss(weights) <= loss(ensembles.decayed(3, decay))).all() for decay in (0.0, 0.5, 1.0))


def points_above_84(run: str, *columns: str) -> tuple[float, float, float]:
    """Points of a run above ``dmpo-84`` on val, averaged over these columns of its outcomes, and their interval."""
    means = []
    for name in (run, "dmpo-84"):
        with np.load(Path(photos.RESULTS) / "photos" / f"{name}-s0" / "outcomes.npz") as outcomes:
            means.append(100 * np.mean([outcomes[column] for column in columns], axis=0))
    return dx.analysis.seeds_interval((means[0] - means[1])[None])


@pytest.mark.parametrize(
    ("run", "expected"), [("dmpo-84-smooth", (1.3, 0.4, 2.1)), ("dmpo-84-earlier", (-0.1, -1.0, 0.8))]
)
def test_label_smoothing_pays_averaged_over_the_exits(run: str, expected: tuple[float, float, float]) -> None:
    exits = [f"exit {k}" for k in range(1, 7)]
    assert points_above_84(run, *exits) == pytest.approx(expected, abs=0.15)


@pytest.mark.parametrize(
    ("run", "at", "expected"),
    [("dmpo-70", "30%", (0.5, -1.8, 2.7)), ("dmpo", "50%", (1.2, -0.8, 3.1))]
    + [(run, "40%", (-2.4, -4.6, -0.2)) for run in ("dmpo-70", "dmpo")],
)
def test_the_image_sizes_against_84_pixels(run: str, at: str, expected: tuple[float, float, float]) -> None:
    assert points_above_84(run, at) == pytest.approx(expected, abs=0.15)


def test_budgets_are_shares_of_one_reference() -> None:
    calibration, read = make_record(400, 3, 4, seed=1, split="calibration"), make_record(400, 3, 4, seed=2, split="val")
    reference = 2 * read.meta.reference_flops  # as of an image with twice the compute
    row, correct = run.measure(calibration, read, reference)
    for name, budget in run.BUDGETS.items():
        allowed = min(budget * reference / calibration.meta.reference_flops, calibration.flops_fraction[-1])
        assert (name in correct) == (calibration.flops_fraction[0] <= allowed)
        if name in correct:
            outcome = dx.apply(dx.fit_policy(calibration, flops=allowed), read)
            assert row[f"accuracy_{name}"] == outcome.summary()["accuracy"]
            assert row[f"share_{name}"] == pytest.approx(outcome.summary()["flops_fraction"] / 2)
    assert run.at_budget(calibration, read, calibration.meta.flops[0] / 2) is None


def test_exits_on_cached_tokens_are_those_of_the_model(tmp_path: Path) -> None:
    model = replace(CONFIG.model, tuning="none", image_size=64, exits=(2, 4))
    config = replace(CONFIG, model=model, data=replace(CONFIG.data, train_size=30))
    tokens.cache_tokens(tmp_path, config, (2, 4), ("train", "val"))
    files = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    tokens.cache_tokens(tmp_path, config, (2, 4), ("train", "val"))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == files
    other = replace(config, data=replace(config.data, seed=1))
    tokens.cache_tokens(tmp_path, other, (2, 4), ("train",))  # other images, which do not replace the first ones
    assert not np.array_equal(*(tokens.read_labels(tmp_path, one, "train") for one in (config, other)))
    assert all(path.stat().st_mtime_ns == changed for path, changed in files.items())
    val, labels = images_of(config.data, "val"), tokens.read_labels(tmp_path, config, "val")
    built = dx.build_model(model, 10).eval()  # random weights differ from the cached ones: the same states are read
    states = [tokens.read_tokens(tmp_path, config, "val", block) for block in (2, 4)]
    assert states[0].shape == (len(val), 17, 64) and labels.tolist() == val.labels.tolist()
    images, _ = next(iter(make_loader(val, built.preprocess, batch_size=4)))
    own = [output.state for output in built.walk(images)]
    expected = np.stack([output.logits.detach().numpy() for output in built.walk(images)], axis=1)
    np.testing.assert_allclose(fitted_on.predict(built, own).detach().numpy(), expected, atol=0.1)  # bf16


@pytest.mark.slow
def test_weights_are_fitted_on_the_images_that_a_row_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = replace(CONFIG.model, tuning="none", image_size=64, exits=(2, 4))
    config = replace(CALIBRATED, model=model, data=replace(CALIBRATED.data, train_size=100))
    fits: list[tuple[int, list[int]]] = []
    fit = fitted_on.earlier_weights

    def seen(logits: torch.Tensor, labels: torch.Tensor) -> list[torch.Tensor]:
        fits.append((len(labels), sorted(labels.tolist())))
        return fit(logits, labels)

    monkeypatch.setattr(fitted_on, "earlier_weights", seen)
    rows, correct = fitted_on.compare(tmp_path, config, 128)  # of whose compute exit 1 takes less than 30 %
    calibration = images_of(config.data, "calibration")
    assert rows["weights"].tolist() == ["off", "trained", "held-out", "calibration"]
    assert rows["images"].tolist() == [0, 90, 10, len(calibration)] == [0, *(n for n, _ in fits)]
    assert fits[1][1] == list(range(10)) and fits[2][1] == sorted(calibration.labels.tolist())
    assert rows["exit_2"].tolist() == [correct[f"{choice} exit 2"].mean() for choice in rows["weights"]]
    made = fitted_on.with_differences("tiny", rows, correct)
    np.testing.assert_allclose(made["difference_30%"], made["accuracy_30%"] - made["accuracy_30%"].iloc[0], atol=1e-9)
    assert (made["low_30%"] <= made["high_30%"]).all() and made["trial"].eq("tiny").all()


def test_exits_are_compared_with_a_ridge_on_the_pixels_of_the_same_images() -> None:
    config = replace(CALIBRATED, model=replace(CALIBRATED.model, image_size=8))
    ridge = pixels.correct_on_pixels(config)
    assert len(ridge) == len(images_of(config.data, "val")) and ridge.mean() > 0.8  # digits of 8 pixels
    (row,) = pixels.beside_pixels(config, {"exit 1": ~ridge, "30%": ridge})
    assert row["question"] == "exit 1" and row["ridge"] == ridge.mean() == 1 - row["accuracy"]
    assert row["points"] == pytest.approx(100 * (1 - 2 * ridge.mean())) and row["low"] <= row["points"] <= row["high"]


def test_every_trial_and_arm_is_a_config() -> None:
    assert all(trial.config(seed=3).training.seed == 3 for trial in (TRIALS | SMALL_SCREENS).values())
    with pytest.raises(ValueError, match="no field 'exit'"):
        Trial("misspelt", {"exit": 3}).config(0)
    with pytest.raises(SystemExit):
        photos.main(["no-such-trial"])
    for study in protocol.STUDIES.values():
        assert all(config.data.calibration for config in study.arms.values())
        plan = study.plan()
        assert len(plan) == len(set(plan)) and all(plan.count((arm, 4)) == (arm in protocol.FIVE) for arm in study.arms)
        assert plan[0][1] == 0
    assert all(set(protocol.FIVE) <= protocol.STUDIES[name].arms.keys() for name in ("fashion", "caltech"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fashion", "caltech"])
def test_the_matched_naive_arm_trains_as_many_weights_as_dmpo(name: str) -> None:
    arms, classes = protocol.STUDIES[name].arms, {"fashion": 10, "caltech": 101}[name]

    def trainable(arm: str) -> int:
        model = dx.build_model(replace(arms[arm].model, weights="random"), classes)
        return sum(weight.numel() for weight in model.trainable_state().values())

    assert trainable("naive-matched") == pytest.approx(trainable("dmpo"), rel=0.05)


ENDS = ("difference", "low", "high")


def exits_of(row: Mapping[str, Any] | pd.Series[Any], n_exits: int) -> str:
    return " ".join(f"{100 * row[f'exit_{k}']:.1f}" for k in range(1, n_exits + 1))


def test_the_document_states_the_committed_rows() -> None:
    folder, text = Path(photos.RESULTS), (Path(photos.RESULTS).parent / "PHOTOS.md").read_text(encoding="utf-8")
    for _, table in pd.read_csv(folder / "photos-probes.csv").groupby(["image_size", "merge", "once"]):
        assert len(table) == 10 and f"| {' '.join(f'{100 * value:.1f}' for value in table['accuracy'])} |" in text
    for row in pd.read_csv(folder / "photos-merged.csv").itertuples():
        assert f"| {row.merge} | {100 * row.share_1:.1f} | {100 * row.exit_1:.1f} |" in text
    for _, mixed in pd.read_csv(folder / "photos-ensembled.csv", dtype={"weights": str}).iterrows():
        budgets = (f"{100 * mixed[f'accuracy_{b}%']:.1f} ({100 * mixed[f'share_{b}%']:.1f})" for b in (30, 40, 50))
        assert f"| {mixed['weights']} | {' | '.join(budgets)} |" in text
    for pixel in pd.read_csv(folder / "photos-pixels.csv").itertuples():
        points = f"{pixel.points:.1f} [{pixel.low:.1f}, {pixel.high:.1f}]"
        assert f"| {pixel.question[5:]} | {100 * pixel.accuracy:.1f} | {points} |" in text
        assert f"{100 * pixel.ridge:.1f} % on val" in text
    fitted = pd.read_csv(folder / "photos-fitted-on.csv").query("trial == 'frozen-56'")
    assert len(fitted) == 4
    for _, row in fitted.iterrows():
        budgets = (f"{100 * row[f'accuracy_{b}%']:.1f} ({100 * row[f'share_{b}%']:.1f})" for b in (20, 25))
        points = ("{:+.1f} [{:+.1f}, {:+.1f}]".format(*100 * row[[f"{at}_{b}%" for at in ENDS]]) for b in (20, 25))
        gains = "" if row["weights"] == "off" else f" {', '.join(points).replace('-', '−')}"
        assert f"| {exits_of(row, 5)} | {' | '.join(budgets)} |{gains} |" in text
    trainings = text.split("## Trainings")[1].split("Against `single-linear`")[0]
    kept = pd.read_csv(folder / "photos.csv").set_index("run")
    never = [name for name in TRIALS if f"{name}-s0" not in kept.index]
    assert f"Planned and not run: {', '.join(f'`{name}`' for name in never)}." in text
    for file in (folder / "photos").glob("*/row.json"):
        row = run.read_json(file)
        assert kept.loc[row["run"], "exit_1"] == pytest.approx(row["exit_1"], rel=1e-5)
        (line,) = re.findall(rf"(?m)^\| `{row['run'].removesuffix('-s0')}`.*$", trainings)
        cells = [cell.strip().replace("*", "") for cell in line.strip("|").split("|")]
        budgets = [f"{100 * row[f'accuracy_{b}%']:.1f} ({100 * row[f'share_{b}%']:.1f})" for b in (30, 40, 50)
                   if f"accuracy_{b}%" in row]  # fmt: skip
        assert cells[2] == exits_of(row, sum(name.startswith("exit_") for name in row))
        assert cells[3 : 3 + len(budgets)] == budgets and not any(cells[3 + len(budgets) : 6])
        with np.load(file.parent / "outcomes.npz") as outcomes:
            assert outcomes["exit 1"].mean() == row["exit_1"]
