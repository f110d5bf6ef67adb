"""Width and config of a slimmed run: `settings`."""

from __future__ import annotations

import pytest

import dmpo_explore as dx
from dmpo_explore.neighbours.slimming.options import Slimming, SlimSettings
from dmpo_explore.neighbours.slimming.settings import address, kept_width, read_settings, resumed_config, slimmed_config

VIT = dx.ModelConfig("test_vit", "random", 32, exits=(2, 4))


def test_shares_are_of_the_backbone_or_of_an_earlier_slimming() -> None:
    assert kept_width(VIT, SlimSettings(0.5, 0.75)) == ((1,) * 4, (144,) * 4)  # only blocks in use
    assert kept_width(VIT, SlimSettings(0.1, 0.001)) == ((1,) * 4, (1,) * 4)  # at least one of each
    again = dx.ModelConfig("test_vit", "random", 32, exits=(2, 4), slimming=Slimming("w", (1,) * 4, (96,) * 4))
    assert kept_width(again, SlimSettings(1.0, 0.5)) == ((1,) * 4, (48,) * 4)
    assert kept_width(dx.ModelConfig("test_vit", "random", 32, exits=3), SlimSettings())[0] == (1,) * 6


@pytest.mark.parametrize("backbone", ["tf_efficientnet_lite0", "swin_tiny_patch4_window7_224", "convnext_atto"])
def test_other_backbones_are_refused_with_the_reason(backbone: str) -> None:
    size = 224 if "swin" in backbone else 64
    with pytest.raises(ValueError, match=f"only plain ViTs have in every block; {backbone} is none"):
        kept_width(dx.ModelConfig(backbone, "random", size, exits=2), SlimSettings())


def test_shares_that_remove_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="remove no head and no neuron"):
        kept_width(VIT, SlimSettings(0.99, 0.999))
    with pytest.raises(ValueError, match="unknown setting of slimming 'width'. Valid: epochs, ffn, heads"):
        read_settings({"width": 0.5})


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
    with pytest.raises(ValueError, match="run 'demo' was not slimmed"):
        resumed_config(demo, "demo", None)


def test_prompts_are_refused_and_regularisation_is_not_kept() -> None:
    with pytest.raises(ValueError, match="tuning='vpt' cannot be merged"):
        kept_width(dx.ModelConfig("test_vit", "random", 32, exits=2, tuning="vpt"), SlimSettings())
    training = slimmed_config(dx.load_run("demo"), SlimSettings()).training
    assert (training.self_regularise, training.cutout, training.distill) == (0.0, "none", 0.0)
