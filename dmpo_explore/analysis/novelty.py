"""Novelty: a kNN out-of-distribution score, and the nearest images of a record, from the logits or scores of all exits.

In: an `ExitRecord` as reference, and a record of a single image. Out: rows of the reference, nearest first, and the
share of reference images whose k-nearest-neighbour distance is smaller. Ours. It depends only on the exits'
predictions: an unusual image that every exit classifies confidently as trouser has trousers as neighbours
(benchmarks/EVIDENCE.md says how often).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ..records.record import ExitRecord

LARGEST = 20_000_000  # logits of a record; with more than that its scores are compared
NEIGHBOURS = 5  # k, of the mean distance to the k nearest neighbours
SAMPLE = 1000  # reference images whose own distance is measured
_AT_A_TIME = 100

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class NoveltyDetector:
    """A kNN novelty detector: the outputs of K exits for B reference images, as points with Euclidean distances.

    Args:
        by: ``logits``: all of them, centred, each exit in units of its own spread. ``scores``, where the record keeps
            no logits: each exit's confidence at the place of its predicted class, 0 elsewhere.
        points: (B, K·C) float32, or (B, K) confidences. predictions: (B, K). scale: (K,) spreads of the exits.

    Example:
        >>> import dmpo_explore as dx
        >>> val = dx.load_run("fashion").record("val")
        >>> novelty_detector(val).distances(val.subset([0])).shape
        (5000,)
    """

    by: str
    points: Floats
    predictions: npt.NDArray[np.int32]
    scale: Floats

    def distances(self, image: ExitRecord) -> Floats:
        """(B,) Euclidean distance of every reference image to the image of the one-image record ``image``.

        Raises:
            ValueError: a record of several images or of another number of exits or classes, or one without logits
                where they are compared.
        """
        return np.asarray(self._apart(_points(image, self.by, self.scale), np.asarray(image.prediction))[0])

    def nearest(self, image: ExitRecord, n: int, without: int | None = None) -> npt.NDArray[np.int64]:
        """Rows of the ``n`` images nearest to ``image``, nearest first; row ``without`` (the image itself) left out."""
        distances = self.distances(image)
        order = np.argsort(distances, kind="stable")
        return np.asarray(order[order != (-1 if without is None else without)][:n], np.int64)

    def score(self, image: ExitRecord, without: int | None = None) -> float:
        """Novelty score: share of reference images nearer to their neighbours than ``image``, from 0 to 1 (novel).

        The mean distance to the `NEIGHBOURS` nearest others is compared with that of at most `SAMPLE` reference images,
        drawn once. NaN where the reference has too few images.
        """
        if not self.reference_distances.size:
            return float("nan")
        distances = self.distances(image)
        if without is not None:
            distances = np.delete(distances, without)
        return float(np.mean(self.reference_distances < _mean_of_least(distances[None])[0]))

    @cached_property
    def reference_distances(self) -> Floats:
        """(n,) mean distance of reference images to their nearest others; empty for at most `NEIGHBOURS` images."""
        if len(self.points) <= NEIGHBOURS:
            return np.zeros(0, np.float32)
        rows = np.random.default_rng(0).permutation(len(self.points))[:SAMPLE]
        found = []
        for start in range(0, len(rows), _AT_A_TIME):
            some = rows[start : start + _AT_A_TIME]
            distances = self._apart(self.points[some], self.predictions[some])
            distances[np.arange(len(some)), some] = np.inf
            found.append(_mean_of_least(distances))
        return np.concatenate(found)

    def _apart(self, points: Floats, predictions: npt.NDArray[Any]) -> Floats:
        """(n, B) distances of n points to all."""
        if self.by == "scores":
            squares = np.zeros((len(points), len(self.points)), np.float32)
            for k in range(self.points.shape[1]):
                here, there = points[:, k, None], self.points[None, :, k]
                same = predictions[:, k, None] == self.predictions[None, :, k]
                squares += np.where(same, (here - there) ** 2, here**2 + there**2)
        else:
            squares = (points**2).sum(axis=1)[:, None] + self._lengths[None] - 2 * points @ self.points.T
        return np.asarray(np.sqrt(np.maximum(squares, 0)), np.float32)

    @cached_property
    def _lengths(self) -> Floats:
        return np.asarray((self.points**2).sum(axis=1), np.float32)


def novelty_detector(record: ExitRecord, *, logits: bool = True) -> NoveltyDetector:
    """A kNN novelty detector with the images of ``record`` as reference.

    Args:
        logits: compare by logits, if the record has any and at most `LARGEST` of them; else by scores.

    Example:
        >>> import dmpo_explore as dx
        >>> run = dx.load_run("demo")
        >>> detector = novelty_detector(run.record("val"))
        >>> 0 <= detector.score(run.record("test").subset([0])) <= 1
        True
        >>> detector.nearest(run.record("val").subset([7]), 1).tolist()
        [7]
    """
    by = "logits" if logits and record.logits is not None and record.logits.size <= LARGEST else "scores"
    scale = np.ones(record.n_exits, np.float32)
    if by == "logits" and record.logits is not None:
        spread = np.sqrt(np.mean(_centred(record.logits) ** 2, axis=(0, 2)))
        scale = np.where(spread > 0, spread, 1).astype(np.float32)
    return NoveltyDetector(by, _points(record, by, scale, several=True), np.asarray(record.prediction), scale)


def _points(record: ExitRecord, by: str, scale: Floats, several: bool = False) -> Floats:
    if record.n_images != 1 and not several:
        raise ValueError(f"a record of {record.n_images} images has no single novelty score; give one image")
    if record.n_exits != len(scale):
        raise ValueError(f"the image has answers of {record.n_exits} exits, the reference of {len(scale)}")
    if by == "scores":
        return np.asarray(record.confidence, np.float32)
    if record.logits is None:
        raise ValueError("the reference is compared by logits, and the image's record has none")
    scaled = _centred(record.logits) / scale[None, :, None]
    return np.asarray(scaled.reshape(record.n_images, -1), np.float32)


def _centred(logits: npt.NDArray[Any]) -> Floats:
    """Logits minus each exit's mean over the classes, to which softmax is invariant."""
    z = np.asarray(logits, np.float32)
    return np.asarray(z - z.mean(axis=2, keepdims=True), np.float32)


def _mean_of_least(distances: Floats) -> Floats:
    """(n, B) → (n,) mean of the `NEIGHBOURS` least of each row, or of all where there are fewer."""
    few = min(NEIGHBOURS, distances.shape[1])
    return np.asarray(np.partition(distances, few - 1, axis=1)[:, :few].mean(axis=1), np.float32)
