"""Answers of executed exits, held against other answers and against a record."""

from __future__ import annotations

from typing import Any

import numpy as np

from dmpo_explore.policies.base import Policy
from dmpo_explore.records.record import ExitRecord


def same_answers(found: Any, expected: Any, atol: float = 1e-5) -> None:
    """Exits and labels are equal, confidences within ``atol``."""
    np.testing.assert_array_equal(found.exit, expected.exit)
    np.testing.assert_array_equal(found.label, expected.label)
    np.testing.assert_allclose(found.confidence, expected.confidence, atol=atol)


def as_recorded(found: Any, policy: Policy, record: ExitRecord, atol: float = 1e-5) -> None:
    """The answers are those that the policy gives on a record of the same images."""
    exits = policy.exits(record)
    there = np.arange(record.n_images), exits
    np.testing.assert_array_equal(found.exit, exits)
    np.testing.assert_array_equal(found.label, record.prediction[there])
    np.testing.assert_allclose(found.confidence, record.confidence[there], atol=atol)
