"""Executed exits equal simulated ones, image by image; stages really stop; the model is left as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from devices import DeviceReads
from spread_model import B, K, loader, made, pictures, policies, recorded, rows_seen
from synthetic import DEPLOYABLE

from dmpo_explore.fitting.temperature import tempered_record
from dmpo_explore.inference.torch_engine import autocast, infer, plain_steps
from dmpo_explore.inference.torch_recording import run_exits
from dmpo_explore.policies.catalogue import POLICIES
from dmpo_explore.policies.rules import ConfidencePolicy


@pytest.mark.parametrize("bypass", ["conv", "mlp", "ladder"])
def test_executed_exits_equal_simulated_ones(bypass: str) -> None:
    model = made(bypass)
    record = recorded(model)
    used = set()
    for policy in policies(record):
        expected = policy.exits(record)
        used |= set(expected.tolist())
        assert len(set(expected.tolist())) >= 2 or policy.name in ("patience", "fixed")  # three exits rarely agree
        with rows_seen(model) as seen:
            out = infer(model, pictures(), policy)
        there = np.arange(B), expected
        np.testing.assert_array_equal(out.exit, expected)
        np.testing.assert_array_equal(out.label, record.prediction[there])
        seen_by = tempered_record(record, policy.temperatures) if policy.temperatures else record
        np.testing.assert_allclose(
            out.confidence, seen_by.confidence[there], atol=1e-3 if policy.temperatures else 1e-5
        )
        assert seen == [int((expected >= k).sum()) for k in range(K)]
    assert used == set(range(K))


@pytest.mark.parametrize("bypass", ["conv", "ladder"])
def test_batches_do_not_matter(bypass: str) -> None:
    model = made(bypass)
    record = recorded(model, batch=7)
    policy = next(policies(record))
    expected = policy.exits(record)
    for size in (1, 9):
        out = [infer(model, batch, policy) for batch, _ in loader(size)]
        np.testing.assert_array_equal(np.concatenate([o.exit for o in out]), expected)
        labels_seen = np.concatenate([o.label for o in out])
        np.testing.assert_array_equal(labels_seen, record.prediction[np.arange(B), expected])


@pytest.mark.parametrize("name", DEPLOYABLE)
def test_all_leave_at_once_or_nobody_early(name: str) -> None:
    model, kind = made("ladder"), POLICIES[name]
    record = recorded(model)
    for threshold, exit, rows in ((kind.threshold_all, 0, [B, 0, 0, 0]), (kind.threshold_none, K - 1, [B] * K)):
        with rows_seen(model) as seen:
            out = infer(model, pictures(), kind((threshold,)))
        assert seen == rows
        assert out.exit.tolist() == [exit] * B
        np.testing.assert_array_equal(out.label, record.prediction[:, exit])
        np.testing.assert_allclose(out.confidence, record.confidence[:, exit], atol=1e-5)


def in_torch(step: Any) -> Any:
    """The step with logits in torch, as on a GPU; on a CPU they are numpy's."""

    def run(x: Any, side: Any) -> Any:
        x, logits, side = step(x, side)
        return x, torch.from_numpy(logits), side

    return run


def test_an_exit_reads_the_device_once() -> None:
    """And labels and confidences at the end; counted on a CPU."""
    model = made("ladder")
    record = recorded(model)
    steps = [in_torch(step) for step in plain_steps(model)]
    for policy in policies(record):
        reached = int(policy.exits(record).max()) + 1
        with DeviceReads() as reads:
            infer(model, pictures(), policy, steps=steps)
        assert len(reads.places) == reached + 2, reads.places


@pytest.fixture
def float32_as_it_was() -> Iterator[None]:
    yield
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = True  # torch's default
    if hasattr(torch.backends, "fp32_precision"):
        torch.backends.fp32_precision = torch.backends.cudnn.fp32_precision = "none"


def allow_everywhere() -> None:
    if not hasattr(torch.backends, "fp32_precision"):
        pytest.skip("torch before 2.9 has one switch a library")
    torch.backends.fp32_precision = "tf32"


def allow_some() -> None:
    allow_everywhere()
    torch.backends.cudnn.conv.fp32_precision = "ieee"  # from here on torch refuses to read the older names


def tf32_of_parts() -> list[object]:
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    if hasattr(matmul, "fp32_precision"):
        return [part.fp32_precision for part in (matmul, cudnn.conv, cudnn.rnn)]
    return [matmul.allow_tf32, cudnn.allow_tf32]


@pytest.mark.usefixtures("float32_as_it_was")
@pytest.mark.filterwarnings("ignore:CUDA is not available")  # autocast without a card
@pytest.mark.parametrize("precision", ["no", "bf16"])
@pytest.mark.parametrize(
    "allow", [lambda: None, partial(torch.set_float32_matmul_precision, "high"), allow_everywhere, allow_some],
    ids=["default", "high", "everywhere", "some"],
)  # fmt: skip
def test_float32_is_float32_on_a_gpu(allow: Callable[[], None], precision: str) -> None:
    allow()
    before = tf32_of_parts()
    assert {"tf32", True} & set(before)
    with autocast(torch.device("cuda"), precision):
        assert not {"tf32", True} & set(tf32_of_parts())
    assert tf32_of_parts() == before


def test_older_versions_of_torch_have_one_switch_a_library(monkeypatch: pytest.MonkeyPatch) -> None:
    matmul, cudnn = SimpleNamespace(allow_tf32=False), SimpleNamespace(allow_tf32=True)
    monkeypatch.setattr(torch.backends.cuda, "matmul", matmul)
    monkeypatch.setattr(torch.backends, "cudnn", cudnn)
    with autocast(torch.device("cuda"), "no"):
        assert not matmul.allow_tf32 and not cudnn.allow_tf32
    assert cudnn.allow_tf32 and not matmul.allow_tf32


def test_the_current_gpu_is_the_model_s(monkeypatch: pytest.MonkeyPatch) -> None:
    entered: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "device", lambda device: entered.append(device) or nullcontext())
    for name in ("cuda:1", "cuda", "cpu"):
        with autocast(torch.device(name), "no"):
            pass
    assert entered == [torch.device("cuda:1")]


def test_precision_is_that_of_the_record() -> None:
    model = made()
    record = recorded(model, batch=B, precision="bf16")
    policy = ConfidencePolicy((1.01,))
    out = infer(model, pictures(), policy, precision="bf16")  # everybody to the end: the very same batches
    np.testing.assert_allclose(out.confidence, record.confidence[:, -1], atol=1e-6)
    assert np.abs(out.confidence - infer(model, pictures(), policy).confidence).max() > 1e-5
    with pytest.raises(ValueError, match="unknown precision 'fp8'"):
        infer(model, pictures(), policy, precision="fp8")


def test_a_single_exit_takes_all() -> None:
    model = made(exits=1)
    out = infer(model, pictures(), ConfidencePolicy((1.01,)))
    assert out.exit.tolist() == [0] * B
    np.testing.assert_array_equal(out.label, recorded(model).prediction[:, 0])


def interrupt(done: int, total: int) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("training", [True, False])
def test_dropout_is_off_and_the_mode_restored(training: bool) -> None:
    model = made(tuning="lora", dropout=0.5)
    record = recorded(model)
    policy = next(policies(record))
    model.train(training)
    out = infer(model, pictures(), policy)
    np.testing.assert_array_equal(out.exit, policy.exits(record))
    np.testing.assert_allclose(recorded(model).confidence, record.confidence, atol=1e-6)
    assert all(module.training is training for module in model.modules())
    with pytest.raises(KeyboardInterrupt):
        recorded(model, progress=interrupt)
    with pytest.raises(ValueError):
        infer(model, pictures() * torch.nan, policy)
    assert all(module.training is training for module in model.modules())


def test_nothing_keeps_a_graph() -> None:
    model = made()
    infer(model, pictures(2), ConfidencePolicy((0.5,)))
    run_exits(model, loader(16), lambda logits, labels: None)
    model.train()(pictures(2)).sum().backward()  # training goes on behind it
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
