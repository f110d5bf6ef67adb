"""Train small exits on frozen tokens: what notebooks 02 and 03 share.

In: a run, whose bundled test images are cut into a half to train on and a half to test on, and a function that makes an
exit. Out: which test images it classifies correctly, once per seed, and what one exit gains over another.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import dmpo_explore as dx

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Frozen:
    """Tokens (B, N, D) of images behind a stage, and their labels; the first half is for training."""

    tokens: Tensor
    labels: Tensor

    def half(self, test: bool) -> tuple[Tensor, Tensor]:
        """Tokens and labels of one half."""
        middle = len(self.labels) // 2
        part = slice(middle, None) if test else slice(middle)
        return self.tokens[part], self.labels[part]


def freeze(run: dx.Run, model: dx.DMPO, n: int = 3000) -> Frozen:
    """Tokens of the first ``n`` test images of ``run`` behind the first stage of ``model``, which is not trained."""
    with torch.no_grad():
        parts = [run.inputs("test", list(range(i, min(i + 100, n)))) for i in range(0, n, 100)]
        tokens = torch.cat([model.stages[0].trunk(model.embed(part)) for part in parts])
    return Frozen(tokens, torch.tensor(run.record("test").labels[:n], dtype=torch.long))


def train_exit(exit: nn.Module, frozen: Frozen, epochs: int = 6, rate: float = 1e-2) -> None:
    """AdamW, batches of 50, one cycle of the learning rate."""
    tokens, labels = frozen.half(test=False)
    optimizer = torch.optim.AdamW(exit.parameters(), rate, weight_decay=0.01)
    steps = epochs * -(-len(labels) // 50)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    for _ in range(epochs):
        for rows in torch.randperm(len(labels)).split(50):
            optimizer.zero_grad()
            F.cross_entropy(exit(tokens[rows]), labels[rows]).backward()
            optimizer.step()
            schedule.step()


def correct(make: Callable[[], nn.Module], frozen: Frozen, seeds: int = 3, epochs: int = 6) -> Bools:
    """(seeds, B): whether each test image is correct, for an exit made and trained again with every seed."""
    tokens, labels = frozen.half(test=True)
    rows = []
    for seed in range(seeds):
        torch.manual_seed(seed)
        exit = make()
        train_exit(exit, frozen, epochs)
        with torch.no_grad():
            rows.append((exit(tokens).argmax(dim=1) == labels).numpy())
    return np.stack(rows)


def gain(question: str, more: Bools, less: Bools) -> dict[str, float | str]:
    """A row for `dx.figures.gains_figure`: points of accuracy that ``more`` is ahead, (seeds, B) each, paired.

    The 95 % interval is that of `dx.analysis.seeds_interval`; with one seed it is over images alone.
    """
    points = 100 * (more.astype(float) - less)  # paired: the same image, and the same seed, in both
    mean, low, high = dx.analysis.seeds_interval(points)
    seeds = " ".join(f"{value:+.2f}" for value in points.mean(axis=1))
    over = "images and trainings" if len(points) > 1 else "images"
    return {"question": question, "points": mean, "low": low, "high": high, "seeds": seeds, "over": over}


class Exit(nn.Module):
    """Bypass, LayerNorm and predictor on frozen tokens, as one early exit of the library has them."""

    def __init__(self, bypass: nn.Module, predictor: nn.Module, width: int = 384) -> None:
        super().__init__()
        self.bypass, self.norm, self.predictor = bypass, nn.LayerNorm(width), predictor

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) → (B, C)."""
        read, _ = self.bypass(x)
        raw = (x,) if getattr(self.predictor, "reads_raw", False) else ()
        logits: Tensor = self.predictor(self.norm(read), *raw)
        return logits
