"""Every form of data that docs/your-images.md names, from its command to Explore: train, record, evaluate, look."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from calls import call
from explore_page import bodies, cards, expected, start
from image_files import fill, paint, saved_tables, split_shards
from tiny import tiny_options

import dmpo_explore as dx
from dmpo_explore.data.known import CALTECH_BACKGROUND

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "your-images.md").read_text(encoding="utf-8")
OPTIONS = tiny_options(epochs=1, batch_size=8, validation_size=8)
OPTIONS = OPTIONS[OPTIONS.index("--train-size") + 2 :]  # without those of the data


def folder(root: Path) -> list[str]:
    return ["--data", str(fill(root / "photos"))]


def divided_folder(root: Path) -> list[str]:
    for i, split in enumerate(("Train", "valid", "test")):
        fill(root / "photos" / split, count=8, first=100 * i)
    return ["--data", str(root / "photos")]


def three_folders(root: Path) -> list[str]:
    options = []
    for i, split in enumerate(("train", "val", "test")):
        options += [f"--{split}-dir", str(fill(root / f"{i}" / "images", count=8, first=100 * i))]
    return options


def table(root: Path, suffix: str) -> list[str]:
    rows = [(paint(root / f"{i}.png", i).name, "cat" if i % 2 else "dog", f"g{i // 4}") for i in range(48)]
    frame, path = pd.DataFrame(rows, columns=["path", "label", "group"]), root / f"list{suffix}"
    if suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path)
    return ["--data", str(path)]


def caltech(root: Path) -> list[str]:
    fill(root / "caltech101" / "101_ObjectCategories", ("ant", "bass", CALTECH_BACKGROUND), count=20)
    return ["--data", "caltech101", "--data-root", str(root)]


FORMS: dict[
    str, tuple[str, Callable[[Path], list[str]], int, int]
] = {  # documented command, data, test images, classes
    "folder": ("--data photos", folder, 4, 2),
    "divided folder": ("--data photos", divided_folder, 16, 2),
    "three folders": ("--train-dir a --val-dir b --calibration-dir c --test-dir d", three_folders, 16, 2),
    "CSV": ("--data list.csv", lambda root: table(root, ".csv"), 8, 2),
    "Parquet": ("CSV, Parquet or JSON lines", lambda root: table(root, ".parquet"), 8, 2),
    "caltech101": ("--data caltech101", caltech, 8, 2),
    "hfds": ("--data hfds/FOLDER", lambda root: ["--data", f"hfds/{saved_tables(root / 'tables')}"], 4, 2),
    "wds": ("wds/FOLDER", lambda root: ["--data", f"wds/{split_shards(root / 'shards')}"], 4, 2),
}
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in FORMS if name != "wds"]


@pytest.mark.slow
@pytest.mark.parametrize("form", ["wds", *SLOW])
def test_from_the_command_to_the_page(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    documented, make, n_test, n_classes = FORMS[form]
    assert documented in PAGE
    monkeypatch.setattr("dmpo_explore.data.known.CALTECH_IMAGES", 40)
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path / "runs"))
    (tmp_path / "data").mkdir()
    done = call("train", *make(tmp_path / "data"), *OPTIONS, "--name", "mine", "--device", "cpu")
    assert "epoch 1/1" in done.stderr
    rows = json.loads(call("record", "mine", "--device", "cpu", "--json").stdout)
    assert {row["split"] for row in rows} >= {"val", "test"} and rows[-1]["images"] == n_test
    (row,) = json.loads(call("evaluate", "mine", "--threshold", 0.5, "--json").stdout.join("[]"))
    run = dx.load_run("mine")
    assert run.manifest is not None and len(run.class_names) == n_classes
    assert run.image_set("test").fingerprint == run.manifest.fingerprints["test"]

    app = start(run="mine", split="test", threshold="0.5", view="images")
    policy = dx.fit_policy(run.record("val"), "confidence", threshold=0.5)
    assert cards(app) == expected("mine", "test", policy)
    assert cards(app)["Accuracy"] == f"{row['accuracy']:.2%}"
    assert sum(body.count("data:image/") for body in bodies(app)) == n_test


def test_all_documented_forms_are_here() -> None:
    section = PAGE.partition("forms of data\n")[2].partition("\n\n- ")[0]
    rows = [line.split("|")[2] for line in section.splitlines() if line.startswith("|")][2:]
    assert len(rows) == 6
    assert all(
        any(documented in row or documented == "CSV or Parquet" for documented, *_ in FORMS.values()) for row in rows
    )
