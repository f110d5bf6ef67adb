"""Changes of a backbone's trunks, as a plug-in adds them: when they are made, and what a run asks of them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tiny import tiny_config
from torch import Tensor, nn, zeros

from dmpo_explore import Backbone, Config, ModelConfig, Run, build_model, train
from dmpo_explore.inference.torch_export import export_run
from dmpo_explore.joints import TRUNK_CHANGES, TrunkChange
from dmpo_explore.policies.rules import ConfidencePolicy
from dmpo_explore.runs.run_files import backbone_sha256
from dmpo_explore.utils.files import write_text
from dmpo_explore.utils.options import option


@dataclass(frozen=True)
class Doubling:
    doubled: int = option(0, "How often its tokens are doubled.")


@dataclass(frozen=True)
class Wrapping:
    wrapped: bool = option(False, "Whether each trunk is wrapped.")
    source: str = option("", "The run whose weights it starts from.")


class Twice(nn.Module):
    def __init__(self, trunk: nn.Module, times: int) -> None:
        super().__init__()
        self.trunk, self.times = trunk, times

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.trunk(x)
        return out * 2**self.times

    def once(self, x: Tensor, raw: Tensor) -> Tensor:
        return x[:, :2]


def doubled(backbone: Backbone, options: Doubling) -> Backbone:
    return dataclasses.replace(backbone, trunks=[Twice(trunk, options.doubled) for trunk in backbone.trunks])


def wrapped(backbone: Backbone, options: Wrapping) -> Backbone:
    return dataclasses.replace(backbone, trunks=[nn.Sequential(trunk) for trunk in backbone.trunks])


@pytest.fixture(autouse=True)
def added(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TRUNK_CHANGES, "doubling", TrunkChange(Doubling, doubled, order=5))
    change = TrunkChange(
        Wrapping, wrapped, whole=True, parent=lambda own: own.source, described=lambda own: "wrapped once",
        untrainable=lambda own: f"is wrapped from {own.source}" if own.source else "",
        unexportable=lambda own: "is wrapped",
    )  # fmt: skip
    monkeypatch.setitem(TRUNK_CHANGES, "wrapping", change)


def config(**more: Any) -> ModelConfig:
    return ModelConfig("test_vit", "random", 32, exits=2, **more)


def test_they_are_made_in_their_order_and_only_where_they_are_chosen() -> None:
    both = config(wrapped=True, doubled=1)
    trunk = build_model(both, 3).stages[0].trunk
    assert isinstance(trunk, Twice) and len(list(trunk.trunk.children())) == 1
    assert isinstance(build_model(both.unchanged(), 3).stages[0].trunk[0].mlp, nn.Module)  # type: ignore[index]
    assert both.unchanged() == config()


def test_a_predictor_reads_what_the_trunk_says() -> None:
    model = build_model(config(doubled=1, bypass="none", predictor="linear", last_bypass="none", read="mean"), 3).eval()
    seen: list[Tensor] = []
    model.stages[0].predictor.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    model(zeros(1, 3, 32, 32))
    assert seen[0].shape[1] == 2


def test_a_run_asks_whether_it_needs_weights_and_where_they_came_from() -> None:
    ours = config(wrapped=True, source="mine")
    assert (ours.whole, ours.parent) == (True, "mine")
    assert (config(doubled=1).whole, config(doubled=1).parent) == (False, "")
    assert backbone_sha256(dataclasses.replace(ours, weights="auto", backbone="vit_small_patch14_dinov2")) == ""


@pytest.mark.usefixtures("runs")
def test_training_and_export_are_refused_with_its_reason(tmp_path: Path) -> None:
    changed = tiny_config(model={"wrapped": True, "source": "mine"})
    write_text(tmp_path / "run" / "config.json", changed.to_json())
    run, policy = Run(tmp_path / "run"), ConfidencePolicy((0.5,))
    with pytest.raises(ValueError, match="this config is wrapped from mine"):
        train(changed, "again", device="cpu")
    with pytest.raises(ValueError, match="run 'run' is wrapped"):
        export_run(run, tmp_path / "out", policy)


@pytest.mark.usefixtures("runs")
def test_a_run_with_one_is_trained_and_its_card_says_so() -> None:
    run = train(tiny_config(60, epochs=1, model={"wrapped": True}), "wrapped", device="cpu")
    assert "\nWrapped once." in run.card() and Config.from_json(run.config.to_json()).model.whole
