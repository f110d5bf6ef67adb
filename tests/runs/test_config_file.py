"""config.json of runs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
from run_folders import CONFIG

from dmpo_explore.models.bypass import BYPASSES
from dmpo_explore.runs.run_files import read_config
from dmpo_explore.utils.options import option


def test_a_config_is_read_and_an_error_names_its_file(mine: Path) -> None:
    path = mine / "config.json"
    assert read_config(path) == CONFIG
    path.write_text('{"training": {"epochs": 0}}')
    with pytest.raises(ValueError) as raised:
        read_config(path)
    assert str(raised.value) == f"{path}: epochs=0 must be at least 1"


def test_no_depth_of_nesting_is_another_error(mine: Path) -> None:
    path = mine / "config.json"
    for depth in (500, *range(950, 1010), 20_000):
        path.write_text('{"model": ' + "[" * depth + "]" * depth + "}")
        with pytest.raises(ValueError, match=re.escape(str(path))):
            read_config(path)


@dataclass(frozen=True)
class Icing:
    sugar: int = option(0, "Grams of sugar.")


def test_what_is_kept_of_a_config_ends_with_the_part_that_has_its_option(mine: Path) -> None:
    path = mine / "config.json"
    path.write_text('{"model": {"sugar": 3}}')
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BYPASSES, "mine", SimpleNamespace(options=Icing))  # type: ignore[arg-type]
        assert read_config(path) is read_config(path) and read_config(path).model.part(Icing).sugar == 3
    with pytest.raises(ValueError, match="unknown key in config.model 'sugar'"):
        read_config(path)
