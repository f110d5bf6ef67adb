"""config.json of runs, also of earlier versions."""

from __future__ import annotations

from pathlib import Path

import pytest
from run_folders import CONFIG

from dmpo_explore.runs.config_file import read_config, with_defaults


def test_a_config_is_read_and_an_error_names_its_file(mine: Path) -> None:
    path = mine / "config.json"
    assert read_config(path) == CONFIG
    path.write_text('{"training": {"epochs": 0}}')
    with pytest.raises(ValueError) as raised:
        read_config(path)
    assert str(raised.value) == f"{path}: epochs=0 must be at least 1"


def test_configs_without_a_calibration_option_have_no_such_split() -> None:
    assert with_defaults({"data": {"name": "digits"}}) == {"data": {"name": "digits", "calibration": False}}
    assert with_defaults({"data": {"calibration": True}}) == {"data": {"calibration": True}}
    assert with_defaults([1]) == [1] and with_defaults({"data": 3}) == {"data": 3}
