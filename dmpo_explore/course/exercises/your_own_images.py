"""Exercises of 07_your_own_images."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

import dmpo_explore as dx

from . import exercise


@exercise
def check_1(answer: int) -> str:
    """Its accuracy is what a policy of this budget has to beat."""
    return "" if int(answer) == int((_compute() <= 0.25).sum()) else "count the shares that are at most 0.25."


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
def check_3(answer: Callable[[Any, Any], Any]) -> str:
    """Report the interval with every gain; where none is shown, the cheaper of the two is the choice."""
    better, worse = np.arange(400) % 10 > 0, np.arange(400) % 10 > 2  # 90 % and 70 %
    if not answer(better, worse):
        return "90 % against 70 % of 400 images is a gain that is shown."
    if answer(worse, better):
        return "70 % against 90 % is a loss: the lower end must lie above 0."
    few = np.arange(20) % 10 > 1, np.arange(20) % 10 > 2  # 80 % and 70 % of 20 images
    return "80 % against 70 % of only 20 images is not shown: use the interval." if answer(*few) else ""


@cache
def _compute() -> npt.NDArray[Any]:
    """The exits' shares of compute; they do not depend on the weights."""
    config = dx.ModelConfig(exits=(1, 2, 4, 8), image_size=42, weights="random")
    found = dx.models.measure_flops(dx.build_model(config, 6), dx.models.build_reference(config, 6))
    return np.array(found.cumulative) / found.reference
