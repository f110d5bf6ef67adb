"""The training loop: accumulation, precision, two processes, resuming, and what stops it."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from calls import run_in_two
from devices import DeviceReads
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.data import DataLoader, TensorDataset
from two_exits import CONFIG, TwoExits, make_data, make_model, run, weights_of

from dmpo_explore import ModelConfig, TrainingConfig, build_model
from dmpo_explore.training import loop, loss_weights, weighted_loss
from dmpo_explore.training.accelerator import make_accelerator
from dmpo_explore.training.loop import JoinedParts, PlannedWeights, Validation, fit
from dmpo_explore.training.optimizer import rate_factor

# -- learning rates --


# -- the loop --


def test_an_epoch_reports_weights_losses_and_validation() -> None:
    data, config = make_data(), replace(CONFIG, epochs=3, predictor_lr=1e-12, tuning_lr=1e-12, warmup_epochs=1)
    areas = iter([0.4, 0.6, 0.5])
    seen: list[bool] = []

    def validate(model: nn.Module) -> Validation:
        seen.append(isinstance(model, TwoExits))
        return Validation((0.25, 0.75), next(areas))

    _, epochs = run(config, data=data, validate=validate)
    results = [result for result, _ in epochs]
    assert seen == [True] * 3
    assert [r.epoch for r in results] == [1, 2, 3] and {r.epochs for r in results} == {3}
    assert [r.best for r in results] == [True, True, False]
    assert [r.learning_rate * 1e12 for r in results] == pytest.approx([rate_factor(at, 24, 8) for at in (0, 8, 16)])
    for epoch, result in enumerate(results):
        weights = loss_weights("linear", epoch, 3, 2)
        loss, parts = weighted_loss(make_model()(data.tensors[0]), data.tensors[1], weights)
        assert result.weights == weights
        assert result.loss == pytest.approx(loss.item(), rel=1e-5)
        assert result.losses == pytest.approx(parts.tolist(), rel=1e-5)
    row = results[1].row()
    assert list(row)[:7] == ["epoch", "lambda_1", "lambda_2", "loss_1", "loss_2", "accuracy_1", "accuracy_2"]
    assert (row["epoch"], row["area"], row["accuracy_2"]) == (2, 0.6, 0.75)


def test_training_lowers_the_loss_and_every_step_is_announced() -> None:
    steps: list[tuple[int, int, float]] = []
    config = replace(CONFIG, epochs=5, predictor_lr=0.05, schedule="uniform")
    _, epochs = run(config, on_step=lambda *step: steps.append(step))
    assert epochs[-1][0].loss < epochs[0][0].loss - 0.1
    assert [step[:2] for step in steps] == [(i, 8) for i in range(1, 9)] * 5
    assert all(isinstance(loss, float) and math.isfinite(loss) for *_, loss in steps)


def test_an_incomplete_last_accumulation_still_steps() -> None:
    config = replace(CONFIG, batch_size=8, accumulation=3, epochs=1)
    model, epochs = run(config, data=make_data(32))  # 4 batches: a step of 3 and one of 1
    assert not torch.equal(weights_of(model), weights_of(make_model()))
    assert epochs[0][1]["schedule"] == {"last_epoch": 2}  # nothing that a continued training would count otherwise


@pytest.mark.parametrize("images", [32, 24, 20, 29, 8, 3])  # of 4 micro-batches of 8: full ones; ragged ones; one
@pytest.mark.parametrize("clip_norm", [None, 0.05])
def test_accumulated_gradients_are_the_mean_over_the_images_of_a_window(images: int, clip_norm: float | None) -> None:
    config = replace(CONFIG, epochs=1, clip_norm=clip_norm, predictor_lr=0.05, schedule="uniform")
    data = make_data(images)
    small, big = replace(config, batch_size=8, accumulation=4), replace(config, batch_size=images)
    found, expected = (_gradients(settings, data) for settings in (small, big))
    assert len(found) == len(expected) == 1
    torch.testing.assert_close(found[0], expected[0], rtol=1e-5, atol=1e-7)


def _gradients(config: TrainingConfig, data: TensorDataset) -> list[Tensor]:
    """The gradient of every optimizer step, as AdamW reads it."""
    seen: list[Tensor] = []

    def look(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        weights = [p for group in optimizer.param_groups for p in group["params"]]
        seen.append(torch.cat([p.grad.flatten() for p in weights if p.grad is not None]))

    hook = register_optimizer_step_pre_hook(look)
    try:
        run(config, shuffle=False, data=data)
    finally:
        hook.remove()
    return seen


def test_full_windows_are_not_rescaled(monkeypatch: pytest.MonkeyPatch) -> None:
    factors: list[float] = []
    monkeypatch.setattr(loop, "_scale_gradients", lambda model, factor: factors.append(factor))
    run(replace(CONFIG, batch_size=8, accumulation=2, epochs=1), data=make_data(64))
    run(replace(CONFIG, batch_size=8, epochs=1), data=make_data(61))  # without accumulation: also the ragged batch
    assert factors == [1.0] * (4 + 8)


# -- the model stays plain --


class Typed(TwoExits):
    """Which notes in what type it computes."""

    def forward(self, x: Tensor) -> Tensor:
        logits = super().forward(x)
        self.kind = logits.dtype
        return logits


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_mixed_precision_ends_with_the_epoch(precision: Any) -> None:
    config = replace(CONFIG, precision=precision, epochs=2)
    model, inputs = Typed(), make_data(8).tensors[0]
    kinds: list[torch.dtype] = []

    def validate(model: nn.Module) -> Validation:
        assert isinstance(model, Typed)
        kinds.append(model.kind)
        return Validation((0.5, 0.6), 0.55)

    loader = DataLoader(make_data(), batch_size=8)
    for _ in fit(model, loader, config, 2, validate=validate, accelerator=make_accelerator(config, "cpu")):
        unpatched = Typed()
        unpatched.load_state_dict(model.state_dict())
        assert "forward" not in vars(model)
        assert torch.equal(model(inputs), unpatched(inputs)) and model.kind == torch.float32
    assert kinds == [torch.bfloat16 if precision == "bf16" else torch.float32] * 2  # what it was trained in


def test_coupling_reaches_the_loss() -> None:
    _, (plain, *_) = run(replace(CONFIG, coupling="none"))
    _, (coupled, *_) = run(replace(CONFIG, coupling="sigmoid"))
    assert coupled[0].losses[1] < plain[0].losses[1]


# -- devices --


@pytest.mark.parametrize("clip_norm", [None, 0.5])
def test_a_step_reads_nothing_from_the_device(monkeypatch: pytest.MonkeyPatch, clip_norm: float | None) -> None:
    """Counted on a CPU, where the looks are switched to what a GPU has."""
    monkeypatch.setattr(loop, "LOOK_EVERY", 4)
    monkeypatch.setattr(loop, "_looks_at_every_step", lambda device: False)
    reads = {}
    for images in (64, 128):  # 8 and 16 steps
        seen: list[tuple[int, int]] = []
        with DeviceReads() as found:
            config = replace(CONFIG, epochs=1, clip_norm=clip_norm)
            run(config, data=make_data(images), on_step=lambda *step, seen=seen: seen.append(step[:2]))
        reads[images] = len(found.places)
        assert seen == [(i, images // 8) for i in range(1, images // 8 + 1)]
    assert reads[128] - reads[64] == 2, found.places  # two more looks, each of four steps


def test_what_was_saved_is_loaded_once_the_optimizer_is_on_its_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accelerate moves what an optimizer holds: counters of steps on a GPU are waited for, each at every step."""
    _, epochs = run(replace(CONFIG, epochs=1))
    accelerator = make_accelerator(CONFIG, "cpu")
    held: list[int] = []
    prepare = accelerator.prepare
    monkeypatch.setattr(accelerator, "prepare", lambda *all: (held.append(len(all[1].state)), prepare(*all))[1])
    _, more = run(replace(CONFIG, epochs=2), state=epochs[0][1], accelerator=accelerator)
    assert held == [0] and more[0][1]["optimizer"]["state"]


def test_a_step_that_fp16_skips_moves_no_rate_and_the_scale_is_saved() -> None:
    """fp16 needs a GPU in accelerate; its scaler works on a CPU too."""
    config, accelerator = replace(CONFIG, epochs=1, warmup_epochs=0), make_accelerator(CONFIG, "cpu")
    accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=3.3e38)  # the first gradients overflow
    _, ((result, state),) = run(config, accelerator=accelerator)
    skipped = 8 - state["schedule"]["last_epoch"]
    assert (
        1 <= skipped < 8
        and state["scaler"]["scale"] == pytest.approx(3.3e38 / 2**skipped)
        and math.isfinite(result.loss)
    )
    accelerator = make_accelerator(CONFIG, "cpu")
    accelerator.scaler = torch.amp.GradScaler("cpu")
    _, epochs = run(replace(config, epochs=2), state=state, accelerator=accelerator)
    assert (
        epochs[0][1]["scaler"]["scale"] == state["scaler"]["scale"]
    )  # that of the first epoch, not a scaler's usual one


# -- what stops it --


def spoilt(column: int, row: int, value: float) -> TensorDataset:
    """Four batches of 8, with a wrong image (column 0) or a wrong label (1)."""
    data = make_data(32)
    data.tensors[column][row] = value
    return data


@pytest.mark.parametrize(
    ("how", "kind", "message"),
    [
        (
            {"data": spoilt(0, 20, math.nan)},
            FloatingPointError,
            r"nan in epoch 1, step 3 \(exit 1, 2\).*learning rates.*images",
        ),
        ({"config": replace(CONFIG, schedule="lineer")}, ValueError, "unknown schedule.*linear"),
        ({"config": replace(CONFIG, coupling="sigmod")}, ValueError, "unknown coupling.*sigmoid"),
    ],
)
def test_what_stops_it_is_named(how: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        run(**how, shuffle=False)


# -- two processes --

SCRIPT = """
import json
from dataclasses import replace
from dmpo_explore.training.accelerator import make_accelerator
from two_exits import CONFIG, run, weights_of
accelerator = make_accelerator(CONFIG)
assert accelerator.num_processes == 2, accelerator.num_processes
model, epochs = run(accelerator=accelerator)
if accelerator.is_main_process:
    results = [(r.loss, r.losses, r.accuracy, r.area) for r, _ in epochs]
    print(json.dumps([accelerator.num_processes, results, weights_of(model).tolist()]))
"""


@pytest.mark.slow
def test_two_processes_do_what_one_does(tmp_path: Path) -> None:
    processes, two, weights = json.loads(run_in_two(SCRIPT, tmp_path).splitlines()[-1])
    model, one = run()
    assert processes == 2
    for (loss, losses, accuracy, area), (result, _) in zip(two, one, strict=True):
        assert loss == pytest.approx(result.loss, rel=1e-5)
        assert losses == pytest.approx(result.losses, rel=1e-5)
        assert [*accuracy, area] == pytest.approx([*result.accuracy, result.area])
    torch.testing.assert_close(torch.tensor(weights), weights_of(model), rtol=1e-4, atol=1e-6)


def test_an_epoch_has_the_weights_of_its_schedule() -> None:
    config = replace(CONFIG, epochs=3, schedule="switch", phase_ratio=0.4)
    joined = JoinedParts([], make_model(), config, 2, make_accelerator(config, "cpu"), 8, None)
    assert isinstance(joined.weighing, PlannedWeights)
    for epoch in range(3):
        joined.before_epoch(epoch)
        planned = loss_weights("switch", epoch, 3, 2, phase_ratio=0.4)
        assert joined.mean_weights() == planned
        assert joined.weighing.weights().tolist() == pytest.approx(planned)
    assert joined.state_dict() == {}


def test_a_model_knows_the_depths_of_its_exits() -> None:
    model = build_model(ModelConfig("test_vit", "random", 32, exits=(1, 2, 5)), 3)
    config = replace(CONFIG, epochs=3, schedule="linear-by-depth")
    joined = JoinedParts([], model, config, 3, make_accelerator(config, "cpu"), 8, None)
    joined.before_epoch(0)
    assert joined.mean_weights() == loss_weights("linear-by-depth", 0, 3, 3, depths=(0.2, 0.4, 1.0))
    assert joined.mean_weights() != loss_weights("linear-by-depth", 0, 3, 3)
