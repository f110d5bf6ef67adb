"""Devices, precision and trackers of a training."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState, PartialState
from torch import nn
from two_exits import CONFIG, make_model

import dmpo_explore as dx
from dmpo_explore.training.accelerator import PreparedForward, frozen_in, make_accelerator


def test_accelerate_still_has_the_private_reset() -> None:
    """accelerate keeps the first accelerator's precision and device for the whole process."""
    reset = getattr(AcceleratorState, "_reset_state", None)
    assert callable(reset) and "reset_partial_state" in inspect.signature(reset).parameters, (
        "accelerate changed the private AcceleratorState._reset_state(reset_partial_state=...), with which "
        "make_accelerator lets a second training in one process have its own precision and device: "
        "find what replaces it in accelerate.state and call that there"
    )
    make_accelerator(CONFIG, "cpu")
    assert AcceleratorState._shared_state and PartialState._shared_state
    reset(reset_partial_state=True)
    assert not AcceleratorState._shared_state and not PartialState._shared_state, (
        "AcceleratorState._reset_state no longer forgets precision and device: a second training in one process would "
        "inherit those of the first"
    )


def test_what_is_prepared_is_not_the_model() -> None:
    """accelerate replaces `forward` for good; PreparedForward takes that in the model's place."""
    model = make_model()
    prepared = make_accelerator(replace(CONFIG, precision="bf16"), "cpu").prepare(PreparedForward(model))
    assert "forward" in vars(prepared), "accelerate no longer patches forward: PreparedForward may go"
    assert "forward" not in vars(model)
    inputs = torch.randn(4, 6)
    assert torch.equal(model(inputs), make_model()(inputs))
    assert not torch.equal(model(inputs), prepared(inputs)) and prepared(inputs).dtype == torch.float32


@pytest.mark.parametrize(("size", "kernel"), [(32, "math"), (176, "flash")])  # 5 and 122 tokens
def test_short_attention_is_trained_step_by_step_on_a_cpu(size: int, kernel: str) -> None:
    model = dx.build_model(dx.ModelConfig("test_vit", "random", size, exits=(1,)), 3)
    images = torch.randn(1, 3, size, size)
    expected = model(images)
    with torch.profiler.profile() as seen:
        logits = PreparedForward(model)(images)
    assert [name for name in ("math", "flash") if any(name in event.key for event in seen.key_averages())] == [kernel]
    torch.testing.assert_close(logits, expected)


def test_frozen_weights_come_back_as_they_were() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3), nn.Conv2d(3, 3, 1), nn.Linear(3, 2))
    model.requires_grad_(False)
    model[3].requires_grad_(True)
    before = {name: p.clone() for name, p in model.named_parameters()}
    with pytest.raises(KeyError), frozen_in(model, torch.bfloat16):
        kinds = [p.dtype for p in model.parameters()]
        assert kinds == [torch.bfloat16] * 2 + [torch.float32] * 2 + [torch.bfloat16] * 2 + [torch.float32] * 2
        raise KeyError
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    with frozen_in(model, None):
        assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_accelerators_of_one_process_do_not_inherit_from_each_other() -> None:
    make_accelerator(replace(CONFIG, precision="bf16"))
    second = make_accelerator(replace(CONFIG, accumulation=4), "cpu")
    assert (second.mixed_precision, second.gradient_accumulation_steps, second.device.type) == ("no", 4, "cpu")


def test_unknown_devices_and_trackers_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown device 'gpu'.*auto, cpu, cuda"):
        make_accelerator(CONFIG, "gpu")
    with pytest.raises(
        ValueError, match=r"unknown tracker 'tensorbord'. Did you mean 'tensorboard'.*installed: .*tensorb"
    ):
        make_accelerator(CONFIG, "cpu", ["tensorbord"], tmp_path)
    monkeypatch.setattr("dmpo_explore.training.accelerator.get_available_trackers", list)
    with pytest.raises(ImportError, match=r"'tensorboard' is not installed; try .* \(installed: none\)"):
        make_accelerator(CONFIG, "cpu", ["tensorboard"], tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="no usable NVIDIA GPU"):
        make_accelerator(CONFIG, "cuda")
