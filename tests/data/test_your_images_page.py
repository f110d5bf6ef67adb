"""docs/your-images.md: its code runs, what it names exists, the lines that it shows are the command's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from image_files import dirty_folder
from typer.testing import CliRunner

from dmpo_explore.cli import app
from dmpo_explore.config import OPTIONS
from dmpo_explore.data.check import CHECKS
from dmpo_explore.data.image_files import image_suffixes
from dmpo_explore.data.manifest import COLUMNS, MOST_PLAIN

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "your-images.md").read_text(encoding="utf-8")


def test_its_code_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(code, {})
    assert capsys.readouterr().out.startswith("1,295 train, 143 val, 10 classes; a fixed fifth of every class is test")


def test_its_options_columns_and_numbers_are_the_programs() -> None:
    spellings = {found.spelling for found in OPTIONS.values()} | {
        "no-calibration",
        "split",
        "resume",
        "against",
        "per-class",
        "config",
        "recipe",
        "estimate",
        "help",
        "name",
        "record",
        "out",
        "json",
        "teacher",
    }
    named = set(re.findall(r"--([a-z][a-z-]+)", PAGE))
    assert named <= spellings
    assert {key for key in spellings if key.endswith(("-dir", "class-names", "calibration"))} <= named
    assert f"{MOST_PLAIN:,} files" in PAGE and COLUMNS == ["path", "bytes", "sha256", "split", "label"]
    assert {".png", ".jpg", ".jfif", ".webp", ".tif", ".bmp", ".gif", ".ppm"} <= image_suffixes()


def test_the_output_for_a_dirty_folder_is_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path / "runs"))
    dirty_folder(Path("photos"))
    (shown,) = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)
    done = CliRunner().invoke(app, ["data", "photos"])
    for part in shown.split("\n…\n"):
        assert all(line in done.stdout.splitlines() for line in part.splitlines())
    assert done.exit_code == 1 and "STOPS" in shown


def test_every_check_is_explained() -> None:
    assert re.findall(r"^\| ([a-z ]+) \|", PAGE.split("### What it finds")[1].split("## ")[0], re.M)[1:] == [*CHECKS]
