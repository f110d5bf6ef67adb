"""Scores against textbook values and the formula of earlier versions, numpy against torch, and scores of others."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from array_api_compat import array_namespace, device
from hypothesis import given
from hypothesis import strategies as st

from dmpo_explore.records.scores import SCORES, STORED, Score, scores, scores_of_record, tempered
from dmpo_explore.utils.registry import Joint


@pytest.mark.parametrize(
    ("probabilities", "prediction", "margin"),
    [
        ([0.7, 0.2, 0.1], 0, 0.5),
        ([0.25, 0.25, 0.5], 2, 0.25),
        ([1 / 8] * 8, 0, 0.0),  # the first of equals, and the least sure
        ([1.0], 0, 1.0),
        ([1.0, 0.0, 0.0], 0, 1.0),
        ([0.5, 0.0, 0.5], 0, 0.0),
    ],
)
def test_values_by_hand(probabilities: list[float], prediction: int, margin: float) -> None:
    with np.errstate(divide="ignore"):
        logits = np.log(np.array([probabilities]))  # also infinite ones
    found = scores(logits)
    entropy = -sum(p * math.log(p) for p in probabilities if p)
    assert list(found) == list(STORED)
    assert [float(found[name][0]) for name in STORED] == pytest.approx(
        [prediction, max(probabilities), entropy, margin], abs=1e-6
    )
    assert scores(logits[0])["prediction"] == prediction  # of one image's one exit


def test_types_and_shapes() -> None:
    found = scores(np.zeros((2, 3, 4), np.float16))
    assert {name: (array.shape, array.dtype.name) for name, array in found.items()} == {
        "prediction": ((2, 3), "int32"),
        "confidence": ((2, 3), "float32"),
        "entropy": ((2, 3), "float32"),
        "margin": ((2, 3), "float32"),
    }


def test_far_logits_stay_finite() -> None:
    found = scores(np.array([[1e4, -1e4, 0.0]]))
    assert [float(found[name][0]) for name in STORED] == [0, 1, 0, 1]


def test_only_what_is_read_is_computed() -> None:
    assert list(scores(np.zeros((2, 3)), ["margin"])) == ["prediction", "margin"]
    assert list(scores(np.zeros((2, 3)), [])) == ["prediction"]


@pytest.mark.parametrize(
    ("refused", "words"),
    [
        (
            lambda: scores(np.zeros((2, 3)), ["marign"]),
            r"unknown score 'marign'. Did you mean 'margin'.*confidence, ent",
        ),
        (lambda: scores(np.zeros(())), "no classes"),
        (lambda: scores(np.zeros((2, 0))), "no classes"),
        *(
            (lambda bad=bad: tempered(np.zeros((2, 3)), bad), f"temperature={bad!r} must be a positive number")
            for bad in (0, -1.0, math.inf, math.nan)
        ),
        *(
            (lambda how=how: Score(**({"name": "mine", "compute": lambda p: p, "better": "high"} | how)), words)
            for how, words in (
                ({"better": "upwards"}, "better='upwards' must be 'high', 'low'"),
                ({"needs": ()}, "at least one"),
                ({"needs": ("mine",)}, "another name than its own"),
                ({"name": "logits"}, "another name than its own"),
                ({"name": "../mine"}, "of letters and digits"),
            )
        ),
    ],
)
def test_what_has_no_scores_and_a_score_that_cannot_be_are_refused(refused: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        refused()


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_torch_gives_what_numpy_gives(kind: torch.dtype) -> None:
    logits = (torch.randn(50, 4, 10, generator=torch.Generator().manual_seed(0)) * 3).to(kind)
    found, expected = scores(logits), scores(logits.float().numpy())
    assert torch.equal(found["prediction"], torch.from_numpy(expected["prediction"]))
    assert found["prediction"].dtype == torch.int32
    for name in STORED[1:]:
        assert found[name].dtype == torch.float32
        np.testing.assert_allclose(found[name].numpy(), expected[name], atol=1e-6)


@given(st.integers(0, 10_000), st.integers(1, 12), st.floats(0, 50))
def test_scores_stay_in_range(seed: int, n_classes: int, spread: float) -> None:
    found = scores(np.random.default_rng(seed).normal(size=(20, n_classes)) * spread)
    assert (found["confidence"] >= 1 / n_classes - 1e-6).all()
    assert (found["confidence"] <= 1 + 1e-6).all()
    assert (found["entropy"] >= 0).all()
    assert (found["entropy"] <= math.log(n_classes) + 1e-5).all()
    assert (found["margin"] >= 0).all()
    assert (found["margin"] <= found["confidence"]).all()


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_tempered_logits_are_those_of_a_record_divided(kind: type) -> None:
    logits = (np.random.default_rng(0).normal(size=(20, 3)) * 8).astype(kind)
    expected = logits.astype(np.float16).astype(np.float32) / 2.5
    found = tempered(logits, 2.5)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(tempered(torch.from_numpy(logits), 2.5).numpy(), expected)


# -- as earlier versions computed them --


def old_scores(logits: Any) -> dict[str, Any]:
    """The formula of version 0.2, before scores were a registry."""
    xp = array_namespace(logits)
    logits = xp.astype(logits, xp.float32)
    shifted = logits - xp.max(logits, axis=-1, keepdims=True)
    weight = xp.exp(shifted)
    total = xp.sum(weight, axis=-1, keepdims=True)
    prediction = xp.argmax(logits, axis=-1)
    surprise = xp.log(total) - xp.where(weight > 0, shifted, xp.zeros_like(shifted))
    classes = xp.arange(logits.shape[-1], device=device(logits))
    others = xp.where(classes == prediction[..., None], xp.zeros_like(weight), weight)
    return {
        "prediction": xp.astype(prediction, xp.int32),
        "confidence": xp.max(weight / total, axis=-1),
        "entropy": xp.sum(weight / total * surprise, axis=-1),
        "margin": xp.max(weight / total, axis=-1) - xp.max(others / total, axis=-1),
    }


@pytest.mark.parametrize("spread", [0.0, 1.0, 8.0, 60.0])
@pytest.mark.parametrize("shape", [(7, 1), (33, 10), (5, 3, 101), (6, 1000)])
def test_built_in_scores_are_bit_equal_to_the_old_formula(shape: tuple[int, ...], spread: float) -> None:
    logits = (np.random.default_rng(len(shape)).normal(size=shape) * spread).astype(np.float32)
    logits[0, ..., 0] = 1e4  # the others' weights vanish
    if shape[-1] > 1:
        logits[1, ..., 0] = -np.inf
    for given_as in (logits, torch.from_numpy(logits), logits.astype(np.float64)):
        found, expected = scores(given_as), old_scores(given_as)
        for name in STORED:
            assert np.asarray(found[name]).tobytes() == np.asarray(expected[name]).tobytes(), name


# -- scores of others --


@pytest.fixture
def joint() -> Iterator[Joint[Score]]:
    before = dict(SCORES)
    with Joint.adding("a test"):
        yield SCORES
    for name in [*SCORES.keys() - before.keys()]:
        del SCORES[name]


LOGITS = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32) * 4


def test_a_score_gets_what_it_needs_in_order(joint: Joint[Score]) -> None:
    joint["gini"] = Score("gini", lambda p, c: (p * p).sum(-1) - c * c, "high", ("probabilities", "confidence"))
    joint["doubled"] = Score("doubled", lambda gini: 2 * gini, "high", ("gini",))
    p = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
    expected = 2 * ((p * p).sum(axis=1) - p.max(axis=1) ** 2)
    for given_as in (LOGITS, torch.from_numpy(LOGITS)):
        found = scores(given_as, ("doubled",))
        assert list(found) == ["prediction", "doubled"] and str(found["doubled"].dtype).endswith("float32")
        np.testing.assert_allclose(np.asarray(found["doubled"]), expected, atol=1e-6)


def test_a_score_that_a_record_does_not_store_is_of_the_logits_that_it_keeps(joint: Joint[Score]) -> None:
    joint["energy"] = Score("energy", lambda z: z.max(-1), "high")
    joint["both"] = Score("both", lambda z, c: z.max(-1) + c, "high", ("logits", "confidence"))
    half = LOGITS.astype(np.float16)
    live = scores_of_record(LOGITS, ("energy", "both", "confidence"))
    np.testing.assert_array_equal(live["energy"], half.max(axis=1).astype(np.float32))
    np.testing.assert_array_equal(live["confidence"], scores(LOGITS)["confidence"])
    of_record = scores_of_record(half, ("energy", "both"), stored=scores(LOGITS))
    assert all(np.array_equal(live[name], of_record[name]) for name in ("energy", "both"))


def test_a_score_of_another_shape_is_refused(joint: Joint[Score]) -> None:
    joint["whole"] = Score("whole", lambda p: p * p, "high", ("probabilities",))
    with pytest.raises(ValueError, match=r"'whole' has shape \(50, 6\).*one number per row, \(50,\)"):
        scores(LOGITS, ("whole",))
