"""Milliseconds of every stage of a model on this machine, for one image at a time."""

from __future__ import annotations

import time

import numpy as np
import torch

from ..models.dmpo import DMPO
from ..runs.timings import StageTimes
from ..utils.typing import Progress
from .device import describe_device
from .torch_engine import autocast, eval_mode, stage_function

WARM_UP = 3  # passes before the first one that counts


def time_stages(model: DMPO, name: str, *, passes: int = 20, progress: Progress | None = None) -> StageTimes:
    """The median time of every stage, of ``passes`` passes of one image, computed as `infer` does.

    Args:
        name: the run's. progress: called with the passes done and all of them.

    Example:
        >>> import dmpo_explore as dx
        >>> time_stages(dx.load_run("demo").model("cpu"), "demo").exits[-1]  # doctest: +SKIP
        18.4
    """
    device = model.device
    size, stages = model.preprocess.image_size, [stage_function(model, k) for k in range(len(model.stages))]
    taken = np.empty((passes, len(stages)))
    with torch.inference_mode(), eval_mode(model), autocast(device, model.precision):
        image = torch.rand(1, 3, size, size, device=device)
        for i in range(-WARM_UP, passes):
            x, side = image, None
            for k, stage in enumerate(stages):
                begin = time.perf_counter()
                x, _, side = stage(x, side)
                if device.type != "cpu":
                    torch.accelerator.synchronize(device)
                taken[max(i, 0), k] = 1000 * (time.perf_counter() - begin)
            if progress is not None and i >= 0:
                progress(i + 1, passes)
    return StageTimes(name, describe_device(str(device)), tuple(np.median(taken, axis=0).tolist()))
