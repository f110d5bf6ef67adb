"""Exercises of 06_where_each_exit_looks."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch

import dmpo_explore as dx

from ...utils.torch_seeding import seeded
from . import Lines, exercise, gives


@exercise
def check_build(answer: Callable[..., Any]) -> Lines:
    """It gives what the library's `feature_ablation` gives, at every exit, to 1e-4 of the largest drop."""
    model, x, hidden = _example()
    target = int(model(x[None])[0, -1].argmax())
    maps = [dx.attribute(model, x, k, target=target, method="feature_ablation").tokens for k in range(2)]
    due = np.stack(maps).reshape(2, 16)
    mistakes = {
        "the sign: a patch whose loss lowers the logit counts for the class": -due,
        "patches are numbered row by row, not column by column": np.stack(maps).transpose(0, 2, 1).reshape(2, 16),
    }
    hint = "of two exits and 16 patches; the class is the last exit's, at every exit"
    yield gives(answer, (model, x, hidden, 16), due, hint, mistakes, tolerance=1e-4 * np.abs(due).max())


@exercise
def check_1(answer: Callable[..., Any]) -> Lines:
    """The attributions add up to f(x) − f(b). Captum's function is this, with a better rule for the steps."""
    x = torch.linspace(-1, 2, 12, dtype=torch.float64).reshape(1, 3, 2, 2)
    b = torch.full_like(x, 0.25)
    given = lambda images: (images**3).flatten(1).sum(dim=1), x, b, 2000  # any rule is close with so many steps
    mistakes = {"that is the gradient at the image alone: take its mean along the path": (x - b) * 3 * x**2}
    yield gives(answer, given, x**3 - b**3, "f(x) = Σ xᵢ³ must give xᵢ³ − bᵢ³ for every pixel", mistakes, 1e-2)


@exercise
def check_2(answer: Callable[..., Any]) -> Lines:
    """It is the library's curve. Its area is high if the first patches already make the class probable."""
    model, x, hidden = _example()
    found = dx.attribute(model, x, 1, method="feature_ablation")

    def probability(images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = model(images)[:, 1].detach()
        return logits.softmax(dim=-1)[:, found.target]

    expected = found.quality(samples=0, perturbations=0, orders=0).insertion
    hint = "from the baseline, with no patch shown, to the whole image, the largest value first"
    yield gives(answer, (probability, x, hidden, found.tokens), expected, hint, tolerance=1e-5)


@exercise
def check_3(answer: Callable[..., Any]) -> Lines:
    """Patches of which each counts only beside the other: hiding one takes both, so the second need not be hidden."""

    def logits(images: torch.Tensor) -> torch.Tensor:
        cells = images[:, 0, ::2, ::2].flatten(1)  # (B, 4); the first two count together, the first a little more
        shown = cells @ torch.tensor([0.1, 0.0, 3.0, 2.0]) + 4 * cells[:, 0] * cells[:, 1]
        return torch.stack((torch.full_like(shown, 2.5), shown), dim=1)

    x, b = torch.ones(3, 4, 4), torch.zeros(3, 4, 4)
    yield gives(answer, (logits, x, b, 0, 2), [], "the largest logit is another class's from the start")
    mistakes = {"in the second round patch 0 is hidden already: measure the others on that image, not on x": [0, 1, 2]}
    yield gives(answer, (logits, x, b, 1, 2), [0, 2], "of four patches two are to be hidden", mistakes)


@cache
def _example() -> Any:
    """A model with two exits and 16 patches, untrained: every patch has a share of its logits; an image; black."""
    config = dx.ModelConfig("test_vit", "random", 64, exits=2, predictor="linear", bypass_width=4)
    with seeded(0):
        model = dx.build_model(config, n_classes=3).eval()
    x = torch.randn(3, 64, 64, generator=torch.Generator().manual_seed(0))
    return model, x, dx.attribution.make_baseline(model, x[None], "black")[0]
