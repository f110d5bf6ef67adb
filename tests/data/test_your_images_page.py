"""docs/your-images.md: its code runs, and what it names exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dmpo_explore.config import OPTIONS
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
