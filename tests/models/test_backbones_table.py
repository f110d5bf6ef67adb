"""docs/backbones.md and the evidence are true: every backbone of the table goes the whole way, and the example runs."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from answers import as_recorded
from calls import call
from plugged import plugged
from synthetic import between, make_meta
from tiny import tiny_options
from torch import Tensor, nn
from torch.nn import functional as F

from dmpo_explore import DMPO, ExitRecord, ModelConfig, infer, load_run, record_split
from dmpo_explore.models.factory import assemble, build_model
from dmpo_explore.models.timm_backbones import FAMILIES
from dmpo_explore.models.tuning import merge
from dmpo_explore.policies.rules import ConfidencePolicy
from dmpo_explore.runs.torch_model import read_weights, save_weights

pytestmark = pytest.mark.slow  # seconds each: scripts/check runs them

DOCUMENT = (Path(__file__).parents[2] / "docs" / "backbones.md").read_text(encoding="utf-8")
EVIDENCE = (Path(__file__).parents[2] / "benchmarks" / "EVIDENCE.md").read_text(encoding="utf-8")
SECTION = EVIDENCE.split("\n### Six classes")[1].split("\n## ")[0]
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")] for line in re.findall(r"^\| `.*\|$", SECTION, flags=re.M)
]
CHECKED = {name: (row, int(blocks)) for row in ROWS for name, blocks in re.findall(r"`(\w+)` \((\d+)\)", row[4])}
LARGE = {
    name for name in CHECKED if not name.startswith("test_") and len(re.findall(r"`(\w+)` \(", CHECKED[name][0][4])) > 1
}
QUICK = [
    pytest.param(name, marks=[pytest.mark.slow] if name in LARGE else []) for name in CHECKED
]  # some of every family
C, BATCH = 5, 6
SMALL = 32  # pixels; hierarchical ones shrink 32 times, so they get twice as many


def size_of(name: str) -> int:
    return SMALL if CHECKED[name][0][1] == "tokens" else 2 * SMALL


def config(name: str, exits: int, tuning: str = "lora") -> ModelConfig:
    return ModelConfig(
        name, "random", size_of(name), exits=exits, tuning=tuning, rank=2, bypass_width=6, channels=20
    )  # fmt: skip


def made(settings: ModelConfig) -> DMPO:
    """Equal settings give equal models; residual branches that start at zero (ResNet's) are opened."""
    torch.manual_seed(0)
    model = assemble(settings, C)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and not module.weight.any():
            nn.init.constant_(module.weight, 0.5)
    return model


@cache
def pictures(name: str) -> Tensor:
    return torch.randn(BATCH, 3, size_of(name), size_of(name), generator=torch.Generator().manual_seed(1))


LABELS = torch.arange(BATCH) % C


def train_a_step(model: DMPO, images: Tensor) -> None:
    """Afterwards all that trains has moved, also what lies under a zero-initialised layer."""
    weights = {name: p for name, p in model.named_parameters() if p.requires_grad}
    frozen = {name: value.clone() for name, value in model.state_dict().items() if name not in weights}
    optimizer = torch.optim.AdamW(weights.values(), lr=1e-2)
    before = {name: p.detach().clone() for name, p in weights.items()}
    for _ in range(2):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images).flatten(0, 1), LABELS.repeat_interleave(len(model.stages)))
        loss.backward()
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in weights.values())
        optimizer.step()
    assert not [name for name, p in weights.items() if torch.equal(p, before[name])]
    assert all(torch.equal(value, frozen[name]) for name, value in model.state_dict().items() if name in frozen)


@pytest.mark.parametrize("exits", [3, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 4))])
@pytest.mark.parametrize("name", QUICK)
def test_a_backbone_of_the_table_goes_the_whole_way(name: str, exits: int, tmp_path: Path) -> None:
    settings, images = config(name, exits), pictures(name)
    model = made(settings)
    assert model.exits == tuple(round((k + 1) * CHECKED[name][1] / exits) for k in range(exits))
    assert {stage.layout for stage in model.stages} == {CHECKED[name][0][1]}
    train_a_step(model, images)

    meta = make_meta(BATCH, exits, C, exits=model.exits, flops=tuple(range(1, exits + 1)), reference_flops=exits)
    record = record_split(model, [(images, LABELS)], meta)
    policy = ConfidencePolicy((between(record.confidence, 0.5),))
    as_recorded(infer(model, images, policy), policy, record)

    save_weights(tmp_path, model.trainable_state(), settings)
    again = made(settings)
    again.load_trainable(read_weights(tmp_path))
    with torch.no_grad():
        before = model.eval()(images)
        assert torch.equal(again.eval()(images), before)
        assert merge(model) > 0
        torch.testing.assert_close(model(images), before, rtol=1e-4, atol=1e-4)
    assert not [key for key in model.state_dict() if "lora" in key]


@pytest.mark.parametrize("name", QUICK)
def test_the_columns_of_the_table_are_true(name: str) -> None:
    kind, layout, lora, adapter, _ = CHECKED[name][0]
    whole: Any = timm.create_model(name, device="meta")
    assert kind == f"`{type(whole).__name__}`"
    model = made(config(name, 1))
    tuned = {key.split(".lora_A")[0].rpartition(".")[2] for key in model.state_dict() if ".lora_A." in key}
    assert tuned and tuned <= set(lora.split(", "))
    stage: Any = made(config(name, 1, "adapter")).stages[0]
    beside = {type(module).__name__ for module in stage.trunk.modules()} & {"ParallelAdapter", "ConvAdapter"}
    assert {"ParallelAdapter": "beside the MLP", "ConvAdapter": "beside the block"}[beside.pop()] in adapter
    assert not beside and layout in ("tokens", "channels_first", "channels_last")


def test_the_table_holds_every_family_and_a_dozen_backbones() -> None:
    assert [row[0].strip("`") for row in ROWS] == list(FAMILIES)
    assert len(CHECKED) >= 12


@pytest.mark.slow
@pytest.mark.usefixtures("runs", "fetched_cnn")
@pytest.mark.parametrize(("backbone", "weights"), [("tf_efficientnet_lite0", "auto"), ("convnext_atto", "random")])
def test_the_command_line_goes_end_to_end_on_digits(backbone: str, weights: str) -> None:
    options = tiny_options(train_size=40, epochs=1, backbone=backbone, weights=weights, image_size=64, exits="3,8,12")
    call("train", *options, "--name", "mine")
    for split in ("val", "test"):
        call("record", "mine", "--split", split)
    row = json.loads(call("evaluate", "mine", "--flops", "0.9", "--json").stdout)
    assert row["run"] == "mine" and 0 < row["accuracy"] <= 1
    record = load_run("mine").record("test")
    assert record.meta.model == backbone and record.n_exits == 3
    assert list(record.flops_fraction) == sorted(record.flops_fraction)


def test_the_example_runs_as_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From a module of one's own to a record and a fitted policy."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    names: dict[str, Any] = {}
    for code in re.findall(r"```python\n(.*?)```", DOCUMENT, re.S):  # those without a title
        exec(compile(code, "docs/backbones.md", "exec"), names)
    exits = [int(number) for number in re.findall(r"\d+", capsys.readouterr().out)]
    assert len(exits) == 64 and set(exits) <= {0, 1, 2}
    assert names["loss"].item() < 3 * np.log(10)  # three exits learnt something about random pictures
    assert names["model"].exits == (1, 2, 3)
    assert ExitRecord.load(tmp_path / "my-records" / "val").n_images == 64


def test_the_functions_of_the_page_make_backbones(tmp_path: Path) -> None:
    """`my_net.py` whole; of `my_vision.py` the torchvision one, without its weights to download."""
    codes = dict(re.findall(r'```python title="(\w+).py"\n(.*?)```', DOCUMENT, re.S))
    for name, function, blocks in (("my_net", "make", 6), ("my_vision", "mobilenet", 13)):
        path = tmp_path / f"{name}.py"
        path.write_text(codes[name].replace('weights="DEFAULT"', ""), encoding="utf-8")
        with plugged(path):
            settings = ModelConfig(
                f"{name}.py:{function}", image_size=64, exits=3, tuning="none", channels=4, bypass_width=4
            )
            assert build_model(settings, C).exits[-1] == blocks
