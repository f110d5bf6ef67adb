"""Benchmark arms: the plain model, its first half, DMPO on every engine, and earlyon around the same timm ViT.

In: a run, its test images and thresholds. Out: name → arm (see `_common.timing`). Every model has the same width,
depth, image size and exit blocks. Weights do not matter for time, so parts without trained weights have random ones.
"""

from __future__ import annotations

import copy
import shutil
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import dmpo_explore as dx
from _common.timing import Arm
from dmpo_explore.inference.onnx_engine import MODEL, POLICY, open_session
from dmpo_explore.inference.onnx_weights import quantise_export
from dmpo_explore.inference.torch_compile import SIZES, Replayed, record_cuda_graph
from dmpo_explore.inference.torch_export import RANGES
from dmpo_explore.models.predictors import cast_products
from dmpo_explore.utils.files import unseal
from dmpo_explore.utils.lazy import extra_imports
from dmpo_explore.utils.torch_tools import seeded

CHECKED = 32  # images on which an export as one graph is compared with its stages
NEVER = dx.policies.ConfidencePolicy((dx.policies.ConfidencePolicy.threshold_none,))  # no image exits early


def use_budget(record: dx.ExitRecord, budget: float) -> dx.Policy:
    """The confidence threshold with the largest compute within the budget on this record.

    Not the most accurate one: the benchmark needs every depth.
    """
    curve = dx.trade_off(record, "confidence", points=None)
    return dx.policies.ConfidencePolicy((float(curve[curve["flops_fraction"] <= budget]["threshold"].iloc[-1]),))


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


def graphed_model(model: Callable[[Tensor], Tensor], record: Any) -> Callable[[Tensor], Tensor]:
    """A model as graphs of fixed batch sizes, as `Replayed` records a stage."""
    step = Replayed(lambda x, side: (x, model(x), side), SIZES, record, last=True)
    return lambda images: step(images, None)[1]


class Bench:
    """The models of the benchmark, each built at first use, and the arms made from them.

    Args:
        run: a run on a ViT without prefix-tuning extras, e.g. ``fashion``. images: (B,3,S,S) of its test split.
        device: where torch runs. folder: for the export. threads: of onnxruntime.
        n_images: batch size → number of images. sizes: batch sizes at which early exit is measured.
    """

    def __init__(
        self,
        run: dx.Run,
        images: Tensor,
        device: str,
        folder: Path,
        threads: int,
        n_images: Mapping[int, int],
        sizes: Sequence[int],
    ) -> None:
        self.run, self.device, self.folder, self.threads = run, device, folder, threads
        self.n_images, self.sizes = n_images, sizes
        self.images = images.to(device)

    @cached_property
    def model(self) -> dx.DMPO:
        """DMPO, tuning merged."""
        return self.run.model(self.device, merge=True)

    @cached_property
    def model_bf16(self) -> dx.DMPO:
        """The same, its weights cast once."""
        return self.run.model(self.device, merge=True, precision="bf16")

    @cached_property
    def compiled(self) -> Any:
        """Its steps by torch.compile."""
        return dx.inference.compiled(self.model)

    @cached_property
    def graphed(self) -> Any:
        """Its steps as CUDA graphs."""
        return dx.inference.graphed(self.model)

    @cached_property
    def plain_graphed(self) -> Callable[[Tensor], Tensor]:
        """The plain model as CUDA graphs of the same batch sizes."""
        return graphed_model(self.plain, record_cuda_graph)

    @cached_property
    def onnx(self) -> dx.OnnxEngine:
        """The exported run on onnxruntime."""
        path = dx.inference.export_run(self.run, self.folder / "float32", NEVER, force=True)
        return dx.OnnxEngine(path, threads=self.threads)

    @cached_property
    def onnx_int8(self) -> dx.OnnxEngine:
        """The run exported in int8."""
        path = dx.inference.export_int8(self.run, self.folder / "int8", NEVER, images=0, force=True)
        return dx.OnnxEngine(path, threads=self.threads)

    def single(self, engine: dx.OnnxEngine, name: str, policy: dx.Policy) -> Arm:
        """The export ``name`` as one graph with the policy in it, image by image; answers are the engine's."""
        folder = shutil.copytree(self.folder / name, self.folder / f"{name}-single", dirs_exist_ok=True)
        policy.save(folder / POLICY)
        session = open_session(dx.inference.join_stages(folder), self.threads)
        arrays = [image.cpu().numpy() for image in self.batches(1)]
        for array in arrays[:CHECKED]:
            logits, exit = session.run(None, {"images": array})
            expected = engine.infer(array, policy)
            if (exit.item(), int(logits.argmax())) != (int(expected.exit[0]), int(expected.label[0])):
                raise RuntimeError(f"{name} as one graph has other exits or labels than its stages")
        return per_call(lambda array: session.run(None, {"images": array}), arrays)

    @cached_property
    def plain_onnx(self) -> dx.OnnxEngine:
        """The plain model exported by the same exporter: one stage with a linear classifier."""
        return dx.OnnxEngine(self._plain_export, threads=self.threads)

    @cached_property
    def plain_onnx_int8(self) -> dx.OnnxEngine:
        """The same in int8."""
        path = self.folder / "plain-int8"
        shutil.copytree(self._plain_export, path, dirs_exist_ok=True)
        unseal(path, MODEL)
        quantise_export(path, self.images[:RANGES].cpu().numpy())
        return dx.OnnxEngine(path, threads=self.threads)

    @cached_property
    def _plain_export(self) -> Path:
        return export_plain(self.run, self.folder / "plain", NEVER)

    @cached_property
    def plain_compiled(self) -> Any:
        """The plain model by torch.compile, its weights frozen into the code as those of `compiled`."""
        return torch.compile(self.plain, fullgraph=True, options={"freezing": True})

    @cached_property
    def plain(self) -> nn.Module:
        """timm's model with its own classifier, LayerScale folded as in DMPO."""
        return _timm(self.run, None).to(self.device)

    @cached_property
    def plain_bf16(self) -> nn.Module:
        """The same, its weights cast once."""
        model = copy.deepcopy(self.plain)
        cast_products(model, torch.bfloat16)
        return model

    @cached_property
    def half(self) -> nn.Module:
        """The same, cut at half depth: a static alternative to early exit."""
        return _timm(self.run, len(self.plain.blocks) // 2).to(self.device)  # type: ignore[arg-type]

    @cached_property
    def earlyon(self) -> Any:
        """earlyon's wrapper around timm's model, its exits after the same blocks but the last."""
        with extra_imports("the comparison with earlyon", "bench"):
            from earlyon.models import custom_ee

        side = self.images.shape[-1]
        layers = [f"blocks.{block - 1}" for block in self.run.config.model.exits[:-1]]  # type: ignore[index]
        classes = len(self.run.class_names)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            wrapper = custom_ee(_timm(self.run, None), layers, classes, input_shape=(1, 3, side, side)).eval()
            _ = wrapper.flops_estimate  # made at the first call otherwise
        return wrapper.to(self.device)

    def match_exit_shares(self, exits: Any) -> None:
        """Set earlyon's thresholds so that its exit shares on the images equal those of ``exits``.

        Its predictors are random, so the images at an exit differ.
        """
        with torch.inference_mode():
            answers = [self.earlyon(x, mode="training") for x in self.images.split(32)]
        logits = [torch.cat([one[k] for one in answers]) for k in range(len(self.earlyon.config.exit_points))]
        remaining, thresholds = np.arange(len(exits)), []
        for k, z in enumerate(logits):
            confidence = z.softmax(-1).amax(-1).cpu().numpy()[remaining]
            n_exiting, order = int((exits == k).sum()), np.argsort(-confidence)
            ranked = np.concatenate([[1.0], confidence[order], [0.0]]).astype(np.float64)
            thresholds.append(float(ranked[n_exiting] + ranked[n_exiting + 1]) / 2)
            remaining = remaining[order[n_exiting:]]
        self.earlyon.config.confidence_thresholds[:] = thresholds

    # -- arms --

    def batches(self, size: int) -> list[Tensor]:
        """The images in batches of ``size``."""
        return list(self.images.split(size))

    def forward(self, model: Callable[[Tensor], Tensor], size: int, precision: str = "no") -> Arm:
        """Every batch through a model that never stops early."""

        @torch.inference_mode()
        def call(batch: Tensor) -> None:
            with torch.autocast(self.device, torch.bfloat16, enabled=precision == "bf16"):
                model(batch).argmax(-1).cpu()

        return per_call(call, self.batches(size))

    def ours(self, policy: dx.Policy, size: int, model: dx.DMPO | None = None, **options: Any) -> Arm:
        """`dx.infer`, batch by batch."""
        return per_call(lambda batch: dx.infer(model or self.model, batch, policy, **options), self.batches(size))

    def ours_stream(self, policy: dx.Policy, size: int, **options: Any) -> Arm:
        """`dx.stream` with refill (continuous batching), all images."""
        return in_one(lambda: dx.stream(self.model, self.batches(size), policy, refill=True, **options))

    def by_onnx(self, engine: dx.OnnxEngine, policy: dx.Policy, size: int) -> Arm:
        """`dx.OnnxEngine.infer`, batch by batch."""
        arrays = [batch.cpu().numpy() for batch in self.batches(size)]
        return per_call(lambda batch: engine.infer(batch, policy), arrays)

    def ours_onnx_stream(self, policy: dx.Policy, size: int) -> Arm:
        """`dx.OnnxEngine.stream` with refill, all images."""
        arrays = [batch.cpu().numpy() for batch in self.batches(size)]
        return in_one(lambda: self.onnx.stream(arrays, policy, refill=True))

    def earlyon_loop(self, exits: Any) -> Arm:
        """earlyon, image by image, with the exit shares of ``exits``."""
        return self._earlyon(exits, per_call(lambda image: self.earlyon(image, mode="inference"), self.batches(1)))

    def earlyon_batched(self, exits: Any, size: int) -> Arm:
        """earlyon's batches: all images exit with the hardest one."""
        return self._earlyon(exits, per_call(self.earlyon.forward_inference_batched, self.batches(size)))

    def _earlyon(self, exits: Any, run: Arm) -> Arm:
        self.match_exit_shares(exits)
        kept = list(self.earlyon.config.confidence_thresholds)

        def arm() -> list[float]:
            self.earlyon.config.confidence_thresholds[:] = kept  # arms share one wrapper
            return run()

        return arm


def plain_config(config: dx.ModelConfig, exits: int | tuple[int, ...] = 1) -> dx.ModelConfig:
    """The plain backbone with a linear classifier, its weights random; cut at a block with ``exits=(block,)``."""
    changes: dict[str, Any] = {"weights": "random", "exits": exits, "tuning": "none", "last_bypass": "none"}
    return replace(config, **changes, last_predictor="linear")


def export_plain(run: dx.Run, folder: Path, policy: dx.Policy, exits: int | tuple[int, ...] = 1) -> Path:
    """The model of `plain_config` exported as one stage."""
    with seeded(0):
        model = dx.build_model(plain_config(run.config.model, exits), len(run.class_names)).eval()
    dx.models.merge(model)
    return dx.inference.export_model(model, folder, policy, run.class_names, force=True)


def _timm(run: dx.Run, blocks: int | None) -> Any:
    import timm

    config = run.config.model
    with seeded(0):
        model: Any = timm.create_model(config.backbone, img_size=config.image_size, num_classes=len(run.class_names))
    if blocks:
        model.blocks = model.blocks[:blocks]
    dx.models.merge(model)
    return model.eval()
