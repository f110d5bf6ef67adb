"""Faster steps of the early-exit loop: stages by torch.compile, or replayed as CUDA graphs; the outputs are the same.

In: a model, best with its tuning merged. Out: K steps for `infer` and `stream` (``steps=``), made once and used often.
``benchmarks/speed.py`` measures them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from types import FunctionType
from typing import Any

import torch
from torch import Tensor

from ..models.dmpo import DMPO
from .exit_loop import Step
from .torch_engine import as_step, stage_function

SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)  # of batches with a CUDA graph of their own
Outputs = tuple[Tensor, Tensor, Tensor | None]


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
    one needs: run them in one thread at a time.

    Raises:
        ValueError: the model is on another device than an NVIDIA GPU, or sizes that do not rise from 1 on.

    Example:
        >>> import dmpo_explore as dx
        >>> graphed(dx.build_model(dx.ModelConfig("test_vit", "random", 32, exits=2), n_classes=3))
        Traceback (most recent call last):
        ValueError: CUDA graphs need the model on an NVIDIA GPU; it is on cpu
    """
    if model.device.type != "cuda":
        raise ValueError(f"CUDA graphs need the model on an NVIDIA GPU; it is on {model.device}")
    record = partial(record_cuda_graph, pool=torch.cuda.graph_pool_handle())
    last = model.n_exits - 1
    return [as_step(Replayed(stage_function(model, k), sizes, record, last=k == last)) for k in range(model.n_exits)]


class Replayed:
    """A step on buffers of a few fixed batch sizes, so that it can be recorded once and replayed.

    Args:
        function: the step. sizes: rising, from 1 on.
        record: takes a function without arguments that runs the step from buffers into buffers, runs it at least once,
            and returns what repeats it.
        last: of the steps, so that only its logits are copied out of the buffers; state and side hold until the next
            call.

    Raises:
        ValueError: sizes that do not rise from 1 on.
    """

    def __init__(
        self, function: Step, sizes: Sequence[int], record: Callable[[Callable[[], None]], Callable[[], None]],
        *, last: bool = False,
    ) -> None:  # fmt: skip
        if not sizes or min(sizes) < 1 or list(sizes) != sorted(set(sizes)):
            raise ValueError(f"sizes={tuple(sizes)} must be rising batch sizes from 1 on")
        self.function, self.sizes, self.record, self.last = function, tuple(sizes), record, last
        self._made: dict[tuple[Any, ...], _Buffers] = {}

    def __call__(self, x: Tensor, side: Tensor | None) -> Outputs:
        """Raises as the step does."""
        size = next((size for size in self.sizes if size >= len(x)), None)
        if size is None:
            return self.function(x, side)
        kind = x.device.type  # what was recorded holds for this type and this autocast only
        key = (size, x.dtype, torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind))
        if key not in self._made:
            self._made[key] = _Buffers(self.function, size, x, side, self.record)
        y, logits, side = self._made[key](x, side)
        if self.last:
            return y, logits.clone(), side
        return y.clone(), logits.clone(), None if side is None else side.clone()


class _Buffers:
    """One batch size: inputs are copied in, outputs are views; padding rows hold earlier images."""

    def __init__(
        self, function: Step, size: int, x: Tensor, side: Tensor | None,
        record: Callable[[Callable[[], None]], Callable[[], None]],
    ) -> None:  # fmt: skip
        self.x = x.new_zeros(size, *x.shape[1:])
        self.side = None if side is None else side.new_zeros(size, *side.shape[1:])
        self.out: Outputs

        def run() -> None:
            self.out = function(self.x, self.side)

        self._fill(x, side)
        self.replay = record(run)

    def __call__(self, x: Tensor, side: Tensor | None) -> Outputs:
        self._fill(x, side)
        self.replay()
        y, logits, side = self.out
        n = len(x)
        return y[:n], logits[:n], None if side is None else side[:n]

    def _fill(self, x: Tensor, side: Tensor | None) -> None:
        self.x[: len(x)].copy_(x)
        if self.side is not None and side is not None:
            self.side[: len(x)].copy_(side)


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
