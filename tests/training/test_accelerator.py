"""Devices, precision and trackers of a training."""

from __future__ import annotations

import inspect
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState, PartialState
from calls import run_in_two
from devices import bytes_on_fake_gpu, fake_gpu
from small_model import made, pictures
from torch import nn
from two_exits import CONFIG, make_model

import dmpo_explore as dx
from dmpo_explore.config import TrainingConfig
from dmpo_explore.training.accelerator import PreparedForward, frozen_in, make_accelerator, require_gradients
from dmpo_explore.training.losses import weighted_loss


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


@pytest.mark.slow
def test_frozen_weights_take_half_of_a_gpu_s_memory() -> None:
    with fake_gpu():
        layer = nn.Linear(1, 1, bias=False)
        layer.weight = nn.Parameter(torch.empty(500, 1000, device="cuda"), requires_grad=False)
        assert bytes_on_fake_gpu() == 2_000_000
        # a torch without CUDA brings nothing back to the stand-in
        with suppress(RuntimeError), frozen_in(layer, torch.bfloat16):
            inside = bytes_on_fake_gpu()
    assert inside == 1_000_000


def test_accelerators_of_one_process_do_not_inherit_from_each_other() -> None:
    make_accelerator(replace(CONFIG, precision="bf16"))
    second = make_accelerator(replace(CONFIG, accumulation=4), "cpu")
    assert (second.mixed_precision, second.gradient_accumulation_steps, second.device.type) == ("no", 4, "cpu")


@pytest.mark.parametrize("fast", ["bf16", "no"])
def test_auto_is_the_precision_that_is_fast_here(fast: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dmpo_explore.training.accelerator.fast_precision", lambda kind: fast)
    assert make_accelerator(replace(CONFIG, precision="auto"), "cpu").mixed_precision == fast


# -- several processes: no weight may be without a gradient --

EVERY_PART: list[dict[str, Any]] = [
    *({"tuning": tuning} for tuning in ("lora-all", "lora", "adapter", "oft", "vpt", "none", "full")),
    *({"tuning": "full", "predictor": "linear", "read": read} for read in ("cls", "mean", "both")),
    *({"bypass": bypass, "last_bypass": bypass} for bypass in ("conv", "mlp", "ladder", "none")),
    {"backbone": "test_resnet", "tuning": "full", "exits": 2},
    {"earlier_exits": True}, {"equilibrium": True}, {"train_norm": False}, {"exits": (2, 4), "tuning": "full"},
]  # fmt: skip


@pytest.mark.parametrize("changes", EVERY_PART, ids=str)
def test_every_trained_weight_has_a_gradient_also_where_losses_weigh_nothing(changes: dict[str, Any]) -> None:
    """As in the phases of the schedule mixed; so DDP need not search for weights without one."""
    model = made(**changes).train()
    for phase in ("first", "second"):
        K = len(model.stages)
        weights = [1.0 * (phase == "second" or k == K - 1) for k in range(K)]
        loss, _ = weighted_loss(model(pictures(4)), torch.arange(4), weights, "sigmoid", 0.5)
        model.zero_grad()
        loss.backward()
        require_gradients([model])


TWO = """
from dataclasses import replace
import torch
from small_model import made, pictures
from two_exits import CONFIG, TwoExits, make_data, run
from dmpo_explore.training.accelerator import make_accelerator
from dmpo_explore.training.loop import Validation, fit
config = replace(CONFIG, schedule="mixed", batch_size=8)  # the first epoch gives the early exits weight 0
accelerator = make_accelerator(config)
assert accelerator.num_processes == 2 and not accelerator.ddp_handler.find_unused_parameters
model = made(bypass="ladder")
data = torch.utils.data.TensorDataset(pictures(24), torch.arange(24) % 5)
loader = torch.utils.data.DataLoader(data, batch_size=8)
nothing = Validation((0.0,) * 3, 0.0)
epochs = fit(model, loader, config, 3, validate=lambda m: nothing, accelerator=accelerator)
seen = [result.weights for result, _ in epochs]
assert seen == [(0, 0, 1), (1, 1, 1)], seen
class Unused(TwoExits):
    def __init__(self):
        super().__init__()
        self.spare = torch.nn.Linear(2, 2)
loader = torch.utils.data.DataLoader(make_data(), batch_size=8)
try:
    next(fit(Unused(), loader, config, 2, validate=lambda m: nothing, accelerator=accelerator))
except ValueError as error:
    if accelerator.is_main_process:
        print(error)
"""


@pytest.mark.slow
def test_two_processes_train_exits_of_weight_zero_and_name_an_unused_weight(tmp_path: Path) -> None:
    assert "no gradient reaches spare.weight, spare.bias; freeze" in run_in_two(TWO, tmp_path)


PRECISE = TrainingConfig(precision="no")


@pytest.mark.parametrize(
    ("device", "trackers", "kind", "message"),
    [
        ("gpu", [], ValueError, "unknown device 'gpu'.*auto, cpu, cuda"),
        ("cuda", [], ValueError, "no usable NVIDIA GPU"),
        ("cpu:1", [], ValueError, "device='cpu:1': a training takes the first visible device"),
        ("cpu", ["tensorbord"], ValueError, r"unknown tracker 'tensorbord'. Did you mean 'tensorboard'.*: .*tensorb"),
        ("cpu", ["tensorboard"], ImportError, r"'tensorboard' is not installed; try .* \(installed: none\)"),
    ],
)
def test_unknown_devices_and_trackers_are_refused(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    device: str,
    trackers: list[str],
    kind: type[Exception],
    message: str,
) -> None:
    if kind is ImportError:
        monkeypatch.setattr("dmpo_explore.training.accelerator.get_available_trackers", list)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(kind, match=message):
        make_accelerator(PRECISE, device, trackers, tmp_path)
    assert make_accelerator(PRECISE, "cpu:0").device.type == "cpu"
