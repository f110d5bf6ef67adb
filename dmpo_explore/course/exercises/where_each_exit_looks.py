"""Checks of 06_where_each_exit_looks."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import dmpo_explore as dx

from . import exercise


@exercise
def check_1(answer: int) -> str:
    """It depends on a single patch more than any other exit does."""
    return "" if int(answer) == _largest() else "take the largest absolute value of each map and compare"


@exercise
def check_2(answer: int) -> str:
    """It raises the T-shirt's logit more than the pullover's; a patch that raises both decides nothing."""
    of_shirt, decisive = _patches()
    if int(answer) == of_shirt:
        return "that patch raises the T-shirt's logit most, but the pullover's too: subtract its map"
    return "" if int(answer) == decisive else "subtract the pullover's map from the T-shirt's, then take `argmax`"


@exercise
def check_3(answer: Callable[[Any], Any]) -> str:
    """Sums over patches keep the whole; means would lose it."""
    import numpy as np

    heat = np.arange(4900.0).reshape(70, 70)
    expected = heat.reshape(5, 14, 5, 14).sum(axis=(1, 3))
    found = np.asarray(answer(heat))
    if found.shape != (5, 5):
        return f"the result has shape {found.shape}, not (5, 5)"
    if not np.isclose(found.sum(), heat.sum()):
        return "the token map does not add up to the sum of all pixels"
    return "" if np.allclose(found, expected) else "the sum is correct, but pixels went to another patch"


@cache
def _largest() -> int:
    import numpy as np

    run = dx.load_run("demo")
    maps = dx.compare_exits(run.model(device="cpu"), run.inputs("test", [0])[0], method="feature_ablation")
    return int(np.argmax([np.abs(a.tokens).max() for a in maps.attributions])) + 1


@cache
def _patches() -> tuple[int, int]:
    """Of image 155 at exit 1: the strongest patch for the T-shirt, and the one against the pullover."""
    run = dx.load_run("demo")
    model, tee, names = run.model(device="cpu"), run.inputs("test", [155])[0], run.class_names
    shirt, pullover = (
        dx.attribute(model, tee, 0, target=names.index(name), method="feature_ablation").tokens
        for name in ("T-shirt/top", "Pullover")
    )
    return int(shirt.argmax()), int((shirt - pullover).argmax())
