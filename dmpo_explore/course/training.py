"""Small trainings on the camera's tokens: one loop, AdamW, one cycle of the learning rate, one thread.

In: a network (K, B, N, D) → (B, K, C) and a `Part`. Out: the trained network, which images its exits classify
correctly, and what one training gains over another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional as F

import dmpo_explore as dx

from . import parts
from .camera import CONFIG, SIZE, Camera, Part

Bools = npt.NDArray[np.bool_]
Weights = Callable[[int, int], Sequence[float]]  # (epoch from 0, epochs) → K
Net = TypeVar("Net", bound=nn.Module)


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread inside: two of them wait for each other in layers as small as these."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def train(
    make: Callable[[], Net], part: Part, weights: Weights | None = None, *, epochs: int = 12, seed: int = 0
) -> Net:
    """The network that ``make`` makes, trained with these loss weights of the exits (1 for each), in eval mode."""
    rate, batch = 3e-3, 50
    torch.manual_seed(seed)
    net = make().train()
    steps = max(1, epochs * -(-len(part) // batch))
    optimizer = torch.optim.AdamW(net.parameters(), rate, weight_decay=0.05, fused=True)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    with one_thread():
        for epoch in range(epochs):
            for rows in torch.randperm(len(part)).split(batch):
                logits = net(part.tokens[:, rows].float())  # (B, K, C)
                n_exits = logits.shape[1]
                losses = [F.cross_entropy(logits[:, k], part.labels[rows]) for k in range(n_exits)]
                lambdas = torch.tensor(weights(epoch, epochs) if weights else [1.0] * n_exits)
                optimizer.zero_grad()
                (lambdas * torch.stack(losses)).sum().backward()
                optimizer.step()
                cycle.step()
    return net.eval()


def answers(net: nn.Module, part: Part) -> torch.Tensor:
    """Logits (B, K, C) of a network for a part's images."""
    with one_thread(), torch.no_grad():
        return torch.cat([net(tokens.float()) for tokens in part.tokens.split(200, dim=1)])


def correct(net: nn.Module, part: Part) -> Bools:
    """(K, B): whether each exit classifies each image correctly."""
    return (answers(net, part).argmax(dim=-1) == part.labels[:, None]).T.numpy()


def record(net: nn.Module, camera: Camera, split: str) -> dx.ExitRecord:
    """What every exit answers for a split's images, with the FLOPs of the model on images (`parts.on_images`)."""
    part, model = getattr(camera, split), parts.on_images(net, camera)
    flops = dx.models.measure_flops(model, dx.models.build_reference(CONFIG, len(camera.names)))
    meta = dx.records.RecordMeta(
        "grocery", split, tuple(camera.names), model.exits, tuple(flops.cumulative), flops.reference,
        indices=part.images.indices, model="yours", image_size=SIZE,
    )  # fmt: skip
    logits = answers(net, part)
    arrays = {name: values.numpy() for name, values in dx.records.scores(logits).items()}
    arrays |= {"labels": part.labels.numpy(), "logits": logits.half().numpy()}
    return dx.ExitRecord.of_arrays(arrays, meta)


def gain(question: str, more: Bools, less: Bools) -> dict[str, float | str]:
    """A row for `dx.figures.gains_figure`: points of accuracy that ``more`` is ahead, (seeds, B) each, paired.

    The 95 % interval is that of `dx.analysis.seeds_interval`; with one seed it is over images alone.
    """
    points = 100 * (more.astype(float) - less)  # paired: the same image, and the same seed, in both
    mean, low, high = dx.analysis.seeds_interval(points)
    seeds = " ".join(f"{value:+.2f}" for value in points.mean(axis=1))
    over = "images and trainings" if len(points) > 1 else "images"
    return {"question": question, "points": mean, "low": low, "high": high, "seeds": seeds, "over": over}
