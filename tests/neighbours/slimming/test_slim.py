"""A run slimmed and distilled is an ordinary run; a slimmed model is taught by the unslimmed one."""

from __future__ import annotations

import dataclasses
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import tiny_config
from tiny_training import SLIM, same_history, wide_and_slim
from torch.nn import functional as F

import dmpo_explore as dx
from dmpo_explore import ModelConfig, TrainingConfig, build_model, train
from dmpo_explore.inference.torch_export import export_run
from dmpo_explore.neighbours.slimming.slim import (
    Distillation,
    Lessons,
    Taught,
    answer_losses,
    calibration_losses,
    slim,
    slim_epochs,
)
from dmpo_explore.neighbours.slimming.surgery import vit_blocks, width_of
from dmpo_explore.runs.check import check_folder
from dmpo_explore.training.accelerator import make_accelerator
from dmpo_explore.training.loop import JoinedParts
from dmpo_explore.training.parts import Batch

CONFIG = ModelConfig("test_vit", "random", 32, exits=(2, 4, 6))
IMAGES, LABELS = torch.rand(4, 3, 32, 32), torch.tensor([0, 1, 2, 0])


def pair_of(**config: object) -> Distillation:
    torch.manual_seed(0)
    models = [build_model(ModelConfig("test_vit", "random", 32, exits=(2, 4, 6), **config), 3) for _ in range(2)]  # type: ignore[arg-type]
    return Distillation(*models)


class Gives(torch.nn.Module):
    """What it was given, for any images."""

    def __init__(self, out: Taught) -> None:
        super().__init__()
        self.out = out

    def forward(self, images: torch.Tensor) -> Taught:
        return self.out


def test_the_pair_gives_what_both_models_give() -> None:
    pair = pair_of().eval()
    out = pair(IMAGES)
    torch.testing.assert_close(out.logits, pair.student(IMAGES))
    torch.testing.assert_close(out.teacher, pair.teacher(IMAGES))
    own, taught = ([o.tokens for o in model.walk(IMAGES)] for model in (pair.student, pair.teacher))
    for k in range(3):
        torch.testing.assert_close(out.hidden[k], F.mse_loss(own[k], taught[k]) / taught[k].square().mean())
    assert not out.teacher.requires_grad and out.logits.requires_grad


@pytest.mark.parametrize("config", [{"earlier_exits": True}, {"bypass": "ladder"}])
def test_exits_that_read_earlier_ones_are_taught_too(config: dict[str, object]) -> None:
    assert pair_of(**config).train()(IMAGES).logits.shape == (4, 3, 3)


def test_losses_are_the_formulas() -> None:
    torch.manual_seed(0)
    out = Taught(torch.randn(4, 3, 3), torch.randn(4, 3, 3), torch.tensor([1.0, 2.0, 3.0]))
    parts = [0.9 * F.cross_entropy(out.logits[:, k], out.teacher[:, k].softmax(-1))
             + 0.1 * F.cross_entropy(out.logits[:, k], LABELS) for k in range(3)]  # fmt: skip
    expected = torch.stack(parts)
    torch.testing.assert_close(answer_losses(out, LABELS).mean(0), expected)
    config = TrainingConfig(precision="no")
    joined = JoinedParts([Lessons(1, 3)], torch.nn.Identity(), config, 3, make_accelerator(config, "cpu"), 1, None)
    for epoch, wanted in enumerate((torch.tensor(2.0), 2.0 + expected.mean())):  # at first hidden states only
        joined.before_epoch(epoch)
        total, loss, answers = joined.losses(Batch(IMAGES, LABELS), Gives(out))
        torch.testing.assert_close((loss, answers), (wanted, expected))
        assert total is loss


def test_importance_is_of_all_exits_or_of_the_last() -> None:
    pair = pair_of().eval()
    out = pair(IMAGES)
    losses = answer_losses(out, LABELS).mean(0) + out.hidden
    (every,), (last,) = (list(calibration_losses(pair, [(IMAGES, LABELS)], kind)) for kind in ("all", "last"))
    torch.testing.assert_close((every, last), (losses.mean(), losses[-1]))


PRUNED = pytest.mark.skipif(find_spec("torch_pruning") is None, reason="the extra slim is not installed")


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path_factory.mktemp("slim")))
        yield wide_and_slim()


@PRUNED
@pytest.mark.slow
def test_the_new_run_is_narrower_and_whole(both: tuple[dx.Run, dx.Run]) -> None:
    wide, thin = both
    model = thin.model("cpu")
    assert width_of(vit_blocks([model])) == ((1,) * 6, (96,) * 6)
    assert thin.config.model.slimming.run == "wide" and wide.config.model.slimming.run == ""
    assert (thin.record("test").flops_fraction < wide.record("test").flops_fraction).all()
    assert thin.record("test").meta.reference_flops == wide.record("test").meta.reference_flops
    assert thin.history()["lambda_1"].tolist() == [0.0, 0.5]  # hidden states, then answers too
    assert check_folder(thin.path).valid
    assert (thin.path / "manifest.csv").read_bytes() == (wide.path / "manifest.csv").read_bytes()
    assert "Slimmed from wide: 1 head and 96 neurons a block." in thin.card()
    assert thin.policies()


@PRUNED
@pytest.mark.slow
def test_it_needs_no_backbone_file(both: tuple[dx.Run, dx.Run]) -> None:
    """The weights of a config with ``weights`` that are nowhere are all in the run."""
    thin = both[1]
    model = dataclasses.replace(thin.config.model, weights="gone.safetensors")
    config = dataclasses.replace(thin.config, model=model)
    from dmpo_explore.runs.torch_model import load_model

    images = thin.inputs("test", slice(0, 4))
    torch.testing.assert_close(load_model(thin.path, config, 10, "cpu")(images), thin.model("cpu")(images))


@PRUNED
@pytest.mark.slow
@pytest.mark.parametrize("onnx", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_executed_exits_are_the_simulated_ones(both: tuple[dx.Run, dx.Run], tmp_path: Path, onnx: bool) -> None:
    """In torch and as ONNX graphs."""
    thin = both[1]
    policy = dx.fit_policy(thin.record("val"), "confidence", flops=0.45)
    simulated, images = policy.exits(thin.record("test")), thin.inputs("test")
    assert len(set(simulated.tolist())) > 1
    if onnx:
        pytest.importorskip("onnxscript")
        out = dx.OnnxEngine(export_run(thin, tmp_path / "onnx", policy)).infer(images.numpy())
    else:
        out = dx.infer(thin.model("cpu", merge=True), images, policy)
    assert np.array_equal(np.asarray(out.exit), simulated)


@PRUNED
@pytest.mark.slow
def test_a_slimmed_run_can_be_slimmed_again(both: tuple[dx.Run, dx.Run]) -> None:
    again = slim(both[1], "thinner", **SLIM | {"heads": 1.0, "epochs": 1, "hidden_epochs": 0, "importance": "last"})
    assert (again.config.model.slimming.heads, again.config.model.slimming.ffn) == ((1,) * 6, (48,) * 6)
    assert again.config.model.slimming.run == "thin" and again.model("cpu").n_exits == 2


@PRUNED
@pytest.mark.slow
@pytest.mark.parametrize(
    "model", [{"tuning": "adapter"}, {"tuning": "full", "train_norm": False}, {"merge": 1}, {"earlier_exits": True}]
)
def test_other_models_can_be_slimmed_too(model: dict[str, Any], runs: Path) -> None:
    wide = train(tiny_config(40, model=model, epochs=1), "wide", device="cpu")
    thin = slim(wide, **SLIM | {"epochs": 1})
    images = wide.inputs("test", slice(0, 4))
    assert thin.name == "wide-slim" and thin.model("cpu")(images).shape == (4, 2, 10)


@PRUNED
@pytest.mark.slow
def test_a_stop_loses_no_finished_epoch(both: tuple[dx.Run, dx.Run]) -> None:
    wide, thin = both
    running = slim_epochs(wide, "stopped", **SLIM)
    next(running)
    running.close()
    resumed = slim(wide, "stopped", resume=True, device="cpu")
    same_history(resumed, thin)
    for name, value in dx.runs.read_weights(thin.path).items():
        assert torch.equal(value, dx.runs.read_weights(resumed.path)[name]), name
    longer = slim("wide", "stopped", resume=True, epochs=3, device="cpu")
    assert len(longer.history()) == 3
    with pytest.raises(ValueError, match="is finished"):
        slim(wide, "stopped", resume=True, device="cpu")
    with pytest.raises(ValueError, match="slimmed from 'wide', not from 'thin'"):
        slim(thin, "stopped", resume=True, device="cpu")


@PRUNED
@pytest.mark.slow
def test_to_resume_takes_its_own_images_and_the_same_teacher(runs: Path) -> None:
    wide = train(tiny_config(40, epochs=1), "wide", device="cpu")
    running = slim_epochs(wide, "thin", **SLIM)
    next(running)
    running.close()
    (wide.path / "manifest.csv").write_text("of other images")
    assert len(slim(wide, "thin", resume=True, device="cpu").history()) == 2
    train(tiny_config(40, epochs=1, seed=1), "wide", device="cpu", force=True)
    with pytest.raises(ValueError, match="'wide' has other weights than those that 'thin' was slimmed from"):
        slim("wide", "thin", resume=True, epochs=3, device="cpu")


@PRUNED
@pytest.mark.slow
@pytest.mark.parametrize(
    ("ask", "kind", "message"),
    [
        (lambda wide, _: slim(wide, "thin", **SLIM), FileExistsError, "run 'thin' exists"),
        (lambda wide, _: slim(wide, "wide", force=True, **SLIM), ValueError, "'wide' is the run that is slimmed"),
        (lambda wide, _: slim(wide, "a/b", **SLIM), ValueError, "run name 'a/b' must be"),
        (lambda *_: slim("demo-cnn", "cnn", device="cpu"), ValueError, "tf_efficientnet_lite0 is none"),
        (lambda _, thin: train(thin.config, "trained", device="cpu"), ValueError, "slim that run again"),
    ],
)
def test_what_cannot_work_is_refused_before_work_starts(
    both: tuple[dx.Run, dx.Run], monkeypatch: pytest.MonkeyPatch, ask: Any, kind: type[Exception], message: str
) -> None:
    monkeypatch.setattr(dx.Run, "model", lambda *_, **__: pytest.fail("work has started"))
    with pytest.raises(kind, match=message):
        ask(*both)


@PRUNED
@pytest.mark.slow
def test_distillation_brings_the_hidden_states_back(both: tuple[dx.Run, dx.Run]) -> None:
    made = slim(both[0], "longer", **SLIM | {"epochs": 4, "hidden_epochs": 4})
    losses = made.history()["loss"].tolist()
    assert losses == sorted(losses, reverse=True) and losses[-1] < 0.8 * losses[0]
