"""Checks of 06_where_each_exit_looks."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import dmpo_explore as dx

from . import exercise


@exercise
def check_1(answer: Callable[..., Any]) -> str:
    """The attributions add up to f(x) − f(b). Captum's function is this, with a better rule for the steps."""
    import torch

    x = torch.linspace(-1, 2, 12, dtype=torch.float64).reshape(1, 3, 2, 2)
    b = torch.full_like(x, 0.25)
    found = answer(lambda images: (images**3).flatten(1).sum(dim=1), x, b, 64)
    if found.shape != x.shape:
        return f"the result has shape {tuple(found.shape)}, not that of x, {tuple(x.shape)}"
    if torch.allclose(found, (x - b) * 3 * x**2):
        return "that is the gradient at the image alone: take its mean along the path"
    return "" if torch.allclose(found, x**3 - b**3, atol=2e-3) else "f(x) = Σ xᵢ³ must give xᵢ³ − bᵢ³ for every pixel"


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
def _patches() -> tuple[int, int]:
    """Of image 155 at exit 1: the strongest patch for the T-shirt, and the one against the pullover."""
    run = dx.load_run("demo")
    model, tee, names = run.model(device="cpu"), run.inputs("test", [155])[0], run.class_names
    shirt, pullover = (
        dx.attribute(model, tee, 0, target=names.index(name), method="feature_ablation").tokens
        for name in ("T-shirt/top", "Pullover")
    )
    return int(shirt.argmax()), int((shirt - pullover).argmax())
