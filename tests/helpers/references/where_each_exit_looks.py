"""Incorrect answers to the exercises of 06_where_each_exit_looks, and its key numbers from the library."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch

import dmpo_explore as dx

TOLERANCE = 1e-3  # logits of float32: threads and processors differ in the last digits


@cache
def _maps() -> tuple[np.ndarray, float]:
    run = dx.load_run("fashion")
    maps = dx.compare_exits(run.model(device="cpu"), run.inputs("test", [0])[0], method="feature_ablation")
    return np.stack([a.tokens for a in maps.attributions]), maps.attributions[-1].difference


def _black(model: Any) -> torch.Tensor:
    side = model.preprocess.image_size
    black = -torch.tensor(model.preprocess.mean) / torch.tensor(model.preprocess.std)
    return black.view(1, 3, 1, 1).expand(1, 3, side, side)


def _sandal_on_black() -> float:
    model = dx.load_run("fashion").model(device="cpu")
    with torch.no_grad():
        return float(model(_black(model))[0, 1].softmax(dim=0)[NAMES.index("Sandal")])


NAMES = dx.load_run("fashion").record("test").meta.class_names


def at_the_image_alone(f: Any, x: Any, b: Any, steps: int) -> Any:
    """The gradient at the end of the path."""
    point = x.clone().requires_grad_()
    return (x - b) * torch.autograd.grad(f(point).sum(), point)[0]


def inserted(f: Any, x: Any, b: Any, tokens: Any) -> Any:
    """Masks of the first n patches, by rank."""
    rank = torch.from_numpy(np.argsort(np.argsort(-tokens.ravel()))).reshape(tokens.shape)
    size = x.shape[-1] // tokens.shape[0]
    rank = rank.repeat_interleave(size, 0).repeat_interleave(size, 1)
    return np.array([float(f(torch.where(rank < n, x, b)[None])[0]) for n in range(tokens.size + 1)])


def hide(x: Any, b: Any, patch: int, n: int) -> Any:
    """x with patch n of b."""
    side = x.shape[-1] // patch
    at = torch.arange(side * side).reshape(side, side).repeat_interleave(patch, 0).repeat_interleave(patch, 1)
    return torch.where(at == n, b, x)


def one_by_one(f: Any, x: Any, b: Any, target: int, patch: int) -> list[int]:
    """In the order of each patch's own drop."""
    count = (x.shape[-1] // patch) ** 2
    order = sorted(range(count), key=lambda n: float(f(hide(x, b, patch, n)[None])[0, target]))
    for n in range(count):
        if int(f(x[None])[0].argmax()) != target:
            return order[:n]
        x = hide(x, b, patch, order[n])
    return order


def drops(model: Any, x: Any, hidden: Any, patch: int) -> Any:
    """Patch by patch."""
    side = x.shape[-1] // patch
    at = torch.arange(side * side).reshape(side, side).repeat_interleave(patch, 0).repeat_interleave(patch, 1)
    with torch.no_grad():
        whole = model(x[None])[0]
        lost = [whole - model(torch.where(at == n, hidden, x)[None])[0] for n in range(side * side)]
    return torch.stack(lost, dim=1)[..., int(whole[-1].argmax())].numpy()


INCORRECT = {
    1: at_the_image_alone,
    2: lambda f, x, b, tokens: inserted(f, x, b, -tokens),  # the least important first
    3: one_by_one,
}


def BUILD_INCORRECT(model: Any, x: Any, hidden: Any, patch: int) -> Any:
    """Patches column by column."""
    side = x.shape[-1] // patch
    return drops(model, x, hidden, patch).reshape(-1, side, side).swapaxes(1, 2).reshape(-1, side * side)


def numbers() -> dict[str, float | str | int]:
    drops, difference = _maps()
    return {
        "logit_difference_at_last_exit": difference,
        "strongest_patch_at_last_exit": int(np.abs(drops[-1]).argmax()),
        "black_taken_for_a_sandal_at_exit_2": _sandal_on_black(),
    }
