"""Images about which the exits say the same, and how unlike all of them a new one is.

In: an `ExitRecord`, and a record of a single image. Out: rows of the record, nearest first, and a share of the record's
images. Ours, and only as good as what the exits say: a strange picture that every exit takes for a clear trouser has
trousers for neighbours (benchmarks/novelty.py measures how often).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ..records.record import ExitRecord

LARGEST = 20_000_000  # logits of a record: with more than that the scores have to do
NEAREST = 5  # neighbours whose mean distance says how lonely an image is
ASKED = 1000  # images of the record whose own loneliness is measured
_AT_A_TIME = 100

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Crowd:
    """What K exits said about B images, as points whose distances can be asked for.

    Args:
        by: ``logits``: all of them, centred, each exit in units of its own spread. ``scores``, where the record keeps
            no logits: each exit's confidence at the place of its answer, 0 at every other class.
        points: (B, K·C) float32, or (B, K) confidences. said: (B, K) answers. scale: (K,) spreads of the exits.
    """

    by: str
    points: Floats
    said: npt.NDArray[np.int32]
    scale: Floats

    def distances(self, image: ExitRecord) -> Floats:
        """(B,) Euclidean distance of every image to the only one of ``image``.

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

    def unlike(self, image: ExitRecord, without: int | None = None) -> float:
        """Share of the crowd's own images that are less lonely than ``image``, from 0 (quite usual) to 1 (stranger).

        Loneliness is the mean distance to the `NEAREST` nearest others, of at most `ASKED` images drawn once. NaN where
        the crowd is too small to say.
        """
        if not self.loneliness.size:
            return float("nan")
        distances = self.distances(image)
        if without is not None:
            distances = np.delete(distances, without)
        return float(np.mean(self.loneliness < _mean_of_least(distances[None])[0]))

    @cached_property
    def loneliness(self) -> Floats:
        """(n,) of images of the crowd, each without itself; empty where there are not more than `NEAREST`."""
        if len(self.points) <= NEAREST:
            return np.zeros(0, np.float32)
        rows = np.random.default_rng(0).permutation(len(self.points))[:ASKED]
        found = []
        for start in range(0, len(rows), _AT_A_TIME):
            some = rows[start : start + _AT_A_TIME]
            distances = self._apart(self.points[some], self.said[some])
            distances[np.arange(len(some)), some] = np.inf
            found.append(_mean_of_least(distances))
        return np.concatenate(found)

    def _apart(self, points: Floats, said: npt.NDArray[Any]) -> Floats:
        """(n, B) distances of n points to all."""
        if self.by == "scores":
            squares = np.zeros((len(points), len(self.points)), np.float32)
            for k in range(self.points.shape[1]):
                here, there = points[:, k, None], self.points[None, :, k]
                same = said[:, k, None] == self.said[None, :, k]
                squares += np.where(same, (here - there) ** 2, here**2 + there**2)
        else:
            squares = (points**2).sum(axis=1)[:, None] + self._lengths[None] - 2 * points @ self.points.T
        return np.asarray(np.sqrt(np.maximum(squares, 0)), np.float32)

    @cached_property
    def _lengths(self) -> Floats:
        return np.asarray((self.points**2).sum(axis=1), np.float32)


def crowd(record: ExitRecord, *, logits: bool = True) -> Crowd:
    """The images of ``record`` as a `Crowd`.

    Args:
        logits: compare them by logits, if the record keeps any and they are not too many; else by scores.
    """
    by = "logits" if logits and record.logits is not None and record.logits.size <= LARGEST else "scores"
    scale = np.ones(record.n_exits, np.float32)
    if by == "logits" and record.logits is not None:
        spread = np.sqrt(np.mean(_centred(record.logits) ** 2, axis=(0, 2)))
        scale = np.where(spread > 0, spread, 1).astype(np.float32)
    return Crowd(by, _points(record, by, scale, several=True), np.asarray(record.prediction), scale)


def _points(record: ExitRecord, by: str, scale: Floats, several: bool = False) -> Floats:
    if record.n_images != 1 and not several:
        raise ValueError(f"a record of {record.n_images} images cannot be compared with a crowd; it takes one image")
    if record.n_exits != len(scale):
        raise ValueError(f"the image was asked at {record.n_exits} exits, the crowd at {len(scale)}")
    if by == "scores":
        return np.asarray(record.confidence, np.float32)
    if record.logits is None:
        raise ValueError("this crowd is compared by logits, and the image's record has none")
    scaled = _centred(record.logits) / scale[None, :, None]
    return np.asarray(scaled.reshape(record.n_images, -1), np.float32)


def _centred(logits: npt.NDArray[Any]) -> Floats:
    """Logits without what softmax does not see: each exit's mean over the classes."""
    z = np.asarray(logits, np.float32)
    return np.asarray(z - z.mean(axis=2, keepdims=True), np.float32)


def _mean_of_least(distances: Floats) -> Floats:
    """(n, B) → (n,) mean of the `NEAREST` least of each row, or of all where there are fewer."""
    few = min(NEAREST, distances.shape[1])
    return np.asarray(np.partition(distances, few - 1, axis=1)[:, :few].mean(axis=1), np.float32)
