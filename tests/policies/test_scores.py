"""Scores against textbook values, and numpy against torch."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dmpo_explore.policies.scores import SCORES, scores, tempered


def test_values_by_hand() -> None:
    logits = np.log(np.array([[0.7, 0.2, 0.1], [0.25, 0.25, 0.5]]))
    found = scores(logits)
    assert list(found) == list(SCORES)
    assert found["prediction"].tolist() == [0, 2]
    np.testing.assert_allclose(found["confidence"], [0.7, 0.5], rtol=1e-6)
    np.testing.assert_allclose(found["margin"], [0.5, 0.25], rtol=1e-6)
    entropy = [-sum(p * math.log(p) for p in row) for row in ([0.7, 0.2, 0.1], [0.25, 0.25, 0.5])]
    np.testing.assert_allclose(found["entropy"], entropy, rtol=1e-6)


def test_types_and_shapes() -> None:
    found = scores(np.zeros((2, 3, 4), np.float16))
    assert {name: (array.shape, array.dtype.name) for name, array in found.items()} == {
        "prediction": ((2, 3), "int32"),
        "confidence": ((2, 3), "float32"),
        "entropy": ((2, 3), "float32"),
        "margin": ((2, 3), "float32"),
    }


def test_equal_logits_are_least_sure() -> None:
    found = scores(np.zeros((1, 8)))
    assert found["prediction"][0] == 0  # the first of equals
    assert found["confidence"][0] == pytest.approx(1 / 8)
    assert found["entropy"][0] == pytest.approx(math.log(8))
    assert found["margin"][0] == 0


def test_a_single_class_is_certain() -> None:
    found = scores(np.array([[3.0]]))
    assert [found[name][0] for name in SCORES] == [0, 1, 0, 1]


def test_far_and_infinite_logits_stay_finite() -> None:
    found = scores(np.array([[1e4, -1e4, 0.0], [0.0, -np.inf, 0.0]]))
    assert found["confidence"].tolist() == [1, 0.5]
    assert found["entropy"].tolist() == [0, pytest.approx(math.log(2))]
    assert found["margin"].tolist() == [1, 0]


def test_only_what_is_read_is_computed() -> None:
    assert list(scores(np.zeros((2, 3)), ["margin"])) == ["prediction", "margin"]
    assert list(scores(np.zeros((2, 3)), [])) == ["prediction"]


def test_an_unknown_score_lists_the_valid_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown score 'marign'. Did you mean 'margin'.*confidence, entropy"):
        scores(np.zeros((2, 3)), ["marign"])


@pytest.mark.parametrize("shape", [(), (2, 0)])
def test_logits_without_classes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="no classes"):
        scores(np.zeros(shape))


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_torch_gives_what_numpy_gives(kind: torch.dtype) -> None:
    logits = (torch.randn(50, 4, 10, generator=torch.Generator().manual_seed(0)) * 3).to(kind)
    found, expected = scores(logits), scores(logits.float().numpy())
    assert torch.equal(found["prediction"], torch.from_numpy(expected["prediction"]))
    assert found["prediction"].dtype == torch.int32
    for name in SCORES[1:]:
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


@pytest.mark.parametrize("temperature", [0, -1.0, math.inf, math.nan])
def test_a_temperature_is_a_positive_number(temperature: float) -> None:
    with pytest.raises(ValueError, match=f"temperature={temperature!r} must be a positive number"):
        tempered(np.zeros((2, 3)), temperature)
