"""A decision trace ends where the policy exits, for every policy; its sentence has the numbers that decided."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from synthetic import make_record

from dmpo_explore.analysis.decision_trace import most_probable, telling_image, trace_decision
from dmpo_explore.analysis.metrics import Outcome, apply
from dmpo_explore.policies.rules import ConfidencePolicy, EntropyPolicy, OraclePolicy, PatiencePolicy

RECORD = make_record(120, 4, 5, seed=3)
SINGLE = make_record(10, 1, 5)


def test_the_sentence_tells_what_decided() -> None:
    policy = ConfidencePolicy((0.7,))
    exits, sure = policy.exits(RECORD), RECORD.confidence
    first, second, last = (int(np.flatnonzero(exits == exit)[0]) for exit in (0, 1, 3))
    said = trace_decision(RECORD, policy, first).sentence()
    assert said == f"Exits at exit 1: there its confidence of {sure[first, 0]:.1%} reaches the threshold of 70.0%."
    said = trace_decision(RECORD, policy, second).sentence()
    assert said.endswith(f", and exit 1, with {sure[second, 0]:.1%}, was not enough.") and "exit 2" in said
    said = trace_decision(RECORD, policy, last).sentence()
    best = int(sure[last, :3].argmax())
    assert f"closest was exit {best + 1} with {sure[last, best]:.1%}, where 70.0% is needed" in said
    assert trace_decision(SINGLE, policy, 0).sentence().startswith("There is a single exit")


def test_thresholds_that_nothing_reaches_and_near_ties_are_legible() -> None:
    texts = {
        ConfidencePolicy: "more than 100%",
        EntropyPolicy: "less than 0 nats",
        PatiencePolicy: "more than there are",
    }
    for kind, text in texts.items():
        assert text in trace_decision(RECORD, kind((kind.threshold_none,)), 0).sentence()
    trace = trace_decision(RECORD, ConfidencePolicy((0.5,)), 0)
    found = replace(trace, values=np.full(3, 0.73091), thresholds=np.full(3, 0.7309))
    assert found.formatted(0) == ("73.091%", "73.090%")


@given(seed=st.integers(0, 1000), classes=st.integers(1, 9), exits=st.integers(1, 4), n=st.integers(1, 12))
def test_the_most_probable_are_torchs_top(seed: int, classes: int, exits: int, n: int) -> None:
    logits = np.random.default_rng(seed).normal(size=(exits, classes)).astype(np.float32) * 4
    found, shares = most_probable(logits, n)
    expected = torch.softmax(torch.from_numpy(logits), dim=1).topk(min(n, classes), dim=1)
    assert np.allclose(shares, expected.values, atol=1e-6)
    assert np.allclose(np.take_along_axis(logits, found, 1), np.take_along_axis(logits, expected.indices.numpy(), 1))
    cool = most_probable(logits, n, (2.0,) * exits)[1]
    assert (cool[:, 0] <= shares[:, 0] + 1e-3).all()


def test_the_image_that_is_shown_first_was_mended_on_its_way() -> None:
    record = make_record(300, 4, 10, seed=2)
    outcome = apply(ConfidencePolicy((0.6,)), record)
    row = telling_image(outcome)
    assert outcome.correct[row] and not record.correct[row, 0]
    mended = outcome.correct & ~record.correct[:, 0] & (outcome.exits < 3)
    assert outcome.exits[row] == outcome.exits[mended].max()
    assert telling_image(Outcome(record, np.zeros(300, int))) in range(300)


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda: trace_decision(RECORD, OraclePolicy((2,)), 0), "reads the labels"),
        (lambda: trace_decision(RECORD, ConfidencePolicy((0.5, 0.5)), 0), "2 thresholds; 4 exits"),
        (lambda: trace_decision(RECORD, ConfidencePolicy((0.5,)), 120), "120"),
        (lambda: most_probable(np.zeros((2, 3, 4))), r"\(2, 3, 4\).*must be \(K, C\)"),
        (lambda: most_probable(np.zeros((3, 4)), 5, (1.0, 2.0)), "2 temperatures"),
    ],
)
def test_what_is_refused(ask: Callable[[], object], words: str) -> None:
    with pytest.raises((ValueError, IndexError), match=words):
        ask()
