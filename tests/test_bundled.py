"""The bundled runs: whole, small, as good as EVIDENCE.md says, and live inference exits where their records do."""

from __future__ import annotations

import os
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

import dmpo_explore as dx
from dmpo_explore.analysis.evaluation import evaluate_runs
from dmpo_explore.fitting.target import DEFAULT_TARGET
from dmpo_explore.records.record import ExitRecord
from dmpo_explore.runs.store import BUNDLED_RUNS

CNN_RUNS = ("demo-cnn", "demo-cnn-single")
GROCERIES = ("demo", "demo-naive", "demo-single", "demo-single-24", *CNN_RUNS)
FASHION = ("fashion", "fashion-naive", "fashion-single")
ALL_RUNS = (*GROCERIES, *FASHION, "caltech", "shops")
SPLITS = ("val", "calibration", "test")
IMAGES = dict.fromkeys(GROCERIES, (649, 655, 1_300)) | dict.fromkeys(FASHION, (5_000, 5_000, 10_000))
IMAGES |= {"caltech": (867, 867, 1_734), "shops": (414, 355, 674)}
ELSEWHERE = {"shops": ["grocery-shops-calibration", "grocery-shops-test"]}
RECORDS_ALONE = (
    "caltech",
    "demo-single-24",
)  # of the first the pictures are not bundled, the second is to compare with
CHUNK = 500
ROOT = Path(__file__).parents[1]


def bundled(name: str) -> dx.Run:
    return dx.load_run(BUNDLED_RUNS / name)


@pytest.mark.slow
def test_the_package_stays_small() -> None:
    files = [path for path in (ROOT / "dmpo_explore").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert sum(len(zlib.compress(path.read_bytes())) for path in files) / 1e6 <= 55  # as in a wheel
    assert sorted(path.name for path in BUNDLED_RUNS.iterdir()) == sorted(ALL_RUNS)


@pytest.mark.parametrize("name", ALL_RUNS)
def test_bundled_run_is_whole(name: str) -> None:
    run = bundled(name)
    assert run.splits() == sorted([*SPLITS, *ELSEWHERE.get(name, [])]) and run.fitting_split == "calibration"
    assert tuple(run.record(split).n_images for split in SPLITS) == IMAGES[name]
    policies = run.policies().values()
    assert all(policy.fitted["split"] == "calibration" for policy in policies)
    assert len(policies) == (0 if "single" in name else 3)
    assert len(run.history()) == run.config.training.epochs
    assert run.card().startswith(f"# {name}\n")
    assert (run.path / "weights.safetensors").is_file() == (name not in RECORDS_ALONE)
    assert not (run.path / "checkpoint.pt").exists()
    assert not [path for path in run.path.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp")]
    if name != "caltech":
        assert len(run.image_set("test")) == IMAGES[name][-1]
    if name in GROCERIES:
        assert {run.record(split).logits.dtype for split in run.splits()} == {np.dtype("float16")}  # type: ignore[union-attr]


def test_the_map_of_a_run_has_the_images_in_their_order_and_separates_classes_better_at_the_last_exit() -> None:
    for name in ("demo", "fashion"):
        record = bundled(name).record("test")
        assert record.embedding is not None and record.embedding.shape == (IMAGES[name][-1], 6, 2)
        assert record.features is None
    places, labels = np.asarray(record.embedding, float), record.labels
    found = []
    for k in (0, 5):
        nearest = KNeighborsClassifier(15).fit(places[:2000, k], labels[:2000])
        found.append(nearest.score(places[2000:3000, k], labels[2000:3000]))
    assert 0.45 < found[0] < 0.65 and 0.75 < found[1] < 0.85


def test_the_controls_of_demo_differ_where_they_should() -> None:
    demo, naive, single = (bundled(name).config for name in GROCERIES[:3])
    assert demo.data == naive.data == single.data and demo.data.name == "grocery"
    assert (naive.model.predictor, naive.model.bypass, naive.training.schedule) == ("linear", "none", "uniform")
    assert naive.model.exits == demo.model.exits and naive.model.equilibrium
    assert demo.model.image_size == naive.model.image_size < single.model.image_size  # the full model sees more
    assert replace(naive.training, schedule=demo.training.schedule) == demo.training
    assert demo.get("training.teacher") == naive.get("training.teacher") == "demo-single"


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in ("demo", "demo-cnn") else [pytest.mark.slow]) for name in ALL_RUNS]
)
def test_every_record_counts_flops_as_deployed(name: str) -> None:
    """By the command that counted them, for every split; as trained beside, where LoRA was unmerged."""
    run = bundled(name)
    flops = dx.inference.run_flops(run)
    for split in run.splits():
        meta = run.record(split).meta
        assert meta.flops_convention.startswith("as deployed") and meta.flops == flops.cumulative
        assert meta.flops_trained == flops.as_trained and meta.reference_flops == flops.reference
        assert all(trained > deployed for trained, deployed in zip(meta.flops_trained, meta.flops, strict=True))
    assert (
        f"| {flops.cumulative[0] / flops.reference:.4f} | {flops.as_trained[0] / flops.reference:.4f} |" in run.card()
    )
    for policy in run.policies().values():
        (target, value), fraction = next(iter(policy.fitted["target"].items())), run.record("calibration")
        assert target == "flops" and dx.apply(policy, fraction).summary()["flops_fraction"] <= value


@pytest.mark.data
def test_calibration_images_were_in_no_training_and_no_val(fashion_train: object) -> None:
    """The same 5,000 for every run: equally many of every class, from the published training images."""
    seen = [bundled(name).record("calibration") for name in FASHION]
    for name, record in zip(FASHION, seen, strict=True):
        run, indices = bundled(name), record.meta.indices
        assert indices is not None and np.array_equal(indices, seen[0].meta.indices)
        assert np.array_equal(indices, run.split_images("calibration").indices)
        assert not set(indices) & set(run.split_images("train").indices)
        assert not set(indices) & set(run.record("val").meta.indices)  # type: ignore[arg-type]
        assert np.bincount(record.labels).tolist() == [500] * 10


def test_the_controls_of_fashion_differ_only_where_they_should() -> None:
    fashion, naive, single = (bundled(name).config for name in FASHION)
    assert fashion.data == naive.data == single.data
    assert (naive.model.predictor, naive.model.bypass, naive.training.schedule) == ("linear", "none", "uniform")
    assert naive.model.equilibrium and not fashion.model.equilibrium  # the strongest naive arm on val
    for field in ("backbone", "image_size", "tuning", "rank", "dropout"):
        assert len({getattr(config.model, field) for config in (fashion, naive, single)}) == 1
    for field in ("epochs", "batch_size", "tuning_lr", "predictor_lr", "weight_decay", "flip", "seed"):
        assert len({getattr(config.training, field) for config in (fashion, naive, single)}) == 1
    assert naive.model.exits == fashion.model.exits and bundled("fashion-single").record("val").n_exits == 1


def test_the_cnn_and_its_control_differ_in_their_exits_only() -> None:
    demo, single = (bundled(name).config for name in CNN_RUNS)
    assert demo.data == single.data == bundled("demo").config.data
    assert replace(demo.model, exits=1, image_size=98) == single.model  # the full model sees more
    assert demo.training.teacher == "demo-cnn-single"
    assert demo.model.backbone == "tf_efficientnet_lite0"
    assert list(bundled("demo-cnn").record("test").meta.exit_blocks) == list(demo.model.exits)  # type: ignore[arg-type]


def test_the_headline() -> None:
    """Thresholds from calibration, read on test: what EVIDENCE.md claims of `fashion` against its two controls."""
    fashion, naive, single = (str(BUNDLED_RUNS / name) for name in FASHION)
    (row,) = evaluate_runs([fashion], targets=dx.Target.flops(0.30), against=single)
    assert row["flops_fraction"] <= 0.30
    assert abs(row["against"]["difference"]) < 0.001 and row["against"]["low"] > -0.0045  # not told apart
    held_out = bundled("fashion").record("calibration")
    spent = dx.summarise(held_out, dx.fit_policy(held_out, flops=0.30).exits(held_out))
    (control,) = evaluate_runs([naive], targets=dx.Target.flops(spent["flops_fraction"]))  # what it spends there
    assert round((row["accuracy"] - control["accuracy"]) * row["images"]) == 277  # not the 500 that were aimed at
    (wide,) = evaluate_runs(
        [fashion], targets=dx.Target.flops(0.30), against=naive
    )  # naive exits may spend more: the gap is smaller
    assert 0.0125 <= wide["against"]["difference"] < 0.013 and wide["against"]["low"] > 0.008
    (scarce,) = evaluate_runs([fashion], targets=dx.Target.flops(0.20), against=naive)
    assert 0.040 <= scarce["against"]["difference"] < 0.0405


def test_other_shops_are_told_as_they_are() -> None:
    """The table of docs/choose-a-policy.md: what thresholds of some shops promised, and what became of it in others."""
    targets = DEFAULT_TARGET, dx.Target.risk("too_early", epsilon=0.05)
    found = dx.analysis.transfer_run(bundled("shops"), "grocery-shops", targets)
    page = (ROOT / "docs" / "choose-a-policy.md").read_text(encoding="utf-8")
    first, *_, last = found.exits["lost"]
    assert f"loses {100 * first:.1f} points in the other shops, the last exit {100 * last:.1f}." in page
    assert f"{bundled('shops').record('grocery-shops-calibration').n_images} labelled" in page
    cheap, careful = (rows.to_dict("records") for _, rows in found.thresholds.groupby("target", sort=False))
    for one, other in zip(cheap, careful, strict=True):
        cells = one["accuracy"], one["flops_fraction"], other["accuracy"], other["too_early"]
        line = " | ".join(f"{100 * cell:.1f} %" for cell in cells)
        assert f"| {line}{': broken' * other['violated']} |" in page


def clear_threshold(record: ExitRecord, score: str, near: float) -> float:
    """The middle of the widest gap between test scores around ``near``: float noise cannot decide there."""
    values = np.unique(record.score(score)[:, :-1].astype(np.float64))
    around = values[np.abs(values - near) <= 0.01]
    widest = int(np.argmax(np.diff(around)))
    return float((around[widest] + around[widest + 1]) / 2)


def some_of_every_exit(policies: list[dx.Policy], record: ExitRecord) -> np.ndarray:
    """The first images, and some of every exit of every policy; with ``DMPO_EXPLORE_ALL_IMAGES=1`` all."""
    if os.environ.get("DMPO_EXPLORE_ALL_IMAGES"):
        return np.arange(record.n_images)
    exits = [policy.exits(record) for policy in policies]
    found = [np.flatnonzero(one == k)[:6] for one in exits for k in range(record.n_exits)]
    return np.unique(np.concatenate([np.arange(40), *found]))


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.timeout(3600 if os.environ.get("DMPO_EXPLORE_ALL_IMAGES") else 600)
def test_images_leave_live_where_the_record_says(fetched_backbone: Path) -> None:
    """By each kind of policy. Temperatures see logits rounded to float16 in both, so that they agree."""
    run = bundled("demo")
    whole, val = run.record("test"), run.record("val")
    policies = [
        dx.fit_policy(val, "patience", threshold=1),
        dx.fit_policy(val, flops=0.30, temperatures="fit", per_exit=True),
        dx.fit_policy(val, "gate", flops=0.30, temperatures="fit"),
        dx.fit_policy(val, "patience+confidence", flops=0.30),
        dx.fit_policy(val, "budgeted", flops=0.50),
        dx.fit_policy(val, risk="too_early"),
    ]
    for name in ("confidence", "entropy", "margin"):
        fitted = dx.fit_policy(val, name, flops=0.30)
        policies.append(dx.fit_policy(val, name, threshold=clear_threshold(whole, name, fitted.thresholds[0])))
    rows = some_of_every_exit(policies, whole)
    record, model = whole.subset(rows), run.model(device="cpu")
    for start in range(0, len(rows), CHUNK):
        here = slice(start, start + CHUNK)
        images, part = run.inputs("test", rows[here]), record.subset(here)
        for policy in policies:
            out, exits = dx.infer(model, images, policy), policy.exits(part)
            np.testing.assert_array_equal(out.exit, exits, err_msg=policy.name)
            said = part.prediction[np.arange(part.n_images), exits]
            np.testing.assert_array_equal(out.label, said, err_msg=policy.name)
    for policy in policies:  # patience 1 cannot exit at exit 1; five thresholds send no image to the end
        assert len(np.unique(policy.exits(record))) >= record.n_exits - 1, policy


@pytest.mark.slow
@pytest.mark.data
def test_the_cnn_leaves_live_where_its_record_says(fetched_cnn: Path) -> None:
    run = bundled("demo-cnn")
    whole, val = run.record("test"), run.record("val")
    fitted = dx.fit_policy(val, flops=0.50)
    policy = dx.fit_policy(val, threshold=clear_threshold(whole, "confidence", fitted.thresholds[0]))
    rows = some_of_every_exit([policy], whole)
    record = whole.subset(rows)
    out, exits = dx.infer(run.model(device="cpu"), run.inputs("test", rows), policy), policy.exits(record)
    assert len(np.unique(exits)) == record.n_exits
    np.testing.assert_array_equal(out.exit, exits)
    np.testing.assert_array_equal(out.label, record.prediction[np.arange(len(rows)), exits])
