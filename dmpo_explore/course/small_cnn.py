"""A small CNN with exits, trained from scratch: what notebooks 01 and 04 share.

In: a run's bundled Fashion-MNIST images, made 14 × 14 pixels small, and loss weights by epoch. Out: trained networks
and which test images each of their exits classifies correctly.
"""

# mypy: disable-error-code="no-untyped-call"
from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import dmpo_explore as dx

Bools = npt.NDArray[np.bool_]
Schedule = Callable[[int, int, int], Sequence[float]]  # epoch from 0, epochs, exits → a loss weight per exit

CHANNELS, STRIDES = (12, 12, 16, 16, 32, 32), (2, 1, 1, 1, 2, 1)
SIDES = (7, 7, 7, 7, 4, 4)  # of the stages' maps, for images of 14 × 14 pixels


@dataclass(frozen=True)
class Images:
    """Images (B, 1, 14, 14) with mean 0 and deviation 1, and labels (B,)."""

    pixels: Tensor
    labels: Tensor


def halves(run: dx.Run, n_train: int = 2000, n_test: int = 5000) -> tuple[Images, Images]:
    """The first ``n_train`` test images of ``run`` to train on, the last ``n_test`` to test on; no image is in both."""
    data, _, test = thirds(run, n_train, n_test)
    return data, test


def thirds(run: dx.Run, n_train: int = 2000, n_test: int = 5000) -> tuple[Images, Images, Images]:
    """As `halves`, and between the two the images that are in neither: to fit thresholds on."""
    whole = run.image_set("test")
    grey = torch.tensor(whole.pixels, dtype=torch.float32)[:, None]
    small, labels = F.avg_pool2d(grey, 2), torch.tensor(whole.labels, dtype=torch.long)
    small = (small - small[:n_train].mean()) / small[:n_train].std()
    parts = slice(n_train), slice(n_train, len(small) - n_test), slice(len(small) - n_test, None)
    data, between, test = (Images(small[part], labels[part]) for part in parts)
    return data, between, test


class EarlyExitCNN(nn.Module):
    """Six stages of convolution, BatchNorm and ReLU; a linear exit reads the mean of each channel.

    Args:
        at: the stages that have an exit, from 0.
        channels: of the six stages.
    """

    def __init__(self, at: Iterable[int] = range(6), channels: Sequence[int] = CHANNELS) -> None:
        super().__init__()
        shapes = zip((1, *channels[:-1]), channels, STRIDES, strict=True)
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, stride, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU())
            for a, b, stride in shapes
        )
        self.at = tuple(at)
        self.exits = nn.ModuleList(nn.Linear(channels[k], 10) for k in self.at)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, h, w) → logits (B, K, 10) of its K exits."""
        means = []
        for stage in self.stages:
            x = stage(x)
            means.append(x.mean(dim=(2, 3)))
        return torch.stack([exit(means[k]) for exit, k in zip(self.exits, self.at, strict=True)], dim=1)

    def loss(self, x: Tensor, labels: Tensor, weights: Sequence[float]) -> Tensor:
        """Σ λ_k · ℓ_k over the exits, ℓ_k being the mean cross-entropy of exit k."""
        logits = self(x)
        losses = (F.cross_entropy(logits[:, k], labels) for k in range(len(self.at)))
        return torch.stack([weight * loss for weight, loss in zip(weights, losses, strict=True)]).sum()


class SecondOrderExit(nn.Module):
    """Bypass, LayerNorm and covariance head behind a stage of ``width`` channels and ``side`` × ``side`` places."""

    def __init__(self, width: int, side: int) -> None:
        super().__init__()
        self.bypass = dx.models.ConvBypass(width, 4, (side, side), prefix=0)
        self.norm = nn.LayerNorm(width)
        self.predictor = dx.models.CovariancePredictor(width, 10, (side, side), prefix=0, read="mean", channels=8)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, h, w) → (B, 10); every place of the map is a token."""
        tokens, _ = self.bypass(x.flatten(2).transpose(1, 2))  # (B, h · w, channels)
        logits: Tensor = self.predictor(self.norm(tokens))
        return logits


class SecondOrderCNN(EarlyExitCNN):
    """`EarlyExitCNN` whose exits are `SecondOrderExit`; stages behind the last exit are left out.

    Of several exits the last one is linear, as in DMPO. A single exit is a static net with DMPO's head.
    """

    def __init__(self, at: Iterable[int] = range(6)) -> None:
        super().__init__(at)
        self.stages = self.stages[: max(self.at) + 1]
        many = len(self.at) > 1
        rich = (SecondOrderExit(CHANNELS[k], SIDES[k]) for k in (self.at[:-1] if many else self.at))
        self.exits = nn.ModuleList([*rich, *([MeanExit(CHANNELS[self.at[-1]])] if many else [])])

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, 14, 14) → logits (B, K, 10) of its K exits."""
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return torch.stack([exit(maps[k]) for exit, k in zip(self.exits, self.at, strict=True)], dim=1)


class MeanExit(nn.Linear):
    """A linear exit that reads the mean of each channel: (B, channels, h, w) → (B, 10)."""

    def __init__(self, width: int) -> None:
        super().__init__(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, h, w) → (B, 10)."""
        return super().forward(x.mean(dim=(2, 3)))


def record(net: EarlyExitCNN, data: Images, split: str = "test") -> dx.ExitRecord:
    """The scores of all exits on ``data``; compute is counted against the plain network with one linear exit."""
    image, plain = data.pixels[:1], EarlyExitCNN([5]).eval()
    net.eval()
    flops = dx.models.exit_flops(net, image, [(net.stages[k], exit) for k, exit in zip(net.at, net.exits, strict=True)])
    whole = dx.models.exit_flops(plain, image, [(plain.stages[5], plain.exits[0])]).reference
    with torch.no_grad():
        parts = [
            (net(pixels), labels)
            for pixels, labels in zip(data.pixels.split(1000), data.labels.split(1000), strict=True)
        ]
    return dx.record_logits(parts, flops=flops.cumulative, reference_flops=whole, split=split)


def adam(net: nn.Module) -> torch.optim.Optimizer:
    """AdamW for what is not frozen in ``net``."""
    return torch.optim.AdamW([w for w in net.parameters() if w.requires_grad], lr=5e-3, weight_decay=0.01)


def sgd(net: nn.Module) -> torch.optim.Optimizer:
    """SGD with momentum for what is not frozen in ``net``."""
    return torch.optim.SGD([w for w in net.parameters() if w.requires_grad], lr=0.05, momentum=0.9, weight_decay=5e-4)


def train(net: Any, data: Images, schedule: Schedule, optimiser: torch.optim.Optimizer, epochs: int = 8) -> None:
    """Train in place: batches of 50, one cycle of the learning rate, the loss weights of ``schedule``."""
    steps = epochs * -(-len(data.labels) // 50)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, optimiser.param_groups[0]["lr"], total_steps=steps)
    for epoch in range(epochs):
        weights = schedule(epoch, epochs, len(net.at))
        for rows in torch.randperm(len(data.labels)).split(50):
            optimiser.zero_grad()
            net.loss(data.pixels[rows], data.labels[rows], weights).backward()
            optimiser.step()
            rate.step()


def correct(net: nn.Module, data: Images) -> Bools:
    """(B, K): whether each exit classifies each image correctly."""
    net.eval()
    with torch.no_grad():
        hits = torch.cat([net(part) for part in data.pixels.split(1000)]).argmax(dim=2) == data.labels[:, None]
    return np.asarray(hits.numpy())


def repeated(trained: Callable[[], nn.Module], test: Images, seeds: int = 3) -> Bools:
    """(seeds, B, K): `correct` of a network that is made and trained again with every seed."""
    hits = []
    for seed in range(seeds):
        torch.manual_seed(seed)
        hits.append(correct(trained(), test))
    return np.stack(hits)
