"""Checks of 01_the_conflict."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import dmpo_explore as dx

from . import exercise


@exercise
def check_1(answer: int) -> str:
    """The shallower the exit, the more its bypass and second-order statistics gain."""

    dmpo, naive = (dx.load_run(name).record("test").correct.mean(axis=0) for name in ("demo", "demo-naive"))
    return "" if answer == int((dmpo - naive).argmax()) + 1 else "compare record.correct.mean(axis=0), exit by exit"


@exercise
def check_2(answer: Callable[[Any, Any], Any]) -> str:
    """What is left of the first gradient no longer undoes the second one's step."""
    import torch

    first, second = torch.tensor([3.0, -1.0, 0.5]), torch.tensor([-1.0, 1.0, 2.0])
    if not torch.equal(answer(-first, second), -first):
        return "gradients that agree are to stay as they are"
    left = answer(first, second)
    if left @ second < -1e-5:
        return "the result still points against the second gradient"
    expected = first - (first @ second) / (second @ second) * second
    return "" if torch.allclose(left, expected, atol=1e-5) else "only the part along the second gradient is to go"


@exercise
def check_3(answer: float) -> str:
    """Two blocks have gathered less in the class token than in the mean of the patches."""
    near = abs(float(answer) - class_token_accuracy()) < 0.015
    return "" if near else "tokens('demo-naive').trunk[0][:, 0] is what to read; fit and test on the same halves"


@cache
def class_token_accuracy() -> float:
    """Of a ridge probe on the class token behind exit 1 of demo-naive, as in the notebook."""

    run, rows = dx.load_run("demo-naive"), list(range(240))
    tokens = dx.stage_tokens(run.model(), run.inputs("test", rows))
    return dx.inspection.ridge_accuracy(
        tokens.trunk[0][:, 0], run.record("test").labels[:240], dx.inspection.half_of(240)
    )
