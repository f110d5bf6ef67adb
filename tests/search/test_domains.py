"""Domains of a search: labels, draws, codes, and names that were added to a registry."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from dmpo_explore.config import OPTIONS, Config
from dmpo_explore.models.bypass import BYPASSES
from dmpo_explore.search.space import Choice, Range, read_domain, updated, written


def test_a_choice_keeps_lists_as_json() -> None:
    choice = read_domain("model.exits", [4, [2, 4, 6]], Config())
    assert choice == Choice((4, (2, 4, 6))) and isinstance(choice, Choice)
    assert choice.labels() == [4, "[2, 4, 6]"] and [choice.value(label) for label in choice.labels()] == [4, (2, 4, 6)]
    codes = np.array([choice.encode(label) for label in choice.labels()])
    assert_allclose(np.linalg.norm(codes[0] - codes[1]), 1)


@pytest.mark.parametrize(
    ("domain", "values"),
    [
        (Range(1, 4, whole=True), {1, 2, 3, 4}),
        (Range(1, 4, log=True, whole=True), {1, 2, 3, 4}),
        (Range(2, 7, step=2, whole=True), {2, 4, 6}),
        (Range(0.1, 0.4, step=0.1), {0.1, 0.2, 0.3, 0.4}),
    ],
)
def test_draws_reach_every_value_and_both_ends(domain: Range, values: set[float]) -> None:
    rng = np.random.default_rng(0)
    assert {domain.draw(rng) for _ in range(200)} == values


def test_a_range_is_encoded_from_0_to_1() -> None:
    assert [Range(1, 100, log=True).encode(value) for value in (1, 10, 100)] == [[0.0], [0.5], [1.0]]


def test_what_is_written_is_read_again() -> None:
    for key, found in OPTIONS.items():
        if found.search:
            domain = read_domain(key, found.search, Config())
            assert read_domain(key, written(domain), Config()) == domain


def test_a_name_that_was_added_to_a_registry_can_be_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"space: unknown model.bypass 'mine'. Valid: conv"):
        read_domain("model.bypass", ["none", "mine"], Config())
    monkeypatch.setitem(BYPASSES, "mine", BYPASSES["none"])
    assert read_domain("model.bypass", ["none", "mine"], Config()) == Choice(("none", "mine"))
    assert updated(Config(), {"model.bypass": "mine"}, "fixed").model.bypass == "mine"
