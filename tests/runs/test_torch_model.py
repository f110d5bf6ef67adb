"""A run's model comes back whole; foreign, broken and other frozen weights and unknown devices are refused."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from plugged import plugged
from run_folders import CONFIG
from tiny import tiny_config
from tiny_training import stop_after
from torch import nn

from dmpo_explore.config import Config
from dmpo_explore.models.dmpo import hash_frozen
from dmpo_explore.models.factory import build_model
from dmpo_explore.runs import Run, load_run, read_weights_meta, torch_model
from dmpo_explore.runs.torch_model import find_device, read_weights, require_same_frozen, save_weights
from dmpo_explore.training.teacher import Teacher
from dmpo_explore.training.train import train


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


def test_a_failed_save_keeps_the_old_weights(trained: Run) -> None:
    before = (trained.path / "weights.safetensors").read_bytes()
    with pytest.raises(AttributeError):
        save_weights(trained.path, {"a": None}, CONFIG.model)  # type: ignore[dict-item]
    assert (trained.path / "weights.safetensors").read_bytes() == before
    assert not list(trained.path.glob(".weights*"))


# -- what is refused --


def holds(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def foreign(name: str) -> Callable[[Path], object]:
    return lambda path: save_weights(path.parent, {name: torch.zeros(2)}, CONFIG.model)


UNREADABLE = r"weights\.safetensors is not a readable safetensors file"


@pytest.mark.parametrize(
    ("spoil", "error", "words"),
    [
        *(
            (holds(content), ValueError, UNREADABLE)
            for content in (b"", b"text", pickle.dumps({"a": 1}), json.dumps({"a": 1}).encode())
        ),
        (lambda path: path.write_bytes(path.read_bytes()[:-10]), ValueError, UNREADABLE),
        (lambda path: path.write_bytes(path.read_bytes()[:20]), ValueError, UNREADABLE),
        (Path.unlink, FileNotFoundError, r"run 'mine' has no weights.*--resume"),
        (foreign("foreign"), ValueError, r"weights\.safetensors: these weights are not this model's"),
    ],
)
def test_weights_of_no_or_another_model_are_named(
    trained: Run, spoil: Callable[[Path], object], error: type[Exception], words: str
) -> None:
    spoil(trained.path / "weights.safetensors")
    with pytest.raises(error, match=words):
        load_run("mine").model("cpu")


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"precision": "bf16"}, "casts weights for inference: pass merge=True, too"),
        ({"merge": True, "precision": "fp8"}, "unknown precision 'fp8'"),
        ({"device": "gpu"}, "unknown device 'gpu'"),
        ({"device": "cuda"}, "no usable NVIDIA GPU"),
        ({"device": "mps"}, "device='mps': there is no usable Apple GPU; use auto or cpu"),
    ],
)
def test_no_such_device_or_precision(
    trained: Run, asked: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=words):
        trained.model(**{"device": "cpu"} | asked)


def test_another_backbone_file_is_refused(trained: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_model, "backbone_sha256", lambda config: "f00d")
    with pytest.raises(
        ValueError, match=r"trained on test_vit weights with sha256 \(none\); weights='random' now has f00d"
    ):
        trained.model("cpu")


def test_other_devices_are_used_where_they_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("xpu"))
    assert find_device("xpu").type == "xpu"
    with pytest.raises(ValueError, match="no usable Apple GPU"):
        find_device("mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert find_device("auto").type == "cpu"


# -- a backbone of one's own is identified by its frozen weights --

SOURCE = """
from pathlib import Path
import torch
from torch import nn
import dmpo_explore as dx

def make(image_size):
    net = nn.Sequential(nn.Conv2d(3, 8, 8, 8), nn.Sequential(*(nn.Conv2d(8, 8, 3, padding=1) for _ in range(3))))
    net.load_state_dict(torch.load(Path(__file__).with_name("trunk.pt"), weights_only=True))
    return dx.models.cut_chain(net, "1", image_size=image_size)
"""


@pytest.fixture
def trunk(tmp_path: Path) -> Iterator[Path]:
    """The file of weights that the plug-in's function loads."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 8, 8), nn.Sequential(*(nn.Conv2d(8, 8, 3, padding=1) for _ in range(3))))
    torch.save(net.state_dict(), tmp_path / "trunk.pt")
    (tmp_path / "tiny_net.py").write_text(SOURCE, encoding="utf-8")
    with plugged(tmp_path / "tiny_net.py"):
        yield tmp_path / "trunk.pt"


def own(**changes: Any) -> Config:
    return tiny_config(model={"backbone": "tiny_net.py:make", "weights": "auto", "channels": 4, **changes}, epochs=2)


def change(file: Path) -> None:
    """One of its weights is another one."""
    state = torch.load(file, weights_only=True)
    state["1.1.weight"][0, 0, 0, 0] += 1e-3
    torch.save(state, file)


def facts(run: Run) -> dict[str, Any]:
    return Teacher(run, 0, "same").facts()


@pytest.mark.slow
def test_other_frozen_weights_are_noticed(trunk: Path) -> None:
    stop_after(1, own(), "mine")
    run = load_run("mine")
    before = facts(run)
    assert before["backbone_sha256"] == read_weights_meta(run.path)["frozen_sha256"] != ""
    run.model("cpu")
    change(trunk)
    with pytest.raises(ValueError, match="run 'mine' was trained on other weights of tiny_net.py:make than it has"):
        run.model("cpu")
    with pytest.raises(ValueError, match="run 'mine' was trained on other weights"):
        train(own(), "mine", resume=True, device="cpu")
    train(own(), "mine", force=True, device="cpu")
    assert facts(run)["backbone_sha256"] not in ("", before["backbone_sha256"])


def test_a_run_that_names_none_opens_as_before(trunk: Path) -> None:
    stop_after(1, own(), "mine")
    run = load_run("mine")
    save_weights(run.path, read_weights(run.path), run.config.model, run.class_names)
    change(trunk)
    run.model("cpu")
    assert facts(run)["backbone_sha256"] == ""
    require_same_frozen(run.path.parent, build_model(own().model, 3))  # no weights yet


def test_only_frozen_weights_count(trunk: Path) -> None:
    def hashed(tuning: str) -> str:
        return build_model(own(tuning=tuning).model, 3).frozen_sha256

    before = {tuning: hashed(tuning) for tuning in ("full", "lora-all", "none")}
    assert before["lora-all"] == before["none"] != before["full"]
    change(trunk)
    after = {tuning: hashed(tuning) for tuning in before}
    assert {tuning for tuning in before if before[tuning] == after[tuning]} == {"full"}
    timms = build_model(tiny_config().model, 3)
    assert timms.frozen_sha256 == "" != hash_frozen(timms)
