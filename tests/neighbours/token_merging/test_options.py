"""Options of token merging in a config: `options`."""

from __future__ import annotations

import pytest

import dmpo_explore as dx
from dmpo_explore.neighbours.token_merging.options import TokenMerging


def test_they_stand_beside_the_models_own_and_only_where_they_are_chosen() -> None:
    config = dx.Config.from_dict({"model": {"merge": 2}})
    assert config.model.part(TokenMerging) == TokenMerging(2, 3) and config.get("model.merge_from") == 3
    assert dx.Config.from_json(config.to_json()) == config
    assert config.to_arguments() == ["--merge", "2"]
    assert "merge" not in dx.Config().to_dict()["model"]
    assert dx.Config.from_dict({"model": {"merge": 0, "merge_from": 3}}) == dx.Config()  # as earlier versions wrote it


@pytest.mark.parametrize("values", [{"merge": -1}, {"merge_from": 0}])
def test_bad_values_are_refused(values: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(values))}=.* must be at least"):
        dx.Config.from_dict({"model": values})


def test_in_words() -> None:
    assert TokenMerging(1, 4).described() == "1 patch token merged away before each block from block 4 on"
    assert TokenMerging(merge_from=5).described() == ""
