"""Faster stages say the same: replay from buffers of fixed sizes (tried on the CPU too), compilation, CUDA graphs."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from answers import same_answers
from small_model import made, merged, pictures
from synthetic import between
from torch import Tensor

from dmpo_explore.inference import torch_compile
from dmpo_explore.inference.torch_compile import (
    SIZES,
    Replayed,
    compiled,
    graph_buffer_bytes,
    graphed,
    replayed_stages,
    run_again,
)  # fmt: skip
from dmpo_explore.inference.torch_engine import as_step, infer, stream
from dmpo_explore.models.tuning import merge
from dmpo_explore.policies.rules import ConfidencePolicy


def threshold(model: Any, images: Tensor) -> ConfidencePolicy:
    """Between two confidences, so that rounding decides nothing."""
    with torch.no_grad():
        return ConfidencePolicy((between(model(images)[:, :-1].softmax(-1).amax(-1).cpu(), 0.6),))


def replayed(model: Any, sizes: tuple[int, ...], runs: list[int]) -> list[Any]:
    """Recorded as on a GPU, but for what a replay does: it runs the step on the buffers again."""

    def record(run: Callable[[], None]) -> Callable[[], None]:
        return run_again(lambda: (runs.append(1), run())[0])

    return [as_step(step) for step in replayed_stages(model, sizes, record)]


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{"bypass": "conv"}, {"bypass": "ladder"}, {"earlier_exits": True}])
def test_replays_say_what_the_stages_say(changes: dict[str, Any]) -> None:
    model, images, runs = made(**changes), pictures(40), list[int]()
    policy = threshold(model, images)
    expected = infer(model, images, policy)
    assert len(set(expected.exit.tolist())) > 1
    steps = replayed(model, (1, 4, 16), runs)
    for size in (1, 3, 7, 16, 40):  # padded, exact and larger than any
        out = [infer(model, batch, policy, steps=steps) for batch in images.split(size)]
        np.testing.assert_array_equal(np.concatenate([o.exit for o in out]), expected.exit)
        np.testing.assert_array_equal(np.concatenate([o.label for o in out]), expected.label)
    assert len(runs) > 3 * model.n_exits  # more than those that record
    for refill in (False, True):  # what waits must not be overwritten by the next replay
        out = stream(model, images.split(5), policy, steps=steps, refill=refill)
        same_answers(out, expected)


def counting(recorded: list[int]) -> Callable[[Callable[[], None]], Callable[[], None]]:
    def record(run: Callable[[], None]) -> Callable[[], None]:
        recorded.append(1)
        run()
        return run

    return record


def test_every_size_is_recorded_once() -> None:
    recorded: list[int] = []
    step = Replayed(lambda x, side: (x + 1, x.sum(1), side), (2, 8), counting(recorded))
    for n in (1, 2, 3, 8, 1, 9):
        x = torch.randn(n, 3)
        y, logits, side = step(x, None)
        assert side is None and y.shape == x.shape
        torch.testing.assert_close(y, x + 1)
        torch.testing.assert_close(logits, x.sum(1))
    assert len(recorded) == 2


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        *(
            (lambda sizes=sizes: Replayed(lambda x, side: (x, x, side), sizes, run_again), "must be rising batch sizes")
            for sizes in ((), (0, 1), (4, 2), (2, 2))
        ),
        (lambda: graphed(made()), "need the model on an NVIDIA GPU; it is on cpu"),
    ],
)
def test_wrong_sizes_and_other_devices_are_refused(ask: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ask()
    assert list(SIZES) == sorted(set(SIZES))


def test_graphs_share_a_pool_and_bear_a_pinning_loader(monkeypatch: pytest.MonkeyPatch) -> None:
    """With stand-ins for CUDA: how graphs are captured, and when."""
    captured: list[dict[str, Any]] = []

    def graph(graph: Any, **options: Any) -> Any:
        captured.append(options)
        return nullcontext()

    stream = SimpleNamespace(wait_stream=lambda other: None)
    stand_ins: dict[str, Any] = {
        "Stream": lambda: stream, "current_stream": lambda: stream, "stream": lambda stream: nullcontext(),
        "CUDAGraph": lambda: SimpleNamespace(replay=lambda: None), "graph": graph, "graph_pool_handle": object,
    }  # fmt: skip
    for name, stand_in in stand_ins.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    monkeypatch.setattr(torch_compile, "graph_buffer_bytes", lambda model, size: 0)
    monkeypatch.setattr(torch_compile, "free_bytes", lambda device: 0)
    model = made(exits=2)
    steps = graphed(SimpleNamespace(device=torch.device("cuda"), n_exits=2, step=model.step))  # type: ignore[arg-type]
    assert captured == []  # sizes that never come cost nothing
    x = pictures(4)
    with torch.inference_mode():
        for step in steps:
            x, *_ = step(x, None)
    assert len(captured) == 2 and {one["capture_error_mode"] for one in captured} == {"thread_local"}
    assert captured[0]["pool"] is captured[1]["pool"] is not None


def test_the_last_state_is_not_copied() -> None:
    step = Replayed(lambda x, side: (x + 1, x.sum(1), side), (2,), run_again, last=True)
    x = torch.ones(2, 3)
    (y, logits, _), (_, more, _) = step(x, None), step(torch.zeros(2, 3), None)
    assert y is x  # nothing reads it
    assert logits.tolist() == [3, 3] and more.tolist() == [0, 0]  # what an exit reads is always its own
    assert step.buffers.nbytes == 4 * (2 * 3 + 2)


@pytest.mark.slow
def test_buffers_are_as_large_as_stated_however_many_stages_and_sizes() -> None:
    images, policy = pictures(40), ConfidencePolicy((1.01,))
    for exits in (2, 6):
        model = made(exits=exits, bypass="none")
        gc.collect()
        before = {id(x) for x in gc.get_objects() if isinstance(x, Tensor)}
        steps = replayed_stages(model, (1, 4, 16), run_again)
        for size in (1, 4, 16, 40):
            out = infer(model, images[:size], policy, steps=[as_step(step) for step in steps])
            assert out.label.shape == (size,)
        gc.collect()
        new = [x.untyped_storage() for x in gc.get_objects() if isinstance(x, Tensor) and id(x) not in before]
        state, kept = 5 * 64, sum({storage.data_ptr(): storage.nbytes() for storage in new}.values())
        assert kept == 16 * 4 * (3 * 32 * 32 + 2 * state + 5) == graph_buffer_bytes(model, 16)


def test_without_room_for_the_buffers_there_are_no_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    model, images = made(exits=2), pictures(4)
    expected = infer(model, images, threshold(model, images))
    room = graph_buffer_bytes(model, 16)
    given: Any = SimpleNamespace(device=torch.device("cuda"), n_exits=2, step=model.step)
    monkeypatch.setattr(torch_compile, "graph_buffer_bytes", lambda model, size: room)
    monkeypatch.setattr(torch_compile, "free_bytes", lambda device: room - 1)
    with pytest.warns(UserWarning, match=r"^CUDA graphs for batches of up to 16 images need .* all stages run plain"):
        steps = graphed(given, (1, 16))
    np.testing.assert_array_equal(infer(model, images, threshold(model, images), steps=steps).exit, expected.exit)


def test_a_graph_that_does_not_fit_is_left_out() -> None:
    def record(run: Callable[[], None]) -> Callable[[], None]:
        run()
        if sizes[-1] > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return run

    sizes: list[int] = []

    def function(x: Tensor, side: Any) -> Any:
        sizes.append(len(x))
        return x + 1, x.sum(1), side

    step = Replayed(function, (2, 4, 8, 16), record)
    with pytest.warns(UserWarning, match="no memory for a CUDA graph of 8 images"):
        assert step(torch.ones(7, 3), None)[1].tolist() == [3] * 7
    assert step(torch.ones(9, 3), None)[1].tolist() == [3] * 9  # and no second warning
    assert step(torch.ones(3, 3), None)[1].tolist() == [3] * 3
    assert sizes == [8, 7, 9, 4, 4]


def test_buffers_of_infer_are_written_outside_it_too() -> None:
    model, images = made(exits=2), pictures(4)
    steps = [as_step(step) for step in replayed_stages(model, (4,), run_again)]
    infer(model, images, threshold(model, images), steps=steps)
    with torch.no_grad():
        _, logits, _ = steps[0](images, None)
        np.testing.assert_allclose(logits, model(images)[:, 0].numpy(), atol=1e-5)


@pytest.mark.slow
def test_every_stage_stays_compiled_at_every_batch_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted by a back end that runs what it is given; torch compiles one code object eight times at most."""
    calls: list[int] = []

    def counting(graph: Any, inputs: Any, options: Any = None) -> Callable[..., Any]:
        return lambda *given: (calls.append(1), graph(*given))[1]

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=counting))
    torch.compiler.reset()
    model = made(exits=(1, 2, 3, 4, 5, 6))
    merge(model)
    steps, to_the_end = compiled(model), ConfidencePolicy((1.01,))
    for size in (1, 40, 1, 3, 40):
        calls.clear()
        out = infer(model, pictures(40)[:size], to_the_end, steps=steps)
        assert len(calls) == model.n_exits == 6
        np.testing.assert_array_equal(out.label, infer(model, pictures(40)[:size], to_the_end).label)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_compiled_stages_say_the_same() -> None:
    if not any(map(shutil.which, ("g++", "c++", "clang++"))):
        pytest.skip("no C++ compiler")
    model, images = merged(bypass="ladder", exits=(1, 2)), pictures(24)
    policy = threshold(model, images)
    expected = infer(model, images, policy)
    assert len(set(expected.exit.tolist())) > 1
    steps = compiled(model)
    for size in (1, 5, 24):
        out = stream(model, images.split(size), policy, steps=steps, refill=size == 5)
        same_answers(out, expected)


@pytest.mark.cuda
@pytest.mark.parametrize("bypass", ["conv", "ladder"])
def test_cuda_graphs_say_the_same(bypass: str) -> None:
    model, images = made(bypass=bypass).cuda(), pictures(40)
    policy = threshold(model, images.cuda())
    expected = infer(model, images, policy)
    steps = graphed(model, (1, 8, 32))
    for size in (1, 7, 40):
        out = stream(model, images.split(size), policy, steps=steps, refill=size == 7)
        same_answers(out, expected, atol=1e-3)


@pytest.mark.cuda
def test_a_gpu_waits_once_per_exit() -> None:
    model, images = made().cuda(), pictures(40).cuda()
    policy = threshold(model, images)
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with pytest.warns(UserWarning, match="called a synchronizing") as seen:
            infer(model, images, policy)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(seen) <= len(model.stages) + 2  # and the two answers


def test_another_type_or_autocast_is_recorded_anew() -> None:
    recorded, weight = list[int](), torch.eye(3)
    step = Replayed(lambda x, side: (x, x @ weight.to(x.dtype), side), (2,), counting(recorded))
    x = torch.full((2, 3), 1 + 2**-10)  # bf16 cannot hold it
    assert step(x, None)[1].dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        rounded = step(x, None)[1]
    assert rounded.dtype == torch.bfloat16 and (rounded == 1).all()
    torch.testing.assert_close(step(x, None)[1], x)
    assert step(x.double(), None)[1].dtype == torch.float64
    assert len(recorded) == 3
