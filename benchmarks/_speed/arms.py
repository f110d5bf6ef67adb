"""Who runs against whom: the plain model, half of it, ours in every way, and earlyon around the same timm ViT.

In: a run, its test images and thresholds. Out: name → arm (see `_timing`). Every model has the same width, depth, image
size and exit blocks; weights do not matter for time, so what has no trained counterpart has random ones.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import dmpo_explore as dx
from _common.timing import Arm
from dmpo_explore.inference.torch_engine import infer, stream
from dmpo_explore.models.merging import merge
from dmpo_explore.policies.base import Policy
from dmpo_explore.policies.rules import ConfidencePolicy
from dmpo_explore.utils.torch_seeding import seeded


def spend(record: dx.ExitRecord, budget: float) -> Policy:
    """One threshold that spends as much of the budget on this record as there is to spend (not the best one: the
    benchmark wants every depth, whatever it is worth)."""
    curve = dx.trade_off(record, "confidence", points=None)
    return ConfidencePolicy((float(curve[curve["flops_fraction"] <= budget]["threshold"].iloc[-1]),))


def per_call(function: Callable[[Any], Any], batches: Sequence[Any]) -> Arm:
    """An arm that calls ``function`` on one batch after another."""

    def arm() -> list[float]:
        calls = []
        for batch in batches:
            start = time.perf_counter()
            function(batch)
            calls.append(time.perf_counter() - start)
        return calls

    return arm


def in_one(function: Callable[[], Any]) -> Arm:
    """An arm of a single call."""
    return per_call(lambda _: function(), [None])


class Bench:
    """The models, each made when it is first asked for.

    Args:
        run: a run on a ViT without prefix-tuning extras, e.g. ``demo``. images: (B,3,S,S) of its test split.
        device: where torch runs. folder: for the export.
    """

    def __init__(self, run: dx.Run, images: Tensor, device: str, folder: Path, threads: int) -> None:
        self.run, self.device, self.folder, self.threads = run, device, folder, threads
        self.images = images.to(device)
        self.threshold_none = ConfidencePolicy((ConfidencePolicy.threshold_none,))

    @cached_property
    def model(self) -> dx.DMPO:
        """Ours, merged."""
        return self.run.model(self.device, merge=True)

    @cached_property
    def compiled(self) -> Any:
        from dmpo_explore.inference.torch_compile import compiled

        return compiled(self.model)

    @cached_property
    def graphed(self) -> Any:
        from dmpo_explore.inference.torch_compile import graphed

        return graphed(self.model)

    @cached_property
    def onnx(self) -> dx.OnnxEngine:
        from dmpo_explore.inference.torch_export import export_run

        return dx.OnnxEngine(export_run(self.run, self.folder, self.threshold_none, force=True), threads=self.threads)

    @cached_property
    def plain(self) -> nn.Module:
        """timm's model with its own classifier, LayerScale folded as in ours."""
        return _timm(self.run, None).to(self.device)

    @cached_property
    def half(self) -> nn.Module:
        """The same, cut at half depth: what one would ship instead of an early exit."""
        return _timm(self.run, len(self.plain.blocks) // 2).to(self.device)  # type: ignore[arg-type]

    @cached_property
    def earlyon(self) -> Any:
        """earlyon's wrapper around timm's model, its heads behind the same blocks but the last."""
        from earlyon.models import custom_ee

        side = self.images.shape[-1]
        layers = [f"blocks.{block - 1}" for block in self.run.config.model.exits[:-1]]  # type: ignore[index]
        classes = len(self.run.class_names)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            wrapper = custom_ee(_timm(self.run, None), layers, classes, input_shape=(1, 3, side, side)).eval()
            _ = wrapper.flops_estimate  # made at the first call otherwise
        return wrapper.to(self.device)

    def earlyon_shares(self, exits: Any) -> None:
        """Thresholds with which these images leave earlyon's wrapper in the shares of ``exits`` (its heads are
        random, so only the shares are alike)."""
        with torch.inference_mode():
            logits = [torch.cat([self.earlyon(x, mode="training")[k] for x in self.images.split(1)])
                      for k in range(len(self.earlyon.config.exit_points))]  # fmt: skip
        staying, thresholds = np.arange(len(exits)), []
        for k, z in enumerate(logits):
            confidence = z.softmax(-1).amax(-1).cpu().numpy()[staying]
            leave, order = int((exits == k).sum()), np.argsort(-confidence)
            ranked = np.concatenate([[1.0], confidence[order], [0.0]]).astype(np.float64)
            thresholds.append(float(ranked[leave] + ranked[leave + 1]) / 2)
            staying = staying[order[leave:]]
        self.earlyon.config.confidence_thresholds[:] = thresholds

    # -- arms --

    def batches(self, size: int) -> list[Tensor]:
        return list(self.images.split(size))

    @cached_property
    def trunks(self) -> Callable[[Tensor], Tensor]:
        """Ours without any exit: embedding and trunks alone."""

        def run(images: Tensor) -> Tensor:
            *_, last = self.model.walk(images)
            return last.state

        return run

    def forward(
        self, model: Callable[[Tensor], Tensor], size: int, precision: str = "no", images: Tensor | None = None
    ) -> Arm:
        """Every batch (of ``images``, by default the bench's) through a model that never stops early."""

        @torch.inference_mode()
        def call(batch: Tensor) -> None:
            with torch.autocast(self.device, torch.bfloat16, enabled=precision == "bf16"):
                model(batch).argmax(-1).cpu()

        return per_call(call, self.batches(size) if images is None else list(images.split(size)))

    def ours(self, policy: Policy, size: int, images: Tensor | None = None, **options: Any) -> Arm:
        """`dx.infer`, batch by batch."""
        batches = self.batches(size) if images is None else list(images.split(size))
        return per_call(lambda batch: infer(self.model, batch, policy, **options), batches)

    def ours_stream(self, policy: Policy, size: int, **options: Any) -> Arm:
        """`dx.stream` with refill, all images."""
        return in_one(lambda: stream(self.model, self.batches(size), policy, refill=True, **options))

    def ours_onnx(self, policy: Policy, size: int) -> Arm:
        arrays = [batch.cpu().numpy() for batch in self.batches(size)]
        return per_call(lambda batch: self.onnx.infer(batch, policy), arrays)

    def ours_onnx_stream(self, policy: Policy, size: int) -> Arm:
        arrays = [batch.cpu().numpy() for batch in self.batches(size)]
        return in_one(lambda: self.onnx.stream(arrays, policy, refill=True))

    def earlyon_loop(self, exits: Any) -> Arm:
        """earlyon, image by image, leaving in the shares of ``exits``."""
        return self._earlyon(exits, per_call(lambda image: self.earlyon(image, mode="inference"), self.batches(1)))

    def earlyon_batched(self, exits: Any, size: int) -> Arm:
        """earlyon's batches: all leave with the hardest image."""
        return self._earlyon(exits, per_call(self.earlyon.forward_inference_batched, self.batches(size)))

    def _earlyon(self, exits: Any, run: Arm) -> Arm:
        self.earlyon_shares(exits)
        kept = list(self.earlyon.config.confidence_thresholds)

        def arm() -> list[float]:
            self.earlyon.config.confidence_thresholds[:] = kept  # arms share one wrapper
            return run()

        return arm


def _timm(run: dx.Run, blocks: int | None) -> Any:
    import timm

    config = run.config.model
    with seeded(0):
        model: Any = timm.create_model(config.backbone, img_size=config.image_size, num_classes=len(run.class_names))
    if blocks:
        model.blocks = model.blocks[:blocks]
    merge(model)
    return model.eval()
