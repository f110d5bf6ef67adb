"""A run's model comes back whole; foreign weights and unknown devices are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from run_folders import CONFIG

from dmpo_explore.models.factory import build_model
from dmpo_explore.runs import torch_model
from dmpo_explore.runs.run import Run
from dmpo_explore.runs.store import load_run
from dmpo_explore.runs.torch_model import find_device, save_weights


def test_inputs_are_what_the_model_wants(mine: Path) -> None:
    run = load_run("mine")
    inputs = run.inputs("test", [3, 1])
    assert (inputs.shape, inputs.dtype, inputs.device.type) == ((2, 3, 32, 32), torch.float32, "cpu")
    preprocess = build_model(CONFIG.model, 10).preprocess
    picture = torch.from_numpy(run.image_set("test")[1].copy()).float().mean() / 255
    mean, std = torch.tensor(preprocess.mean), torch.tensor(preprocess.std)
    assert torch.allclose(inputs[1].mean((1, 2)), (picture - mean) / std, atol=0.05)
    assert torch.equal(run.inputs("test", slice(0, 4))[1], inputs[1])
    with pytest.raises(ValueError, match="no images at rows"):
        run.inputs("test", [])


def test_the_model_comes_back_whole(trained: Run) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    model = trained.model("cpu")
    assert not model.training
    assert torch.equal(torch.get_rng_state(), before)  # the caller's random numbers are left alone
    expected = torch.load(trained.path / "expected.pt", weights_only=True)
    torch.testing.assert_close(model(torch.ones(1, 3, 32, 32)), expected)
    assert trained.model().device.type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_weights_can_be_cast_once_for_autocast(trained: Run) -> None:
    model = trained.model("cpu", merge=True, precision="bf16")
    assert model.precision == "bf16" and {p.dtype for p in model.parameters()} == {torch.float32, torch.bfloat16}
    assert trained.model("cpu", merge=True).precision == "no"
    with pytest.raises(ValueError, match="casts weights for inference: pass merge=True, too"):
        trained.model("cpu", precision="bf16")
    with pytest.raises(ValueError, match="unknown precision 'fp8'"):
        trained.model("cpu", merge=True, precision="fp8")


def test_another_backbone_file_is_refused(trained: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_model, "backbone_sha256", lambda config: "f00d")
    with pytest.raises(
        ValueError, match=r"trained on test_vit weights with sha256 \(none\); weights='random' now has f00d"
    ):
        trained.model("cpu")


def test_weights_of_another_model_are_refused(trained: Run) -> None:
    save_weights(trained.path, {"foreign": torch.zeros(2)}, CONFIG.model)
    with pytest.raises(ValueError, match=r"weights\.safetensors: these weights are not this model's"):
        trained.model("cpu")


def test_other_devices_are_used_where_they_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="device='mps': there is no usable Apple GPU; use auto or cpu"):
        find_device("mps")
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("xpu"))
    assert find_device("xpu").type == "xpu"
    with pytest.raises(ValueError, match="no usable Apple GPU"):
        find_device("mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert find_device("auto").type == "cpu"


def test_devices(trained: Run) -> None:
    with pytest.raises(ValueError, match="unknown device 'gpu'"):
        trained.model("gpu")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="no usable NVIDIA GPU"):
            trained.model("cuda")
