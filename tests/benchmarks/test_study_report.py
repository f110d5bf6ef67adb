"""The study's report from synthetic runs: its verdicts follow from the outcomes."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from synthetic import record_from_logits

import study
import study_report
from _study import gains as gains_module
from _study import grids, tables
from _study.run import outcomes, score
from _study.texts import TITLES
from dmpo_explore.analysis.metrics import area
from dmpo_explore.figures.study import budgets_figure
from dmpo_explore.utils.files import write_json

pytestmark = pytest.mark.slow  # seconds each: scripts/check runs them

SKILL = {"dmpo": 2.5, "dmpo-no-bypass": 1.2, "dmpo-uniform": 2.5, "single": 2.0}  # all others 1.0


def save(results: Path, arm: str, seed: int) -> None:
    """An arm's result: the same images for all, better answers with more skill."""
    n_exits, records = 1 if arm == "single" else 4, []
    for split, images in (("val", 400), ("test", 1000)):
        labels = np.random.default_rng(images).integers(5, size=images)
        rng = np.random.default_rng(seed + 1)  # the same noise for every arm, so that equal skill is equal
        logits = rng.normal(size=(images, n_exits, 5)) * 1.5
        logits[np.arange(images), :, labels] += SKILL.get(arm, 1.0) * np.linspace(0.8, 1.5, n_exits)
        records.append(record_from_logits(logits, labels, with_logits=False, split=split))
    val, test = records
    folder = results / "study" / "core" / f"{arm}-s{seed}"
    folder.mkdir(parents=True)
    np.savez_compressed(folder / "outcomes.npz", **outcomes(val, test))  # type: ignore[arg-type]
    row = {"first_exit": test.correct[:, 0].mean(), "last_exit": test.correct[:, -1].mean(), "parameters": 1000.0}
    row |= {"score": score(val, test), "score_val": score(val, val), "exits": n_exits, "area": area(test)}
    row["full_flops"] = test.flops_fraction[-1]
    row |= {f"exit_{k + 1}": test.correct[:, k].mean() for k in range(n_exits)}
    row |= dict.fromkeys((f"ece_{k + 1}" for k in range(n_exits)), 0.02)
    numbers = {key: float(value) for key, value in row.items() if value is not None}
    write_json(folder / "row.json", {"run": folder.name, **numbers})


@pytest.fixture(scope="session")
def core(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished core grid."""
    folder = tmp_path_factory.mktemp("core")
    for arm in grids.GRIDS["core"]:
        for seed in grids.SEEDS:
            save(folder, arm, seed)
    study.write_rows(folder / "study" / "core", study.plan(grids.GRIDS["core"]), folder / "study-core.csv")
    return folder


@pytest.fixture
def results(core: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it to spoil; intervals from fewer resamples than the published ones."""
    monkeypatch.setattr(study_report, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(gains_module, "RESAMPLES", 200)
    shutil.copytree(core, tmp_path / "results")
    return tmp_path / "results"


def test_the_verdict_follows_the_outcomes(results: Path) -> None:
    study_report.write_tables()
    gains = pd.read_csv(results / "gains.csv").set_index("question")
    assert gains.loc["gain of bypass", "holds"] == "yes"
    assert gains.loc["gain of two-phase loss weights", "holds"] == "no"
    assert gains.loc["gain of two-phase loss weights", "points"] == 0
    table = pd.read_csv(results / "study-core.csv").set_index("run")
    first = float(gains.loc["gain of bypass", "seeds"].split()[0])
    ours, other = (table.loc[f"{arm}-s0", "score"] for arm in ("dmpo", "dmpo-no-bypass"))
    assert first == pytest.approx(100 * (ours - other), abs=0.006)

    text = study_report.document()
    opening = "\n".join(text.splitlines()[:10])
    assert "**Bypass**: helps" in opening
    assert "**Two-phase loss weights**: may help or not" in opening
    mean = 100 * table.loc[[f"dmpo-s{seed}" for seed in grids.SEEDS], "score"].mean()
    assert re.search(rf"^\| dmpo +\| {mean:.2f} \(", text, re.M)
    assert "Not finished" not in text


def test_few_runs_are_no_comparison(results: Path) -> None:
    shutil.rmtree(results / "study")
    save(results, "single", 0)
    rows = results / "study" / "core", study.plan(grids.GRIDS["core"]), results / "study-core.csv"
    study.write_rows(*rows)
    study_report.write_tables()
    assert pd.read_csv(results / "gains.csv").empty
    assert "**Bypass**: not known yet" in study_report.document()
    table = tables.tables(results)["core"]
    assert tables.strongest_naive("core", table) is None
    assert len(budgets_figure(table.groupby("arm").mean(numeric_only=True), grids.REPORTED).data) == 1
    save(results, "naive-cls", 0)  # one arm of five
    study.write_rows(*rows)
    assert tables.strongest_naive("core", tables.tables(results)["core"]) is None


def test_one_seed_is_compared_but_decides_nothing(results: Path) -> None:
    for folder in (results / "study" / "core").glob("*-s[12]"):
        shutil.rmtree(folder)
    study.write_rows(results / "study" / "core", study.plan(grids.GRIDS["core"]), results / "study-core.csv")
    study_report.write_tables()
    gains = pd.read_csv(results / "gains.csv", dtype={"seeds": str})
    assert len(gains) == 19 and set(gains["holds"]) == {"open"}
    assert all(len(seeds.split()) == 1 for seeds in gains["seeds"])
    text = study_report.document()
    assert text.count("not known yet") == 3 and "(1 of 3 seeds)" in text


def test_every_arm_is_held_against_the_naive_and_the_single_one(results: Path) -> None:
    against = gains_module.contrasts(results).set_index(["arm", "number"])
    table = tables.tables(results)["core"]
    naive = tables.strongest_naive("core", table)
    assert naive in tables.NAIVE and set(against["against"]) == {naive, "single"}
    means = table.groupby("arm")[["score", "last_exit"]].mean()
    want = 100 * (means.loc["dmpo", "score"] - means.loc[naive, "score"])
    assert against.loc[("dmpo", "score, against NAIVE"), "points"] == pytest.approx(want, abs=1e-3)
    want = 100 * (means.loc["mixed", "last_exit"] - means.loc["single", "last_exit"])
    assert against.loc[("mixed", "last exit, against single"), "points"] == pytest.approx(want, abs=1e-3)
    assert (naive, "score, against NAIVE") not in against.index  # not against itself
    assert "single" not in against.index.get_level_values("arm")  # it has no budgets and no early exit


def test_evidence_is_of_early_stages_and_says_where_seeds_agree(results: Path) -> None:
    for seed in grids.SEEDS:
        for arm, shift in (("dmpo", 0.1), ("naive-both", 0.0)):
            folder = results / "study" / "core" / f"{arm}-s{seed}"
            gradients = pd.DataFrame({"exit": [1, 1], "epoch": [1, 6], "cosine": [0.2, 0.3 + shift]})
            gradients.to_csv(folder / "gradients.csv", index=False)
            stages = pd.DataFrame({"exit": [1, 2], "block": [2, 4], "kept": [0.5 + shift * (seed - 1), 9.0]})
            for number in ("towards_last", "low_level_trunk", "low_level_read", "label_trunk", "label_read"):
                stages[number] = [0.4 + shift, 9.0]  # the last stage must not count
            stages.to_csv(folder / "stages.csv", index=False)
    study_report.write_tables()
    seen = pd.read_csv(results / "evidence.csv").set_index(["arm", "seed"])
    row = seen.loc[("dmpo", 2)]
    assert row["cosine, first epoch"] == 0.2 and row["cosine, last epoch"] == pytest.approx(0.4)
    assert row["trunk like the untuned (CKA)"] == pytest.approx(0.6)
    assert row["label in the trunk"] == pytest.approx(0.5)
    (line,) = (line for line in study_report.document().splitlines() if line.startswith("| dmpo less naive-both"))
    cells = [cell.strip() for cell in line.split("|")[2:-1]]
    assert cells == ["+0.000", "+0.100 *", "+0.000", *["+0.100 *"] * 5]


@pytest.mark.slow
def test_what_is_not_finished_is_said(results: Path) -> None:
    (results / "study" / "core" / "dmpo-uniform-s2" / "row.json").unlink()
    (results / "study" / "core" / "dmpo-uniform-s2" / "outcomes.npz").unlink()
    study.write_rows(results / "study" / "core", study.plan(grids.GRIDS["core"]), results / "study-core.csv")
    study_report.write_tables()
    gains = pd.read_csv(results / "gains.csv").set_index("question")
    assert gains.loc["gain of two-phase loss weights", "holds"] == "open"
    text = study_report.document()
    assert "**Two-phase loss weights**: not known yet" in text
    assert "Not finished: dmpo-uniform (2 of 3)." in text
    assert "**Bypass**: helps" in text


def test_a_change_enters_where_every_seed_gains_on_val(results: Path) -> None:
    core = pd.read_csv(results / "study-core.csv").set_index("run")["score_val"]
    gains = {"crop-0.7": (0.01, 0.02, 0.03), "tuning-lr-0.004": (0.02, -0.01, 0.04), "predictor-lr-0.001": (0.05,)}
    gains["predictor-lr-0.004"] = (0.001, 0.002, 0.004)  # all gain, but too little
    gains["tuning-lr-0.001"] = (-0.001,)  # one seed that loses is enough
    others = {"score": 0.1, "exits": 4, "ece_1": 0, "ece_4": 0, "parameters": 1, "last_exit": 0.5}
    rows = [
        {"run": f"{arm}-s{seed}", "score_val": core[f"dmpo-s{seed}"] + gain} | others
        for arm, by_seed in gains.items()
        for seed, gain in enumerate(by_seed)
    ]
    pd.DataFrame(rows).to_csv(results / "study-recipe.csv", index=False)
    study_report.write_tables()
    found = gains_module.choices(results).set_index("arm")
    enters = {"crop-0.7": "yes", "tuning-lr-0.004": "no", "predictor-lr-0.001": "open", "predictor-lr-0.004": "no"}
    enters["tuning-lr-0.001"] = "no"
    assert found["enters"].to_dict() == enters
    assert found.loc["crop-0.7", "points"] == pytest.approx(2, abs=1e-3)
    assert not (pd.read_csv(results / "gains.csv")["grid"] == "recipe").any()
    assert re.search(r"^\| recipe +\| crop-0.7 +\| \+2.00 ", study_report.document(), re.M)


def test_other_grids_are_read_beside_the_arms_of_core(results: Path) -> None:
    """On the seeds that they have themselves."""
    shared = {"exits": 1, "parameters": 1.0, "first_exit": 0.5, "last_exit": 0.5, "ece_1": 0.01, "full_flops": 0.4}
    pd.DataFrame([{"run": "dmpo-isqrt-s0"} | shared]).to_csv(results / "study-predictor.csv", index=False)
    study_report.write_tables()
    section = study_report.document().split(f"## {TITLES['predictor']}")[1]
    rows = re.findall(r"^\| (dmpo|dmpo-isqrt) .* (\d) +\|$", section, re.M)
    assert rows == [("dmpo", "1"), ("dmpo-isqrt", "1")]
    assert "Not finished: dmpo-moment (0 of 3), dmpo-isqrt (1 of 3)," in section


def test_arms_without_a_score_are_named(results: Path) -> None:
    shared = {"exits": 2, "parameters": 1.0, "first_exit": 0.5, "last_exit": 0.5, "exit_1": 0.5, "exit_2": 0.5}
    errors = {"ece_1": 0.01, "ece_2": 0.01, "area": 0.5}
    pd.DataFrame([{"run": "dmpo-cosine-s0"} | shared | errors]).to_csv(results / "study-schedule.csv", index=False)
    rows = [{"run": f"tuning-lr-0.004-s{seed}", "diverged": True} for seed in grids.SEEDS]
    pd.DataFrame(rows).to_csv(results / "study-recipe.csv", index=False)
    study_report.write_tables()
    assert gains_module.choices(results).set_index("arm")["enters"].to_dict() == {
        "dmpo-cosine": "no: it cannot meet 30%", "tuning-lr-0.004": "no: it diverged",
    }  # fmt: skip
    text = study_report.document()
    assert "Even the first exit uses more than 30 % of the compute, so no score: dmpo-cosine." in text
    assert "Diverged: tuning-lr-0.004 (3 of 3)." in text


def test_paired_intervals() -> None:
    rng = np.random.default_rng(0)
    a, b = ({seed: (rng.random(4000) < p).astype(float) for seed in grids.SEEDS} for p in (0.6, 0.5))
    got = gains_module.paired(a, b)
    assert got is not None
    image = 100 * np.mean([a[seed] - b[seed] for seed in grids.SEEDS], axis=0)
    half = 1.96 * image.std() / np.sqrt(image.size)
    assert got["points"] == pytest.approx(image.mean())
    assert got["high"] - got["points"] == pytest.approx(half, rel=0.1)
    assert got["points"] - got["low"] == pytest.approx(half, rel=0.1)
    holds = {name: (gains_module.paired(*pair) or {})["holds"] for name, pair in {"ab": (a, b), "ba": (b, a)}.items()}
    assert got["holds"] == holds["ab"] == "yes" and holds["ba"] == "opposite"
    assert (gains_module.paired(a, a) or {})["holds"] == "no"
    assert (gains_module.paired(a, {1: b[1]}) or {})["points"] == pytest.approx(100 * (a[1] - b[1]).mean())
    assert gains_module.paired(a, {}) is None


# -- what is published --

PUBLISHED = Path(study_report.__file__).parent


@pytest.mark.slow
def test_the_document_is_made_from_the_tables_beside_it() -> None:
    assert (PUBLISHED / "RESULTS.md").read_text(encoding="utf-8") == study_report.document()


@pytest.mark.slow
def test_the_tables_are_made_from_what_is_kept_of_the_runs(tmp_path: Path) -> None:
    folder = PUBLISHED / "results"
    for name, make in study_report.TABLES.items():
        again = pd.read_csv(study_report.write_table(name, make(folder), tmp_path))
        pd.testing.assert_frame_equal(pd.read_csv(folder / f"{name}.csv"), again)
    for grid in tables.tables(folder):
        rows = pd.read_csv(folder / f"study-{grid}.csv")
        study.write_rows(folder / "study" / grid, study.plan(grids.GRIDS[grid]), tmp_path / f"study-{grid}.csv")
        pd.testing.assert_frame_equal(rows, pd.read_csv(tmp_path / f"study-{grid}.csv"))


def test_the_evidence_shows_the_parts_as_the_report_has_them() -> None:
    page = (PUBLISHED / "EVIDENCE.md").read_text(encoding="utf-8")
    table = page.split("<!-- study parts -->\n")[1].split("<!-- end of study parts -->")[0]
    assert table.strip() == study_report.summary_table(
        pd.read_csv(PUBLISHED / "results" / "gains.csv", dtype={"seeds": str})
    )
