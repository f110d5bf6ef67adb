"""A run slimmed and distilled is an ordinary run: `slim`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from slimmed_run import SLIM, wide_and_slim
from tiny import tiny_config
from tiny_training import same_history

import dmpo_explore as dx
from dmpo_explore.inference.torch_export import export_run
from dmpo_explore.neighbours.slimming.slim import slim, slim_epochs
from dmpo_explore.neighbours.slimming.surgery import vit_blocks, width_of
from dmpo_explore.runs.check import check_folder
from dmpo_explore.training.train import train

pytestmark = pytest.mark.slow  # seconds each: scripts/check runs them

pytest.importorskip("torch_pruning", reason="the extra slim is not installed")


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path_factory.mktemp("slim")))
        yield wide_and_slim()


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


def test_it_needs_no_backbone_file(both: tuple[dx.Run, dx.Run]) -> None:
    """The weights of a config with ``weights`` that are nowhere are all in the run."""
    thin = both[1]
    model = dataclasses.replace(thin.config.model, weights="gone.safetensors")
    config = dataclasses.replace(thin.config, model=model)
    from dmpo_explore.runs.torch_model import load_model

    images = thin.inputs("test", slice(0, 4))
    torch.testing.assert_close(load_model(thin.path, config, 10, "cpu")(images), thin.model("cpu")(images))


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


def test_a_slimmed_run_can_be_slimmed_again(both: tuple[dx.Run, dx.Run]) -> None:
    again = slim(both[1], "thinner", **SLIM | {"heads": 1.0, "epochs": 1, "hidden_epochs": 0, "importance": "last"})
    assert (again.config.model.slimming.heads, again.config.model.slimming.ffn) == ((1,) * 6, (48,) * 6)
    assert again.config.model.slimming.run == "thin" and again.model("cpu").n_exits == 2


@pytest.mark.parametrize(
    "model", [{"tuning": "adapter"}, {"tuning": "full", "train_norm": False}, {"merge": 1}, {"earlier_exits": True}]
)
def test_other_models_can_be_slimmed_too(model: dict[str, Any], runs: Path) -> None:
    wide = train(tiny_config(40, model=model, epochs=1), "wide", device="cpu")
    thin = slim(wide, **SLIM | {"epochs": 1})
    images = wide.inputs("test", slice(0, 4))
    assert thin.name == "wide-slim" and thin.model("cpu")(images).shape == (4, 2, 10)


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


def test_what_cannot_work_is_refused_before_work_starts(both: tuple[dx.Run, dx.Run], monkeypatch: Any) -> None:
    wide, thin = both
    monkeypatch.setattr(dx.Run, "model", lambda *_, **__: pytest.fail("work has started"))
    with pytest.raises(FileExistsError, match="run 'thin' exists"):
        slim(wide, "thin", **SLIM)
    with pytest.raises(ValueError, match="'wide' is the run that is slimmed"):
        slim(wide, "wide", force=True, **SLIM)
    with pytest.raises(ValueError, match="run name 'a/b' must be"):
        slim(wide, "a/b", **SLIM)
    with pytest.raises(ValueError, match="tf_efficientnet_lite0 is none"):
        slim("demo-cnn", "cnn", device="cpu")
    with pytest.raises(ValueError, match="slim that run again"):
        train(thin.config, "trained", device="cpu")


def test_distillation_brings_the_hidden_states_back(both: tuple[dx.Run, dx.Run]) -> None:
    made = slim(both[0], "longer", **SLIM | {"epochs": 4, "hidden_epochs": 4})
    losses = made.history()["loss"].tolist()
    assert losses == sorted(losses, reverse=True) and losses[-1] < 0.8 * losses[0]
