"""Which of many classes are shown: against plain sorting, whatever is searched for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from dmpo_explore_app.services.class_rows import ENDS, ORDERS, PAGE, ClassView, found, rows
from made_up import LONG, make_many
from synthetic import make_record

import dmpo_explore as dx


def outcome(n_classes: int) -> dx.Outcome:
    record = make_many(n_classes, 900)
    return dx.Outcome(record, np.random.default_rng(0).integers(4, size=record.n_images))


MANY = outcome(101)
TABLE = dx.analysis.class_metrics(MANY)


def test_both_ends_are_those_of_the_table() -> None:
    shown, pages = rows(MANY, ClassView(), set())
    assert pages == 1 and len(shown) == 2 * ENDS + 1 and shown[ENDS] is None
    lost = (TABLE["accuracy"] - TABLE["accuracy_4"]).dropna()
    found, ranked = [lost[c] for c in shown if c is not None], sorted(lost)
    assert found == pytest.approx([*ranked[:ENDS], *ranked[-ENDS:]])
    late, _ = rows(MANY, ClassView(order="mean exit"), set())
    exits = [TABLE["mean_exit"][c] for c in late if c is not None]
    assert exits == sorted(exits, reverse=True) and exits[0] == TABLE["mean_exit"].max()


@pytest.mark.parametrize("order", ORDERS)
def test_pages_hold_every_class_once(order: str) -> None:
    view = ClassView(order=order, view="all")
    _, pages = rows(MANY, view, set())
    together: list[Any] = [c for page in range(pages) for c in rows(MANY, view, set(), page)[0]]
    assert sorted(together) == list(range(101)) and pages == -(-101 // PAGE)
    if order in ("points", "compute", "accuracy", "mean exit"):
        assert together[-1] == 100  # it has no image
    if order == "images":
        counts = TABLE["images"][together].tolist()
        assert counts == sorted(counts, reverse=True)


def test_names_are_found_by_their_words_in_any_case() -> None:
    names = MANY.record.meta.class_names
    assert names[2] == LONG and found(names, "HAWK red-shouldered").tolist() == [2]
    assert found(names, "").size == 101 and not found(names, "zebra").size
    shown, _ = rows(MANY, ClassView(find="beetle"), set())
    assert {names[c] for c in shown if c is not None} == {name for name in names if "beetle" in name}


def test_a_chosen_class_is_shown_first() -> None:
    (first, *rest), _ = rows(MANY, ClassView(find="beetle"), {0})
    assert first == 0 and 0 not in rest
    assert rows(MANY, ClassView(find="zebra"), set()) == ([], 1)


def test_few_classes_are_all_shown_in_order() -> None:
    few = dx.Outcome(make_record(60, 3, 10), np.zeros(60, np.int64))
    shown, pages = rows(few, ClassView("x", "accuracy", "ends"), {3})
    right = [few.correct[few.record.labels == c].mean() for c in shown]
    assert sorted(shown) == list(range(10)) and right == sorted(right) and pages == 1  # type: ignore[type-var]
