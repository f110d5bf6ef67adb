"""docs/your-images.md: its output is the command's, and it explains every check."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from dirty_folder import dirty_folder
from typer.testing import CliRunner

from dmpo_explore.cli import app
from dmpo_explore.data.findings import CHECKS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "your-images.md").read_text(encoding="utf-8")


def test_the_output_for_a_dirty_folder_is_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path / "runs"))
    dirty_folder(Path("photos"))
    shown, error = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)
    done = CliRunner().invoke(app, ["data", "photos"])
    assert shown.strip() == done.stdout.strip() and done.exit_code == 1
    done = CliRunner().invoke(app, ["train", "--data", "photos", "--name", "mine", "--weights", "random"])
    assert error.strip() == done.stderr.strip().replace(f"{tmp_path}/", "/home/me/")


def test_every_check_is_explained() -> None:
    assert re.findall(r"^\| ([a-z ]+) \|", PAGE.split("### What it finds")[1].split("## ")[0], re.M)[1:] == [*CHECKS]
