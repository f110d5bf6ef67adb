"""Checks of 06_where_each_exit_looks."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

import dmpo_explore as dx

from . import exercise


@exercise
def check_build(answer: Callable[..., Any]) -> str:
    """It gives what the library's `feature_ablation` gives, at every exit, to 1e-4 of the largest drop."""
    import torch

    model, x = _small_model(), _image()
    hidden = dx.attribution.make_baseline(model, x[None], "black")[0]
    target = int(model(x[None])[0, -1].argmax())
    theirs = [dx.attribute(model, x, k, target=target, method="feature_ablation").tokens.ravel() for k in range(2)]
    found = answer(model, x.clone(), hidden.clone(), 16)
    if found is ...:
        return "it returns no drops yet"
    drops = found.detach().numpy() if isinstance(found, torch.Tensor) else np.asarray(found)
    if drops.shape != (2, 16):
        return f"with 2 exits and 16 patches the result is (2, 16), not {drops.shape}"
    tolerance = 1e-4 * max(float(np.abs(row).max()) for row in theirs)
    far = np.abs(drops - np.stack(theirs)).max(axis=1) > tolerance
    if np.allclose(drops, -np.stack(theirs), atol=tolerance):
        return "the sign: a patch whose loss lowers the logit counts for the class"
    if np.allclose(drops.reshape(2, 4, 4).transpose(0, 2, 1).reshape(2, 16), np.stack(theirs), atol=tolerance):
        return "patches are numbered row by row, not column by column"
    return f"exit {int(far.argmax()) + 1} differs: the class is the last exit's, at every exit" if far.any() else ""


@exercise
def check_1(answer: Callable[..., Any]) -> str:
    """The attributions add up to f(x) − f(b). Captum's function is this, with a better rule for the steps."""
    import torch

    x = torch.linspace(-1, 2, 12, dtype=torch.float64).reshape(1, 3, 2, 2)
    b = torch.full_like(x, 0.25)
    found = answer(lambda images: (images**3).flatten(1).sum(dim=1), x, b, 2000)  # any rule is close with so many
    if found.shape != x.shape:
        return f"the result has shape {tuple(found.shape)}, not that of x, {tuple(x.shape)}"
    if torch.allclose(found, (x - b) * 3 * x**2):
        return "that is the gradient at the image alone: take its mean along the path"
    return "" if torch.allclose(found, x**3 - b**3, atol=1e-2) else "f(x) = Σ xᵢ³ must give xᵢ³ − bᵢ³ for every pixel"


@exercise
def check_2(answer: Callable[..., Any]) -> str:
    """It is the library's curve. Its area is high if the first patches already make the class probable."""
    import torch

    model, x = _small_model(), _image()
    found = dx.attribute(model, x, 1, method="feature_ablation")
    hidden = dx.attribution.make_baseline(model, x[None], "black")[0]

    def probability(images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = model(images)[:, 1].detach()
        return logits.softmax(dim=-1)[:, found.target]

    curve = np.asarray(answer(probability, x.clone(), hidden.clone(), found.tokens.copy()))
    if curve.shape != (17,):
        return f"with 16 patches there are 17 probabilities, not {curve.shape}"
    expected = found.quality(samples=0, perturbations=0, orders=0).insertion
    ends = probability(torch.stack((hidden, x))).numpy()
    if not np.allclose(curve[[0, -1]], ends, atol=1e-5):
        return "it starts at the baseline, with no patch shown, and ends at the whole image"
    same = np.allclose(curve, expected, atol=1e-5)
    return "" if same else "patches are shown in another order: the largest value first"


@exercise
def check_3(answer: Callable[..., Any]) -> str:
    """Patches of which each counts only beside the other: hiding one takes both, so the second need not be hidden."""
    import torch

    x, b = torch.ones(3, 4, 4), torch.zeros(3, 4, 4)

    def logits(images: torch.Tensor) -> torch.Tensor:
        cells = images[:, 0, ::2, ::2].flatten(1)  # (B, 4); the first two count together only
        shown = 4 * cells[:, 0] * cells[:, 1] + 3 * cells[:, 2] + 2 * cells[:, 3]
        return torch.stack((torch.full_like(shown, 2.5), shown), dim=1)

    found = answer(logits, x.clone(), b.clone(), 1, 2)
    if [int(n) for n in answer(logits, x.clone(), b.clone(), 0, 2)]:
        return "the largest logit is another class's from the start: no patch is to be hidden"
    order = [int(n) for n in found]
    if order[:2] in ([0, 1], [1, 0]):
        return "in the second round patch 0 is hidden already: measure the others on that image, not on x"
    return "" if order in ([0, 2], [1, 2]) else f"of four patches 0 (or 1) and 2 are to be hidden, not {order}"


@cache
def _small_model() -> Any:
    """A model with two exits and 16 patches, untrained: logits of which every patch has a share."""
    from ...utils.torch_seeding import seeded

    config = dx.ModelConfig("test_vit", "random", 64, exits=2, predictor="linear", bypass_width=4)
    with seeded(0):
        return dx.build_model(config, n_classes=3).eval()


def _image() -> Any:
    import torch

    return torch.randn(3, 64, 64, generator=torch.Generator().manual_seed(0))
