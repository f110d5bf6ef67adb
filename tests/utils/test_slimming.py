"""The part of a config that tells how wide a slimmed run is: `slimming`."""

from __future__ import annotations

from typing import Any

import pytest

from dmpo_explore.config import Config, ModelConfig
from dmpo_explore.utils.slimming import Slimming


def test_a_config_keeps_it_and_older_ones_have_none() -> None:
    slimming = Slimming("wide", (3, 2), (768, 700), "last", 2)
    config = Config(model=ModelConfig(tuning="full", slimming=slimming))
    assert Config.from_json(config.to_json()) == config
    assert "slimming" not in Config().to_json()  # so that earlier versions read it
    assert Config.from_json(Config().to_json()).model.slimming == Slimming() and not Slimming()
    assert slimming.described() == "slimmed from wide: 2 to 3 heads and 700 to 768 neurons a block"
    assert Slimming().described() == "" and Slimming("w", (1,), (5,)).described().endswith(
        "1 head and 5 neurons a block"
    )


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
def test_bad_values_are_refused(values: dict[str, Any], message: str) -> None:
    config = Config().to_dict()
    config["model"]["slimming"] = values
    with pytest.raises(ValueError, match=message):
        Config.from_dict(config)
