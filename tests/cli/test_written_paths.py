"""Paths that a user names for what is written: new, or written by this tool; anything else is listed and stays."""

from __future__ import annotations

import shlex
from pathlib import Path

import pandas as pd
import pytest
from calls import call, fails
from tiny import tiny_options

TRAIN = f"train {shlex.join(tiny_options())} --device cpu --name mine --force"
PREDICT = "predict mine images/b.png --threshold 0.5 --device cpu -o"
EVALUATE = "evaluate mine --threshold 0.5"
MINE = [  # a command, a file of the user's in its way, and words of the line
    (TRAIN, "runs/mine/notes.md", "runs/mine holds more than a run (notes.md); it is not replaced"),
    (TRAIN, "runs/mine/records/mine/x.csv", "(records/mine/x.csv)"),
    ("record mine --split test --force", "runs/mine/records/test/notes.txt", "holds more than a record (notes.txt)"),
    (f"{PREDICT} thesis.tex", "thesis.tex", "thesis.tex exists and is not a table of predictions"),
    (f"{PREDICT} checked.csv", "checked.csv", "checked.csv exists and is not a table of predictions"),
    (f"{EVALUATE} --per-class images/a.jpg", "images/a.jpg", "a.jpg exists and is not a table"),
    (f"{EVALUATE} --per-image photos.csv", "photos.csv", "photos.csv exists and is not a table with these columns"),
    (f"{EVALUATE} --per-image photos.parquet", "photos.parquet", "photos.parquet exists and is not a table"),
    ("search --front s --figure thesis.html", "thesis.html", "thesis.html exists and is not a figure of a search"),
    ("fetch --data digits --progress set.json", "set.json", "set.json exists and is not a progress file"),
    ("publish mine --out thesis.html --force", "thesis.html", "thesis.html exists and is not a page"),
    ("publish mine --out web --force", "web/diary.txt", "web holds more than a page (diary.txt)"),
    ("export mine --out graphs --threshold 0.5 --force", "graphs/diary.txt", "graphs exists and is not an export"),
    ("export mine --out thesis.tex --threshold 0.5 --force", "thesis.tex", "thesis.tex exists and is not an export"),
    ("probe digits --out web", "web/diary.txt", "web exists"),
    ("push mine me/mine --dry-run web", "web/diary.txt", "web exists"),
]
OURS = [  # a command that may be given again, and what it writes
    (f"{PREDICT} found.csv", "found.csv"),
    (f"{EVALUATE} --per-class classes.csv", "classes.csv"),
    (f"{EVALUATE} --per-image images.csv", "images.csv"),
    (f"{EVALUATE} --per-image images.parquet", "images.parquet"),
    ("fetch --data digits --progress progress.json", "progress.json"),
    ("publish mine --no-pictures --out page.html --force", "page.html"),
    ("record mine --split test --force --device cpu", "runs/mine/records/test/meta.json"),
]
CONTENT = {
    "checked.csv": "file,label,exit,confidence,my remark\na.png,1,1,0.9,wrong\n",
    "photos.csv": "path,label\na.png,cat\n",
    "thesis.html": "<!doctype html>\n<title>My thesis</title>\n",
}


@pytest.mark.parametrize(("command", "file", "words"), MINE, ids=lambda text: text.removeprefix(TRAIN))
def test_a_file_of_the_user_s_stays_and_is_named(
    command: str, file: str, words: str, runs: Path, image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    place = tmp_path / file
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.suffix == ".parquet":
        pd.DataFrame({"path": ["a.png"], "label": ["cat"]}).to_parquet(place)
    elif place.parent != image_folder:
        place.write_text(CONTENT.get(file, "mine"))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert words in fails(*shlex.split(command))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(("command", "file"), OURS)
def test_what_a_command_has_written_it_writes_again(
    command: str, file: str, runs: Path, image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    times = []
    for _ in range(2):
        call(*shlex.split(command))
        times.append((tmp_path / file).stat().st_mtime_ns)
    assert times[0] < times[1]
