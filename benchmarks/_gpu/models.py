"""What the GPU benchmark times: a run's model on a large backbone with random weights, and the bench around it.

In: a backbone and the bundled run whose exits and parts it takes. Out: `RandomRun`, which `_speed.arms.Bench` takes in
a run's place, and `GpuBench`. Time does not depend on weights. Exits do, so thresholds are fitted to the exit shares of
the bundled run.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import dmpo_explore as dx
from _speed.arms import Bench, graphed_model, use_budget
from _speed.early_exit import NO_EARLY_EXIT
from dmpo_explore.inference.torch_compile import SIZES, replayed_stages, run_again
from dmpo_explore.inference.torch_engine import as_step
from dmpo_explore.models.predictors import PRECISIONS, cast_products, prepare
from dmpo_explore.records.record import RecordMeta
from dmpo_explore.utils.torch_tools import seeded

BUNDLED = "demo"
BUDGETS = (0.3, 0.5)
RECORDED_AT = 64  # images of a batch while the exits are recorded


@dataclass(frozen=True)
class RandomRun:
    """A model of random weights with the parts of another run, as far as a bench reads a run."""

    config: dx.Config
    class_names: tuple[str, ...]

    def model(self, device: str, merge: bool = True, precision: str = "no") -> dx.DMPO:
        """In eval mode, ready for inference as `Run.model` makes it."""
        with seeded(0):
            model = dx.build_model(self.config.model, len(self.class_names)).eval()
        if merge:
            dx.models.merge(model)
            prepare(model)
        if (kind := PRECISIONS[precision]) is not None:
            cast_products(model, kind)
            model.precision = precision
        return model.to(device)

    @cached_property
    def flops(self) -> Any:
        """FLOPs as deployed."""
        reference = dx.models.build_reference(self.config.model, len(self.class_names))
        return dx.models.measure_flops(self.model("cpu", merge=False), reference)


def random_run(backbone: str, image_size: int, **changes: Any) -> RandomRun:
    """The parts of the bundled run on another backbone, with random weights."""
    bundled = dx.load_run(BUNDLED)
    model = replace(bundled.config.model, backbone=backbone, weights="random", image_size=image_size, **changes)
    return RandomRun(replace(bundled.config, model=model), bundled.class_names)


def bundled_shares(n_exits: int) -> dict[str, tuple[float, ...]]:
    """Budget → share of the test images that exit at each exit of the bundled run; the deepest ones are joined."""
    run = dx.load_run(BUNDLED)
    record, found = run.record("test"), {}
    for budget in BUDGETS:
        exits = np.minimum(use_budget(run.record(run.fitting_split), budget).exits(record), n_exits - 1)
        found[f"{100 * budget:.0f} %"] = tuple((np.bincount(exits, minlength=n_exits) / len(exits)).tolist())
    return found


class GpuBench(Bench):
    """The bench with a record of its own: no run has one for random weights.

    Without a GPU its graphs are plain calls on buffers of fixed sizes, which only tries the code.
    """

    def __init__(self, run: RandomRun, images: Tensor, device: str, n_images: dict[int, int]) -> None:
        super().__init__(run, images, device, Path(), 1, n_images, list(n_images))  # type: ignore[arg-type]
        self.random = run

    @cached_property
    def models(self) -> dict[str, dx.DMPO]:
        """Precision → the model with weights cast once."""
        return {"no": self.model, "bf16": self.random.model(self.device, precision="bf16")}

    @cached_property
    def plain_bf16(self) -> torch.nn.Module:
        """The plain model with weights cast once."""
        model = copy.deepcopy(self.plain)
        cast_products(model, torch.bfloat16)
        return model

    @cached_property
    def graphed(self) -> Any:
        """The steps as CUDA graphs."""
        return self.graphs("no")

    def graphs(self, precision: str) -> list[Any]:
        """The steps of the model of this precision as CUDA graphs."""
        model = self.models[precision]
        if self.device == "cuda":
            return dx.inference.graphed(model)
        return [as_step(step) for step in replayed_stages(model, SIZES, run_again)]

    @cached_property
    def plain_graphed(self) -> Callable[[Tensor], Tensor]:
        """The plain model as CUDA graphs of the same sizes."""
        return super().plain_graphed if self.device == "cuda" else graphed_model(self.plain, run_again)

    def record(self, precision: str = "no") -> dx.ExitRecord:
        """All exits of the images."""
        run, flops = self.random, self.random.flops
        meta = RecordMeta(
            "noise", "val", run.class_names, self.model.exits, flops.cumulative, flops.reference,
            model=run.config.model.backbone, image_size=run.config.model.image_size,
        )  # fmt: skip
        batches = [(batch, torch.zeros(len(batch), dtype=torch.int64)) for batch in self.images.split(RECORDED_AT)]
        return dx.record_split(self.models[precision], batches, meta, keep_logits=False)

    def policies(self, record: dx.ExitRecord) -> dict[str, dx.Policy]:
        """Budget → thresholds with the bundled run's exit shares on ``record``; the last one lets no image exit."""
        fitted = {
            budget: dx.fit_policy(record, "confidence", shares=shares)
            for budget, shares in bundled_shares(record.n_exits).items()
        }
        return fitted | {NO_EARLY_EXIT: self.threshold_none}
