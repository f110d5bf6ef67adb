"""The record of a slimming in a config, the settings of the command, and what they make of a run's width and config."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

import dmpo_explore as dx
from dmpo_explore.config import Config, ModelConfig
from dmpo_explore.neighbours.slimming.options import Slimming, SlimSettings
from dmpo_explore.neighbours.slimming.settings import address, kept_width, read_settings, resumed_config, slimmed_config
from dmpo_explore.runs.hub import hub_card


def test_a_config_keeps_it_and_older_ones_have_none() -> None:
    slimming = Slimming("wide", (3, 2), (768, 700), "last", 2)
    config = Config(model=ModelConfig(tuning="full", more=(slimming,)))
    assert Config.from_json(config.to_json()) == config and config.model.part(Slimming) == slimming
    assert config.to_dict()["model"]["slimming"]["ffn"] == (768, 700)
    assert "slimming" not in Config().to_json()  # so that earlier versions read it
    assert Config.from_json(Config().to_json()).model.part(Slimming) == Slimming() and not Slimming()
    assert (config.model.whole, config.model.parent) == (True, "wide")
    assert (ModelConfig().whole, ModelConfig().parent) == (False, "")


@pytest.mark.parametrize(
    ("slimming", "words"),
    [
        (Slimming("wide", (3, 2), (768, 700)), "slimmed from wide: 2 to 3 heads and 700 to 768 neurons a block"),
        (Slimming("w", (1,), (5,)), "slimmed from w: 1 head and 5 neurons a block"),
        (Slimming(), ""),
    ],
)
def test_in_words(slimming: Slimming, words: str) -> None:
    assert slimming.described() == words


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"heads": [3]}, r"heads=\[3\] and ffn=\[\]: give one number of each per block"),
        ({"heads": [3, 0], "ffn": [5, 5]}, "at least 1"),
        ({"heads": [3], "ffn": [2.5]}, r"slimming.ffn\[0\]=2.5 has the wrong type"),
        ({"importance": "first"}, "unknown importance 'first'. Valid: all, last"),
        ({"hidden_epochs": -1}, "hidden_epochs=-1 must be at least 0"),
        ({"width": 3}, "unknown key in config.model.slimming 'width'"),
    ],
)
def test_a_bad_record_is_refused(values: dict[str, Any], message: str) -> None:
    config = Config().to_dict()
    config["model"]["slimming"] = values
    with pytest.raises(ValueError, match=message):
        Config.from_dict(config)


ONLY_VITS = "only plain ViTs have in every block; {} is none"
VIT = dx.ModelConfig("test_vit", "random", 32, exits=(2, 4))


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: SlimSettings(heads=0.0), r"heads=0.0 must lie in \(0, 1\]"),
        (lambda: SlimSettings(ffn=1.5), r"ffn=1.5 must lie in \(0, 1\]"),
        (lambda: SlimSettings(heads=1.0, ffn=1.0), "keep everything"),
        (lambda: SlimSettings(steps=0), "steps=0 must be at least 1, or None"),
        (lambda: SlimSettings(importance="first"), "unknown importance 'first'. Valid: all, last"),
        (lambda: SlimSettings(epochs=0), "epochs=0 must be at least 1"),
        (lambda: SlimSettings(lr=0.0), "lr=0.0 must be a finite number above 0"),
        (lambda: SlimSettings(images=0), "images=0 must be at least 1"),
        (lambda: read_settings({"width": 0.5}), "unknown setting of slimming 'width'. Valid: epochs, ffn, heads"),
        (lambda: kept_width(VIT, SlimSettings(0.99, 0.999)), "remove no head and no neuron"),
        (
            lambda: kept_width(dataclasses.replace(VIT, tuning="vpt"), SlimSettings()),
            "tuning='vpt' cannot be merged",
        ),
        *(
            (
                lambda name=name, size=size: kept_width(dx.ModelConfig(name, "random", size, exits=2), SlimSettings()),
                ONLY_VITS.format(name),
            )
            for name, size in (
                ("tf_efficientnet_lite0", 64), ("swin_tiny_patch4_window7_224", 224), ("convnext_atto", 64),
            )
        ),
        (lambda: resumed_config(dx.load_run("demo"), "demo", None), "run 'demo' was not slimmed"),
    ],
)  # fmt: skip
def test_bad_settings_are_refused(ask: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ask()


def test_shares_are_of_the_backbone_or_of_an_earlier_slimming() -> None:
    assert kept_width(VIT, SlimSettings(0.5, 0.75)) == ((1,) * 4, (144,) * 4)  # only blocks in use
    assert kept_width(VIT, SlimSettings(0.1, 0.001)) == ((1,) * 4, (1,) * 4)  # at least one of each
    again = dx.ModelConfig("test_vit", "random", 32, exits=(2, 4), slimming=Slimming("w", (1,) * 4, (96,) * 4))
    assert kept_width(again, SlimSettings(1.0, 0.5)) == ((1,) * 4, (48,) * 4)
    assert kept_width(dx.ModelConfig("test_vit", "random", 32, exits=3), SlimSettings())[0] == (1,) * 6


def test_the_config_keeps_the_parents_images_and_model() -> None:
    parent = dx.load_run("fashion")
    config = slimmed_config(parent, SlimSettings(epochs=10, lr=1e-4))
    before, after = parent.config, config
    assert (after.model.exits, after.model.predictor, after.data.name) == (
        (2, 4, 6, 8, 10, 12),
        "covariance",
        before.data.name,
    )
    assert after.model.tuning == "full" and after.model.train_norm and after.model.slimming.run == "fashion"
    training = after.training
    assert (training.epochs, training.tuning_lr, training.predictor_lr, training.warmup_epochs) == (10, 1e-4, 1e-4, 1)
    assert (training.schedule, training.coupling, training.weight_decay) == ("uniform", "none", 0.01)


def test_a_parent_is_found_by_name_or_folder() -> None:
    demo = dx.load_run("demo")
    assert address(demo) == "demo"
    assert address(dx.Run(demo.path.parent / "nowhere")) == str(demo.path.parent / "nowhere")


def test_regularisation_is_not_kept() -> None:
    training = slimmed_config(dx.load_run("demo"), SlimSettings()).training
    assert (training.self_regularise, training.cutout, training.distill) == (0.0, "none", 0.0)


def test_the_hubs_card_says_whether_it_holds_the_whole_model() -> None:
    pytest.importorskip("huggingface_hub")
    demo = dx.load_run("demo")
    model = dataclasses.replace(demo.config.model, slimming=Slimming("demo", (3,) * 12, (768,) * 12))
    config = dataclasses.replace(demo.config, model=model)
    slimmed: Any = SimpleNamespace(config=config, name="half", card=lambda: "# half", policies=dict)
    assert "holds the whole model" in hub_card(slimmed, {})
    assert "holds the trained parts" in hub_card(demo, {})
