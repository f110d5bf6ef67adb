"""docs/your-images.md: the lines that it shows are the command's, and it explains every check."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from image_files import dirty_folder
from typer.testing import CliRunner

from dmpo_explore.cli import app
from dmpo_explore.data.findings import CHECKS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "your-images.md").read_text(encoding="utf-8")


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
