"""A backbone of one's own is identified by its frozen weights: other ones are noticed when a run is opened."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from plugged import plugged
from tiny import tiny_config
from tiny_training import stop_after
from torch import nn

from dmpo_explore.config import Config
from dmpo_explore.models.dmpo import hash_frozen
from dmpo_explore.models.factory import build_model
from dmpo_explore.runs.run import Run
from dmpo_explore.runs.run_files import read_weights_meta
from dmpo_explore.runs.store import load_run
from dmpo_explore.runs.torch_model import read_weights, require_same_frozen, save_weights
from dmpo_explore.training.teacher import Teacher
from dmpo_explore.training.train import train

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
