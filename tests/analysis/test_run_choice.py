"""Which of several runs to take: the best that keeps the limits, and why others are refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from synthetic import make_record

import dmpo_explore as dx
from dmpo_explore.analysis.metrics import parts
from dmpo_explore.analysis.run_choice import choose_run, run_differences

RECORD = make_record(400, 4, 10, seed=3)


def at(exit: int) -> dx.Outcome:
    return dx.Outcome(RECORD, np.full(RECORD.n_images, exit))


OTHERS = {  # of other images, even where the labels are alike
    "mine": at(0),
    "theirs": dx.Outcome(make_record(400, 4, 10, seed=3, indices=np.arange(400) + 400), np.zeros(400, int)),
}


def test_the_most_accurate_run_that_is_allowed_is_best_and_the_next_is_named() -> None:
    outcomes = {"early": at(0), "late": at(3)}
    found = choose_run(outcomes)
    assert (found.best, found.next, found.reference) == ("late", "early", "early")
    assert found.lead == dx.bootstrap_difference(at(3).correct, at(0).correct) and found.lead[1] > 0
    found = choose_run(outcomes, refused={"late": "too dear"})
    assert (found.best, found.next, found.lead) == ("early", None, None)
    assert found.table["reason"].tolist() == ["", "too dear"]


def test_of_runs_that_cannot_be_told_apart_the_cheaper_one_is_best() -> None:
    outcomes = {"dear": at(3), "cheap": at(3)}
    assert choose_run(outcomes, costs={"dear": 2.0, "cheap": 1.0}).best == "cheap"
    assert choose_run(outcomes, costs={"dear": 1.0, "cheap": 2.0}).best == "dear"
    assert choose_run({"all": at(3), "first": at(0)}, costs={"all": 9.0, "first": 1.0}).best == "all"


def test_a_tie_and_the_interval_beside_it_never_contradict_each_other() -> None:
    correct = np.arange(400) < 200
    better = correct.copy()
    better[200:204] = True  # four images in favour of one run, none of the other
    outcomes = {}
    for name, right in (("dear", better), ("cheap", correct)):
        answers = np.where(right, RECORD.labels, (RECORD.labels + 1) % 10)
        record = replace(RECORD, logits=None, prediction=answers[:, None].repeat(4, 1).astype(np.int32))
        outcomes[name] = dx.Outcome(record, np.full(400, 3))
    found = choose_run(outcomes, costs={"dear": 2.0, "cheap": 1.0})
    assert found.lead is not None
    difference, low, high = found.lead
    assert (found.best == "cheap") == (low <= 0 <= high) and abs(difference) == pytest.approx(0.01)
    assert (difference < 0) == (found.best == "cheap")


def test_what_loses_more_than_is_allowed_is_refused_with_the_number() -> None:
    lost = float(RECORD.correct[:, 3].mean() - RECORD.correct[:, 0].mean())
    table = choose_run({"early": at(0), "late": at(3)}, lose=lost - 0.001).table
    assert table["reason"].tolist() == ["", f"loses {100 * lost:.2f} points, more than {100 * (lost - 0.001):g}"]
    assert not choose_run({"early": at(0)}, lose=lost).table["reason"].any()
    none = choose_run({"early": at(0)}, lose=0.0)
    assert none.best is none.next is none.lead is None


def answers(*right: int, split: str = "test") -> dx.Outcome:
    """An outcome with so many correct images in each quarter of 100."""
    correct = np.concatenate([np.arange(100) < n for n in right])
    said = np.where(correct, RECORD.labels, (RECORD.labels + 1) % 10)
    record = replace(RECORD, logits=None, prediction=said[:, None].repeat(4, 1).astype(np.int32))
    return dx.Outcome(replace(record, meta=replace(record.meta, split=split)), np.full(400, 3))


def test_runs_are_judged_on_held_out_images_unless_the_shown_ones_contradict() -> None:
    full, cheap, mid = answers(100, 100, 100, 60), answers(100, 100, 60, 60), answers(100, 100, 96, 60)
    costs = {"full": 3.0, "mid": 2.0, "cheap": 1.0}
    held_out = {"full": full, "mid": mid, "cheap": mid}
    for lose, best in ((0.02, "mid"), (0.12, "cheap")):  # 10 points on the shown images are surely more than 2
        found = choose_run({"full": full, "mid": mid, "cheap": cheap}, lose, {"full": "it"}, costs, held_out=held_out)
        assert (found.reference, found.best) == ("full", best)
    judged = {
        name: answers(*right, split="val")
        for name, right in {"full": (100, 90, 90, 90), "cheap": (90, 90, 90, 90)}.items()
    }
    found = choose_run({"full": full, "cheap": cheap}, 0.01, held_out=judged)
    assert found.table["reason"].tolist() == ["", "on val it loses 2.50 points, more than 1"]
    found = choose_run({"full": full, "cheap": cheap}, 0.03, {"full": "it"}, held_out=judged)
    assert found.best is None and found.table["reason"].iloc[-1].startswith(
        "at most 3 on val, but on test it loses 10.00 points"
    )
    close = {"full": full, "mid": full, "cheap": full}
    for shown, best in ((cheap, "mid"), (full, "cheap")):
        outcomes = {"full": full, "mid": full, "cheap": shown}
        assert choose_run(outcomes, None, None, costs, held_out=close).best == best


def test_differences_are_those_of_the_bootstrap() -> None:
    table = run_differences({"early": at(0), "late": at(3)}, "early")
    expected = dx.bootstrap_difference(at(3).correct, at(0).correct)
    assert tuple(table[["difference", "low", "high"]].iloc[1]) == expected
    assert table["compute"].tolist() == RECORD.flops_fraction[[0, 3]].tolist()


def test_the_same_images_are_compared_whatever_their_data_are_called() -> None:
    named = dx.Outcome(replace(RECORD, meta=replace(RECORD.meta, data="my-data")), np.zeros(400, int))
    assert choose_run({"mine": at(3), "named otherwise": named}).best == "mine"


def test_a_run_beside_itself_differs_by_nothing() -> None:
    assert run_differences({"run": at(3)}, "run")[["difference", "low", "high"]].to_numpy().tolist() == [[0, 0, 0]]
    best = int(RECORD.correct.mean(axis=0).argmax())
    alone = RECORD if best == 3 else replace(RECORD, labels=RECORD.prediction[:, 3])  # its last exit is its best
    table = choose_run({"run": dx.Outcome(alone, np.full(RECORD.n_images, 3))}).table
    assert table[["lost", "low", "high"]].to_numpy().tolist() == [[0, 0, 0]]


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda: choose_run({"early": at(0)}, lose=5), "lose=5 must be a fraction .* one point is 0.01"),
        (lambda: choose_run({}), "at least one run"),
        (lambda: choose_run({"early": at(0)}, reference="late"), "late"),
        (lambda: choose_run(OTHERS), "are of different images"),
        (lambda: run_differences(OTHERS, "mine"), "are of different images"),
        (lambda: parts(*OTHERS.values()), "are of different images"),
    ],
)
def test_what_is_refused(ask: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ask()
