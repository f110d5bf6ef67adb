"""Agreement of two runs on the same images: which are correct in both, in one, in none."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

import dmpo_explore as dx

Masks = dict[str, npt.NDArray[np.bool_]]


class Answers(NamedTuple):
    """What one model says about every image where that leaves it."""

    name: str
    record: dx.ExitRecord
    exits: npt.NDArray[np.int64]  # (B,) 0-based

    @property
    def said(self) -> npt.NDArray[np.int32]:
        """(B,) the class that is answered."""
        return np.asarray(self.record.prediction[np.arange(self.record.n_images), self.exits], np.int32)


def parts(a: Answers, b: Answers) -> Masks:
    """Kind of disagreement → (B,) mask; no image is of two kinds, and every image with two answers is of one."""
    labels, ours, theirs = np.asarray(a.record.labels), a.said, b.said
    right, other = ours == labels, theirs == labels
    return {
        "only a": right & ~other,
        "only b": other & ~right,
        "both wrong": ~right & ~other & (ours != theirs),
    }
