"""Recipes: every one is a valid config, and is printed in full."""

from __future__ import annotations

import pytest

from dmpo_explore.config import OPTIONS, Config, DataConfig
from dmpo_explore.training.part_options import RECIPES, described_recipes, with_recipe


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_changes_its_options_alone(name: str) -> None:
    base = Config(DataConfig("digits", train_size=40))
    found, options = with_recipe(name, base), RECIPES[name].options
    assert all(
        found.get(key) == OPTIONS[key].default if key not in options else True for key in OPTIONS if key[:4] != "data"
    )
    assert Config.from_json(found.to_json()) == found and found.data == base.data
    assert " ".join(found.to_arguments()[4:]) == RECIPES[name].arguments() in described_recipes()


def test_an_unknown_recipe_lists_the_valid_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown recipe 'photograph'. Did you mean 'photographs'\?"):
        with_recipe("photograph", Config())
