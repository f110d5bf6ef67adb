"""Exercises of 07_your_own_images."""

from __future__ import annotations

import shlex
import tempfile
from functools import cache
from pathlib import Path

import dmpo_explore as dx

from . import exercise


@exercise
def check_1(answer: int) -> str:
    """Eight of ten; and no image is in two splits."""
    return "" if int(answer) == _training_images(50) else "make the folder, and use `dx.load_images`."


@exercise
def check_2(answer: str) -> str:
    """Paste it into a terminal, and it trains."""
    from typer.main import get_command

    program, verb, *words = shlex.split(answer)
    if (program, verb) != ("dmpo-explore", "train"):
        return "it starts with `dmpo-explore train`."
    from ...cli import app

    with get_command(app).commands["train"].make_context("train", words) as context:  # type: ignore[attr-defined]
        given = {key: str(context.params[key]) for key in ("data", "exits", "epochs", "name", "flip")}
    expected = {"data": "images", "exits": "4,8,12", "epochs": "1", "name": "three", "flip": "False"}
    other = [key for key, value in expected.items() if given[key].replace(" ", "") != value]
    return f"look again at {', '.join(other)}." if other else ""


@exercise
def check_3(answer: float) -> str:
    """Quadratic in the side; attention among the patches grows even faster."""
    return "" if abs(float(answer) - (112 // 14) ** 2 / (42 // 14) ** 2) < 0.01 else "patches tile an area, not a line."


@cache
def _training_images(count: int) -> int:
    from ..own_images import make_images

    with tempfile.TemporaryDirectory() as folder:
        make_images(Path(folder), count)
        return len(dx.load_images(str(Path(folder) / "images"), "train"))
