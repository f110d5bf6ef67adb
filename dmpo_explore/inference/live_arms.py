"""Arms of a live run on this machine: early-exit model and full model; importing this file imports no torch."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..policies.base import Policy
from ..policies.catalogue import POLICIES
from ..runs.weights_file import WEIGHTS
from ..utils.files import cache_dir, remove, sha256
from ..utils.registry import lookup
from ..utils.typing import Ints
from .energy import energy_counter
from .exit_loop import InferenceResult, Step
from .live_run import Arms

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ..models.dmpo import DMPO
    from ..runs.run import Run


ENGINES = {"infer": 1, "stream": 4, "onnx": 1}  # name → batches in a call
ONNX_PRECISIONS = ("no", "int8")  # no: float32


def open_arms(
    run: Run, split: str, model: DMPO, batch_size: int, engine: str = "infer", *, precision: str = "no"
) -> Arms:
    """Early-exit arm and full-model arm of ``model``, fastest with its tuning merged.

    Args:
        engine: ``infer`` classifies a batch, ``stream`` four with refill (`torch_engine.stream`), so that deep stages
            run on fuller batches. The full model classifies the same images, batch by batch. ``onnx`` classifies a
            batch with onnxruntime on the CPU (`OnnxEngine`); its full model runs the predictors of all exits too.
        precision: of both arms: ``no`` (float32), ``bf16`` or ``fp16`` autocast, fastest for a model that was loaded
            with it; of ``onnx`` ``no`` or ``int8``.

    The arms raise MemoryError where a batch does not fit into a GPU's memory; it names a batch size that does.

    Raises:
        ValueError: unknown engine or precision, another than the model's weights were cast to, a batch size below 1,
            or what `Run.image_set` raises; FileNotFoundError as there. With ``onnx`` as `export_run`, with ``int8`` as
            `export_int8`.

    Example:
        >>> import dmpo_explore as dx
        >>> run = dx.load_run("demo")
        >>> arms = open_arms(run, "test", run.model(merge=True), batch_size=64)  # doctest: +SKIP
    """
    import torch

    from ..data.torch_loaders import make_transform
    from .torch_engine import PRECISIONS, precision_of

    batches = lookup(ENGINES, engine, "engine")
    if engine == "onnx" and precision not in ONNX_PRECISIONS:
        raise ValueError(f"precision={precision!r}: the engine 'onnx' runs in float32 ('no') or 'int8'")
    if engine != "onnx":
        lookup(PRECISIONS, precision_of(model, precision), "precision")
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size} must be at least 1")
    image_set, transform = run.image_set(split), make_transform(model.preprocess)

    def inputs(rows: Ints) -> Tensor:
        return torch.stack([transform(image_set[row]) for row in rows.tolist()])

    if engine == "onnx":
        return _onnx_arms(run, inputs, batch_size, precision)
    return _torch_arms(model, inputs, batch_size, batches, precision)


def _torch_arms(model: DMPO, inputs: Callable[[Ints], Tensor], batch_size: int, batches: int, precision: str) -> Arms:
    import torch

    from .torch_engine import autocast, infer, plain_steps, stream

    device, ends = model.device, list[float]()
    wait = None if device.type == "cpu" else partial(torch.accelerator.synchronize, device)
    steps = timed_steps(plain_steps(model), ends, wait) if batches == 1 else plain_steps(model)

    def on_device(rows: Ints) -> Tensor:
        images = inputs(rows)
        with suppress(torch.OutOfMemoryError):  # then the arms find what fits
            images = images.to(device)
        if wait:  # the copy is no part of a call
            wait()
        return images

    def early(images: Tensor, policy: Policy) -> InferenceResult:
        ends.clear()
        if batches == 1:
            return infer(model, images, policy, precision=precision, steps=steps)
        parts = torch.split(images, batch_size)
        return stream(model, parts, policy, refill=True, precision=precision, steps=steps)

    def full(images: Tensor) -> Ints:
        with autocast(device, precision):
            return np.concatenate([to_the_end(model, batch) for batch in torch.split(images, batch_size)])

    def whole(arm: Callable[[Tensor], Any], images: Tensor) -> Any:
        return in_memory(arm, images, batch_size, device)

    return Arms(
        on_device,
        lambda images, policy: whole(partial(early, policy=policy), images),
        partial(whole, full),
        batches * batch_size,
        ends,
        energy_counter(str(device)),
    )


def in_memory(arm: Callable[[Tensor], Any], images: Tensor, batch_size: int, device: torch.device) -> Any:
    """``arm(images)``; where the device's memory is too small for it, MemoryError with a batch size that fits.

    Example:
        >>> import torch
        >>> def arm(images):
        ...     if len(images) > 20:
        ...         raise torch.OutOfMemoryError("CUDA out of memory")
        ...     return len(images)
        >>> in_memory(arm, torch.zeros(16, 1), 16, torch.device("cpu"))
        16
        >>> in_memory(arm, torch.zeros(64, 1), 64, torch.device("cpu"))
        Traceback (most recent call last):
        MemoryError: batches of 64 images do not fit into the memory of cpu; batches of 16 do
    """
    import torch

    def tried(n: int) -> Any:
        with suppress(torch.OutOfMemoryError):  # which holds the frames that hold the tensors
            return arm(images[:n])
        if device.type == "cuda":
            torch.cuda.empty_cache()
        return None

    if (result := tried(len(images))) is not None:
        return result
    fits = batch_size // 2
    while fits and tried(fits) is None:
        fits //= 2
    if device.type == "cuda":
        torch.cuda.empty_cache()
    advice = f"batches of {fits} do" if fits else "one image does not, either: choose the CPU, or end what else uses it"
    raise MemoryError(f"batches of {batch_size} images do not fit into the memory of {device}; {advice}")


def _onnx_arms(run: Run, inputs: Callable[[Ints], Tensor], batch_size: int, precision: str) -> Arms:
    from .onnx_engine import OnnxEngine

    engine = OnnxEngine(exported(run, precision))

    def early(images: Tensor, policy: Policy) -> InferenceResult:
        return engine.infer(images.numpy(), policy)

    def full(images: Tensor) -> Ints:
        return np.asarray(engine.all_logits(images.numpy())[:, -1].argmax(-1))

    return Arms(inputs, early, full, batch_size, joules=energy_counter("cpu"))


def exported(run: Run, precision: str = "no") -> Path:
    """The folder in the cache with the run's export, made now unless a whole one of this version is there.

    Raises as `export_run`, with ``int8`` as `export_int8`.

    Example:
        >>> import dmpo_explore as dx
        >>> exported(dx.load_run("demo")).name  # doctest: +SKIP
        'demo-4f2c…'
    """
    from .torch_export import export_run, is_exported
    from .torch_export_int8 import export_int8

    kind = "-int8" if precision == "int8" else ""
    folder = cache_dir() / "exports" / f"{run.name}-{sha256(run.path / WEIGHTS)[:16]}{kind}"
    policy = POLICIES["confidence"]((POLICIES["confidence"].threshold_none,))  # live runs bring their own
    if not is_exported(run, folder, policy, precision="int8" if kind else "float32"):
        remove(folder)  # damaged, or of another version
        folder.parent.mkdir(parents=True, exist_ok=True)
        if kind:
            export_int8(run, folder, policy, images=0)
        else:
            export_run(run, folder, policy)
    return folder


def timed_steps(steps: Sequence[Step], ends: list[float], wait: Callable[[], object] | None = None) -> list[Step]:
    """``steps`` that also append the time at which each of them ended to ``ends``.

    Args:
        wait: called before the clock is read, for a device that works on its own.

    Example:
        >>> ends = []
        >>> step, = timed_steps([lambda x, side: (x, 2 * x, side)], ends)
        >>> step(3, None), len(ends)
        ((3, 6, None), 1)
    """

    def timed(step: Step) -> Step:
        def run(x: Any, side: Any) -> tuple[Any, Any, Any]:
            result = step(x, side)
            if wait is not None:
                wait()
            ends.append(time.perf_counter())
            return result

        return run

    return [timed(step) for step in steps]


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
