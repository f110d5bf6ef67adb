"""Small trainings on the camera's tokens: one loop, AdamW, one cycle of the learning rate, one thread.

In: a network (K, B, N, D) → (B, K, C) and a `Part`. Out: the trained network, its answers, and which are correct.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional as F

from ..utils.torch_tools import one_thread
from .camera import Part

Weights = Callable[[int, int], Sequence[float]]  # (epoch from 0, epochs) → K
Net = TypeVar("Net", bound=nn.Module)


@one_thread()
def train(
    make: Callable[[], Net], part: Part, weights: Weights | None = None, *, epochs: int = 12, seed: int = 0
) -> Net:
    """The network that ``make`` makes, trained with these loss weights of the exits (1 for each), in eval mode."""
    rate, batch = 3e-3, 50
    torch.manual_seed(seed)
    net = make().train()
    steps = max(1, epochs * -(-len(part.labels) // batch))
    optimizer = torch.optim.AdamW(net.parameters(), rate, weight_decay=0.05, fused=True)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    for epoch in range(epochs):
        for rows in torch.randperm(len(part.labels)).split(batch):
            logits, labels = net(part.tokens[:, rows].float()), part.labels[rows]  # (B, K, C), (B,)
            lambdas = weights(epoch, epochs) if weights else [1.0] * logits.shape[1]
            losses = [w * F.cross_entropy(logits[:, k], labels) for k, w in enumerate(lambdas)]
            optimizer.zero_grad()
            torch.stack(losses).sum().backward()
            optimizer.step()
            cycle.step()
    return net.eval()


@one_thread()
@torch.no_grad()
def answers(net: nn.Module, part: Part) -> torch.Tensor:
    """Logits (B, K, C) of a network for a part's images."""
    return torch.cat([net(tokens.float()) for tokens in part.tokens.split(200, dim=1)])


def correct(net: nn.Module, part: Part) -> npt.NDArray[np.bool_]:
    """(K, B): whether each exit classifies each image correctly."""
    return (answers(net, part).argmax(dim=-1) == part.labels[:, None]).T.numpy()
