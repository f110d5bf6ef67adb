"""Arms of a live run on this machine: early-exit model and full model; importing this file imports no torch."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from ..policies.base import Policy
from ..utils.registry import lookup
from ..utils.typing import Ints
from .live import Arms
from .loop import InferenceResult

if TYPE_CHECKING:
    from torch import Tensor

    from ..models.dmpo import DMPO
    from ..runs.run import Run


ENGINES = {"infer": 1, "stream": 4}  # name → batches in a call


def open_arms(run: Run, split: str, model: DMPO, batch_size: int, engine: str = "infer") -> Arms:
    """Early-exit arm and full-model arm of ``model``, fastest with its tuning merged.

    Args:
        engine: ``infer`` classifies a batch, ``stream`` four with refill (`torch_engine.stream`), so that deep stages
            run on fuller batches. The full model classifies the same images, batch by batch.

    Raises:
        ValueError: unknown engine, a batch size below 1, or what `Run.image_set` raises; FileNotFoundError as there.

    Example:
        >>> import dmpo_explore as dx
        >>> run = dx.load_run("demo")
        >>> arms = open_arms(run, "test", run.model(merge=True), batch_size=64)  # doctest: +SKIP
    """
    import torch

    from ..data.torch_loaders import make_transform
    from .torch_engine import infer, stream

    batches = lookup(ENGINES, engine, "engine")
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size} must be at least 1")
    image_set, transform = run.image_set(split), make_transform(model.preprocess)

    def inputs(rows: Ints) -> Tensor:
        return torch.stack([transform(image_set[row]) for row in rows.tolist()])

    def early(images: Tensor, policy: Policy) -> InferenceResult:
        if engine == "infer":
            return infer(model, images, policy)
        return stream(model, torch.split(images, batch_size), policy, refill=True)

    def full(images: Tensor) -> Ints:
        return np.concatenate([to_the_end(model, batch) for batch in torch.split(images, batch_size)])

    return Arms(inputs, early, full, batches * batch_size)


def to_the_end(model: DMPO, images: Tensor) -> Ints:
    """(B,) labels of the last exit; no other exit runs: images (B,3,S,S) → embed, every trunk, the last predictor.

    The model is in eval mode.
    """
    import torch

    with torch.inference_mode():
        *_, last = model.walk(images.to(model.device))
        return np.asarray(last.logits.argmax(-1).cpu())


def load_average() -> float | None:
    """The system's load average: processes that ran or waited in the last minute; None if unknown.

    Example:
        >>> load = load_average()
        >>> load is None or load >= 0
        True
    """
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None
