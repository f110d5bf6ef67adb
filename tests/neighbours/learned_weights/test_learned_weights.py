"""Learned loss weights: every step against a plain reference, and what the copies share and do not share."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from calls import run_in_two
from devices import DeviceReads
from tiny import MODEL
from tiny_training import CONFIG as TRAINING
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from two_exits import CONFIG, make_data, make_model, run, weights_of

import dmpo_explore as dx
from dmpo_explore import TrainingConfig, train
from dmpo_explore.neighbours.learned_weights.learning import (
    EndlessOrder,
    LearnedWeights,
    exit_weights,
    held_out_loader,
    second_copy,
    soft_exit_loss,
    weights_gradient,
)
from dmpo_explore.training import loop, loss_weights
from dmpo_explore.training.accelerator import make_accelerator
from dmpo_explore.training.checkpoint import require_room
from dmpo_explore.training.optimizer import rate_factor
from dmpo_explore.training.train_data import hold_out

pytestmark = pytest.mark.slow  # seconds each: scripts/check runs them

LEARNED = replace(CONFIG, schedule="learned", predictor_lr=0.05, schedule_penalty=0.5)
WHOLE = replace(TRAINING, training=replace(TRAINING.training, schedule="learned"))


def others(size: int = 2, n: int = 12, seed: int = 0) -> DataLoader[Any]:
    """Endless held-out batches."""
    data = make_data(100)
    return DataLoader(torch.utils.data.Subset(data, range(64, 64 + n)), batch_size=size, sampler=EndlessOrder(n, seed))


def part_of(config: TrainingConfig, size: int = 2) -> LearnedWeights:
    return LearnedWeights(lambda *_: others(size), rate=config.schedule_lr, penalty=config.schedule_penalty)


def learn(config: TrainingConfig = LEARNED, size: int = 2, **options: Any) -> tuple[nn.Module, list[Any]]:
    return run(config, parts=[part_of(config, size)], **options)


# -- the formulas --


def test_the_gradient_of_the_weights_is_autograds() -> None:
    generator = torch.Generator().manual_seed(0)
    x, of_y, of_z = torch.randn(3, 4, generator=generator).double().unbind()
    x.requires_grad_()
    (expected,) = torch.autograd.grad((exit_weights(x) * of_z).sum() - (exit_weights(x) * of_y).sum(), x)
    torch.testing.assert_close(weights_gradient(x.detach(), of_z - of_y), expected)
    assert exit_weights(x).sum().item() == pytest.approx(4) and expected.sum().item() == pytest.approx(0, abs=1e-12)


def test_soft_exiting_is_the_expectation_over_exits() -> None:
    generator = torch.Generator().manual_seed(1)
    logits, labels = torch.randn(5, 3, 4, generator=generator) * 3, torch.arange(5) % 4
    expected = 0.0
    for image, label in zip(logits, labels, strict=True):
        stays = 1.0
        for k, exit in enumerate(image):
            goes = stays * (exit.softmax(0).max().item() if k < 2 else 1.0)
            expected += goes * F.cross_entropy(exit, label).item() / 5
            stays -= goes
    assert soft_exit_loss(logits, labels).item() == pytest.approx(expected, rel=1e-5)
    certain = torch.tensor([[[50.0, 0.0], [0.0, 50.0]]])  # exits at exit 1
    assert soft_exit_loss(certain, torch.tensor([0])).item() < 1e-6


def test_two_epochs_are_those_of_a_plain_loop() -> None:
    """Both copies by AdamW with rates and clipping of their own, x by Adam; one held-out batch a step."""
    config = replace(LEARNED, weight_decay=0.1, clip_norm=0.05, schedule_lr=0.2)
    model, epochs = learn(config, shuffle=False)
    y, z, x = make_model(), make_model(), torch.zeros(2)
    data, used = make_data(), []
    steps = [torch.optim.AdamW([{"params": [p], "weight_decay": 0.1 * (p.ndim > 1)} for p in one.parameters()], lr=0.05)
             for one in (y, z)]  # fmt: skip
    of_x = torch.optim.Adam([x], lr=0.2)
    for epoch in range(2):
        loader = others()
        loader.sampler.epoch = epoch  # type: ignore[attr-defined]
        held = iter(loader)
        for step in range(8):
            images, labels = (part[8 * step : 8 * step + 8] for part in data.tensors)
            other, targets = next(held)
            weights = exit_weights(x)
            used.append(weights)
            parts = []
            for one, optimizer in zip((y, z), steps, strict=True):
                logits = one(images)
                losses = torch.stack([F.cross_entropy(logits[:, k], labels) for k in range(2)])
                loss = (weights * losses).sum()
                if one is z:
                    loss = loss + soft_exit_loss(one(other), targets) / 0.5
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(one.parameters(), 0.05)
                for group in optimizer.param_groups:
                    group["lr"] = 0.05 * rate_factor(8 * epoch + step, 16, 4)
                optimizer.step()
                parts.append(losses.detach())
            x.grad = weights_gradient(x, parts[1] - parts[0])
            of_x.step()
    torch.testing.assert_close(weights_of(model), weights_of(y), rtol=1e-5, atol=1e-6)
    saved = epochs[-1][1]["learned"]
    torch.testing.assert_close(saved["x"], x, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        torch.cat([p.flatten() for p in saved["z"].values()]), weights_of(z), rtol=1e-5, atol=1e-6
    )
    for i, (result, _) in enumerate(epochs):
        assert result.weights == pytest.approx(torch.stack(used[8 * i : 8 * i + 8]).mean(0).tolist(), rel=1e-4)
    assert not torch.allclose(weights_of(y), weights_of(z), atol=1e-3)


# -- the copies --


def test_held_out_images_reach_the_model_through_the_weights_alone() -> None:
    """With weights that do not move, the model is the one that `uniform` trains, bit by bit."""
    fixed, _ = learn(replace(LEARNED, schedule_lr=1e-30))
    uniform, _ = run(replace(LEARNED, schedule="uniform"))
    assert torch.equal(weights_of(fixed), weights_of(uniform))


@pytest.mark.parametrize(
    "change",
    [
        *({"tuning": name} for name in ("lora-all", "adapter", "full", "oft", "vpt")),
        {"bypass": "ladder", "equilibrium": True, "merge": 1},
        {"backbone": "resnet10t", "tuning": "lora", "image_size": 64, "earlier_exits": True},
    ],
)
def test_the_copies_share_frozen_weights_and_no_trained_one(change: dict[str, Any]) -> None:
    model = dx.build_model(dx.ModelConfig(**MODEL | change), 3)
    second = second_copy(model)
    copies = nn.ModuleList((model, second)).train()
    y, z = (dict(one.named_parameters()) for one in copies)
    assert y.keys() == z.keys()
    assert all((y[name] is z[name]) == (not y[name].requires_grad) for name in y)
    images = torch.randn(4, 3, model.preprocess.image_size, model.preprocess.image_size)
    copies.eval()
    torch.testing.assert_close(second(images), model(images))
    for own, other, out in ((y, z, model(images)), (z, y, second(images))):
        copies.zero_grad()
        out.square().sum().backward()
        assert all(p.grad is None or not p.grad.any() for p in other.values() if p.requires_grad)
        assert any(p.grad is not None and p.grad.any() for p in own.values())
    before = model(images)
    with torch.no_grad():
        for p in z.values():
            if p.requires_grad:
                p.add_(1.0)
    assert torch.equal(model(images), before) and not torch.allclose(second(images), before)


# -- resuming, accumulating, several processes --


def test_accumulated_steps_equal_the_big_batch() -> None:
    big, _ = learn(replace(LEARNED, batch_size=32, clip_norm=0.5), size=8, shuffle=False)
    small, epochs = learn(replace(LEARNED, batch_size=8, accumulation=4, clip_norm=0.5), size=2, shuffle=False)
    torch.testing.assert_close(weights_of(small), weights_of(big), rtol=1e-4, atol=1e-6)
    assert len(epochs) == 2 and epochs[0][0].weights != epochs[1][0].weights


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize(("exits", "total"), [(2, 2.0), (1, 1.0)])
def test_a_history_has_the_weights(exits: int, total: float) -> None:
    config = replace(WHOLE, model=replace(WHOLE.model, exits=exits))
    history = train(config, "run", device="cpu").history()
    weights = history[[name for name in history if name.startswith("lambda_")]]
    assert weights.sum(axis=1).tolist() == pytest.approx([total] * 3)
    assert weights["lambda_1"].nunique() == (3 if exits > 1 else 1)  # a single exit has nothing to learn
    assert abs(weights["lambda_1"][0] - 1) < 0.3


def test_what_is_held_out_is_a_tenth_of_the_training_images() -> None:
    digits = dx.load_images("digits", "train", train_size=200)
    kept, held = hold_out(digits, WHOLE, 2)
    assert held is not None and len(held) == 20 and not {*kept.indices} & {*held.indices}
    assert {*kept.indices} | {*held.indices} == {*digits.indices} and len({*held.labels}) == 10
    assert hold_out(digits, WHOLE, 1) == (digits, None)
    loader = held_out_loader(held, dx.Preprocess(32, (0.5,) * 3, (0.5,) * 3), WHOLE.training, steps=8, processes=2)
    assert next(iter(loader))[0].shape == (4, 3, 32, 32)  # 20 images in 8 steps: 3, and as many in each process
    order = list(itertools.islice(iter(EndlessOrder(5, 0)), 10))
    assert sorted(order[:5]) == sorted(order[5:]) == [0, 1, 2, 3, 4]


def test_mixed_precision_learns_too() -> None:
    config = replace(LEARNED, clip_norm=None)
    _, epochs = learn(replace(config, precision="bf16"))
    _, exact = learn(config)
    assert epochs[-1][0].weights == pytest.approx(exact[-1][0].weights, abs=0.1)
    accelerator = make_accelerator(LEARNED, "cpu")  # fp16's scaler works on a CPU too
    accelerator.scaler = torch.amp.GradScaler("cpu")
    _, scaled = learn(config, accelerator=accelerator)
    assert scaled[-1][0].weights == pytest.approx(exact[-1][0].weights, abs=1e-4)


def test_a_step_reads_nothing_from_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "LOOK_EVERY", 4)
    monkeypatch.setattr(loop, "_looks_at_every_step", lambda device: False)
    reads = {}
    for images in (64, 128):  # 8 and 16 steps
        with DeviceReads() as found:
            learn(replace(LEARNED, epochs=1), data=make_data(images))
        reads[images] = len(found.places)
    assert reads[128] - reads[64] == 2, found.places  # two more looks, each of four steps


SCRIPT = """
import json, sys
sys.path.insert(0, sys.argv[1])
from test_learned_weights import LEARNED, learn, make_accelerator, weights_of
accelerator = make_accelerator(LEARNED)
assert accelerator.num_processes == 2, accelerator.num_processes
model, epochs = learn(accelerator=accelerator)
if accelerator.is_main_process:
    print(json.dumps([[r.weights for r, _ in epochs], weights_of(model).tolist()]))
"""


@pytest.mark.slow
def test_two_processes_do_what_one_does(tmp_path: Path) -> None:
    used, weights = json.loads(run_in_two(SCRIPT, tmp_path, Path(__file__).parent).splitlines()[-1])
    model, one = learn()
    for found, (result, _) in zip(used, one, strict=True):
        assert found == pytest.approx(result.weights, rel=1e-4)
    torch.testing.assert_close(torch.tensor(weights), weights_of(model), rtol=1e-3, atol=1e-5)


def test_a_checkpoint_has_room_for_the_second_copy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model = dx.build_model(WHOLE.model, 10)
    size = sum(value.numel() * value.element_size() for value in model.trainable_state().values())
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=12 * size))
    kinds = dx.training.TRAINING_PARTS.values()
    copies = {c.training.schedule: sum(kind.learns_copy(c) for kind in kinds) for c in (TRAINING, WHOLE)}
    assert copies == {"linear": 0, "learned": 1}
    require_room(tmp_path, model)
    with pytest.raises(OSError, match="make room"):
        require_room(tmp_path, model, copies=1)


# -- what is refused --


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: run(LEARNED), "its history has them"),
        (lambda: loss_weights("learned", 0, 4, 4), "its history has them"),
        (
            lambda: run(LEARNED, parts=[part_of(LEARNED), part_of(LEARNED)]),
            "learned and learned both give loss weights",
        ),
        (lambda: TrainingConfig(schedule_lr=0.0), "schedule_lr=.* must be a finite number above 0"),
        (lambda: TrainingConfig(schedule_penalty=-1.0), "schedule_penalty=.* must be a finite number above 0"),
    ],
)
def test_bad_settings_are_refused(ask: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ask()
