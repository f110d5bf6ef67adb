"""Faster steps of the early-exit loop: stages by torch.compile, or replayed as CUDA graphs; the outputs are the same.

In: a model, best with its tuning merged. Out: K steps for `infer` and `stream` (``steps=``), made once and used often.
``benchmarks/speed.py`` measures them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from types import FunctionType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..models.dmpo import DMPO
from .exit_loop import Step
from .torch_engine import as_step, autocast, eval_mode, plain_steps, stage_function

SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)  # of batches with a CUDA graph of their own
Outputs = tuple[Tensor, Tensor, Tensor | None]
Recorder = Callable[[Callable[[], None]], Callable[[], None]]  # runs a function, and returns what repeats it


def compiled(model: DMPO) -> list[Step]:
    """Every stage by torch.compile as one graph, weights frozen into the code (so load or train before, not after).

    The first single image and the first larger batches wait for the compiler (several seconds per stage); then any
    batch size goes. On a CPU that needs a C++ compiler. A stage that cannot be one graph raises torch's error in its
    first call: nothing runs uncompiled without a word.

    Example:
        >>> import dmpo_explore as dx
        >>> steps = compiled(model)  # doctest: +SKIP
        >>> dx.infer(model, images, policy, steps=steps)  # doctest: +SKIP
    """
    how: dict[str, Any] = {"fullgraph": True, "options": {"freezing": True}}
    return [_dynamic(torch.compile(_of_its_own(stage_function(model, k), k), **how)) for k in range(model.n_exits)]


def graphed(model: DMPO, sizes: Sequence[int] = SIZES) -> list[Step]:
    """Every stage as CUDA graphs, one per batch size in ``sizes``; those in between are padded, larger ones run plain.

    A graph is recorded when its size first comes. All of them share one pool of memory, which holds what the largest
    one needs, and the buffers of `graph_buffer_bytes`: run them in one thread at a time.

    Raises:
        ValueError: the model is on another device than an NVIDIA GPU, or sizes that do not rise from 1 on.

    Warns:
        UserWarning: the buffers do not fit into free memory, and no stage gets a graph; or a graph does not fit, and
            batches of its size and above run without one.

    Example:
        >>> import dmpo_explore as dx
        >>> graphed(dx.build_model(dx.ModelConfig("test_vit", "random", 32, exits=2), n_classes=3))
        Traceback (most recent call last):
        ValueError: CUDA graphs need the model on an NVIDIA GPU; it is on cpu
    """
    if model.device.type != "cuda":
        raise ValueError(f"CUDA graphs need the model on an NVIDIA GPU; it is on {model.device}")
    most = _rising(sizes)[-1]
    needed, free = graph_buffer_bytes(model, most), free_bytes(model.device)
    if needed > free:
        warnings.warn(
            f"CUDA graphs for batches of up to {most} images need {needed >> 20} MiB of buffers, {free >> 20} MiB are "
            "free: all stages run plain; give smaller sizes",
            stacklevel=2,
        )
        return plain_steps(model)
    pool = torch.cuda.graph_pool_handle()
    return [as_step(step) for step in replayed_stages(model, sizes, partial(record_cuda_graph, pool=pool))]


def replayed_stages(model: DMPO, sizes: Sequence[int], record: Recorder) -> list[Replayed]:
    """The stages of ``model``, with buffers that they share; arguments as `Replayed`."""
    buffers, last = Buffers(_rising(sizes)[-1]), model.n_exits - 1
    return [Replayed(stage_function(model, k), sizes, record, buffers, last=k == last) for k in range(model.n_exits)]


def graph_buffer_bytes(model: DMPO, size: int) -> int:
    """Bytes of the buffers that `graphed` keeps for batches of up to ``size`` images, in the precision of the weights.

    Stages share them where their states have one shape. Each precision of autocast adds its own; what a graph computes
    in comes on top.

    Example:
        >>> import dmpo_explore as dx
        >>> model = dx.build_model(dx.ModelConfig("test_vit", "random", 32, exits=2), n_classes=3).eval()
        >>> images, state, logits = 3 * 32 * 32, 5 * 64, 3
        >>> graph_buffer_bytes(model, 8) == 8 * 4 * (images + state + state + logits)
        True
    """
    steps, side = replayed_stages(model, (1,), run_again), None
    x = torch.zeros(1, 3, *2 * (model.preprocess.image_size,), device=model.device)
    with eval_mode(model), autocast(model.device, model.precision):
        for step in steps:
            x, _, side = step(x, side)
    return size * steps[0].buffers.nbytes


def run_again(run: Callable[[], None]) -> Callable[[], None]:
    """The stand-in for `record_cuda_graph` on any device: a replay runs the step again."""
    run()
    return run


def free_bytes(device: torch.device) -> int:
    """Of an NVIDIA GPU: what its driver has free, and what torch holds without using it."""
    held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0] + held)


class Buffers:
    """What graphs read from and write into: one tensor of ``size`` images for each use, shape and type."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._made: dict[tuple[Any, ...], Tensor] = {}

    def rows(self, n: int, use: str, like: Tensor) -> Tensor:
        """The first ``n`` rows of the buffer for what looks ``like`` this."""
        key = (use, like.shape[1:], like.dtype, like.device)
        if key not in self._made:
            self._made[key] = like.new_zeros(self.size, *like.shape[1:])
        return self._made[key][:n]

    @property
    def nbytes(self) -> int:
        """Of all of them."""
        return sum(tensor.nbytes for tensor in self._made.values())


class Replayed:
    """A step on buffers of a few fixed batch sizes, so that it can be recorded once and replayed.

    Args:
        function: the step. sizes: rising, from 1 on.
        record: takes a function without arguments that runs the step from buffers into buffers, runs it at least once,
            and returns what repeats it.
        buffers: for the largest size; several steps share them if they run in one thread.
        last: of the steps: its state and side are read by nothing, so that its own inputs are given back.

    Raises:
        ValueError: sizes that do not rise from 1 on.
    """

    def __init__(
        self, function: Step, sizes: Sequence[int], record: Recorder, buffers: Buffers | None = None, *,
        last: bool = False,
    ) -> None:  # fmt: skip
        self.function, self.sizes, self.record, self.last = function, _rising(sizes), record, last
        self.buffers = buffers or Buffers(sizes[-1])
        self._made: dict[tuple[Any, ...], _Recording] = {}

    @torch.inference_mode()  # buffers that are made inside it cannot be written outside it
    def __call__(self, x: Tensor, side: Tensor | None) -> Outputs:
        """Raises as the step does."""
        size = next((size for size in self.sizes if size >= len(x)), None)
        if size is None:
            return self.function(x, side)
        kind = x.device.type  # what was recorded holds for this type and this autocast only
        key = (size, x.dtype, torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind))
        if key not in self._made:
            with suppress(torch.OutOfMemoryError):  # which holds what did not fit
                self._made[key] = self._recorded(size, x, side)
        if key in self._made:
            return self._replay(self._made[key], x, side)
        warnings.warn(f"no memory for a CUDA graph of {size} images: from there on this stage runs plain", stacklevel=2)
        self.sizes = tuple(smaller for smaller in self.sizes if smaller < size)
        return self.function(x, side)

    def _recorded(self, size: int, x: Tensor, side: Tensor | None) -> _Recording:
        images = self.buffers.rows(size, "images or state", x)
        given = None if side is None else self.buffers.rows(size, "side", side)
        outputs: dict[str, Tensor] = {}

        def run() -> None:
            y, logits, new_side = self.function(images, given)
            found = {"logits": logits} if self.last else {"new state": y, "logits": logits, "new side": new_side}
            for use, value in found.items():
                if value is not None:
                    outputs[use] = self.buffers.rows(size, use, value).copy_(value)

        return _Recording(images, given, outputs, self.record(run))

    def _replay(self, recording: _Recording, x: Tensor, side: Tensor | None) -> Outputs:
        """Padding rows hold earlier images; outputs are copied, as the next replay overwrites them."""
        n = len(x)
        recording.images[:n].copy_(x)
        if recording.side is not None and side is not None:
            recording.side[:n].copy_(side)
        recording.replay()
        copied = {use: value[:n].clone() for use, value in recording.outputs.items()}
        return (copied.get("new state", x), copied["logits"], side if self.last else copied.get("new side"))


class _Recording(NamedTuple):
    """One batch size: rows of buffers that are filled, rows that a replay fills, and the replay."""

    images: Tensor
    side: Tensor | None
    outputs: dict[str, Tensor]
    replay: Callable[[], None]


def _rising(sizes: Sequence[int]) -> tuple[int, ...]:
    if not sizes or min(sizes) < 1 or list(sizes) != sorted(set(sizes)):
        raise ValueError(f"sizes={tuple(sizes)} must be rising batch sizes from 1 on")
    return tuple(sizes)


def record_cuda_graph(run: Callable[[], None], pool: Any = None) -> Callable[[], None]:
    """Warm up on a stream of its own, capture, and return the replay (torch's notes on CUDA graphs).

    Args:
        pool: of memory, shared with other graphs. Each may overwrite what another has computed, so outputs are to be
            copied before the next replay.
    """
    cached = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)  # else the graph would read casts that are freed after it
    try:
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                run()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # a loader that pins batches in its own thread calls CUDA meanwhile; "global" would refuse that
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            run()
    finally:
        torch.set_autocast_cache_enabled(cached)
    return graph.replay


def _of_its_own(function: Step, k: int) -> Step:
    """``function`` with a code object that no other stage has.

    torch.compile counts what it compiles by code object and stops at 8, which six stages reach at their second batch
    size.
    """

    def stage(x: Tensor, side: Tensor | None) -> Outputs:
        return function(x, side)

    code = stage.__code__.replace(co_name=f"stage_{k + 1}")
    return FunctionType(code, stage.__globals__, closure=stage.__closure__)


def _dynamic(function: Step) -> Step:
    """Declare a varying number of images to the compiler; a single image gets code of its own."""

    def step(x: Tensor, side: Tensor | None) -> Outputs:
        for tensor in (x, side):
            if tensor is not None and len(tensor) > 1:
                torch._dynamo.maybe_mark_dynamic(tensor, 0)
        return function(x, side)

    return as_step(step)
