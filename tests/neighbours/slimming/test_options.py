"""The record of a slimming in a config, and the settings of the command: `options`."""

from __future__ import annotations

from typing import Any

import pytest

from dmpo_explore.config import Config, ModelConfig
from dmpo_explore.neighbours.slimming.options import Slimming, SlimSettings


def test_a_config_keeps_it_and_older_ones_have_none() -> None:
    slimming = Slimming("wide", (3, 2), (768, 700), "last", 2)
    config = Config(model=ModelConfig(tuning="full", more=(slimming,)))
    assert Config.from_json(config.to_json()) == config and config.model.part(Slimming) == slimming
    assert config.to_dict()["model"]["slimming"]["ffn"] == (768, 700)
    assert "slimming" not in Config().to_json()  # so that earlier versions read it
    assert Config.from_json(Config().to_json()).model.part(Slimming) == Slimming() and not Slimming()
    assert (config.model.whole, config.model.parent) == (True, "wide")
    assert (ModelConfig().whole, ModelConfig().parent) == (False, "")


def test_in_words() -> None:
    slimming = Slimming("wide", (3, 2), (768, 700))
    assert slimming.described() == "slimmed from wide: 2 to 3 heads and 700 to 768 neurons a block"
    assert Slimming("w", (1,), (5,)).described().endswith("1 head and 5 neurons a block")
    assert Slimming().described() == ""


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


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"heads": 0.0}, r"heads=0.0 must lie in \(0, 1\]"),
        ({"ffn": 1.5}, r"ffn=1.5 must lie in \(0, 1\]"),
        ({"heads": 1.0, "ffn": 1.0}, "keep everything"),
        ({"steps": 0}, "steps=0 must be at least 1, or None"),
        ({"importance": "first"}, "unknown importance 'first'. Valid: all, last"),
        ({"epochs": 0}, "epochs=0 must be at least 1"),
        ({"lr": 0.0}, "lr=0.0 must be a finite number above 0"),
        ({"images": 0}, "images=0 must be at least 1"),
    ],
)
def test_bad_settings_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SlimSettings(**values)
