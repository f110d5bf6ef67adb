"""Batch compaction and queues: the images that have not exited yet, with state, side and memory of each.

In: images or states with one row per image, numpy or torch. Out: the same rows selected, joined or queued in order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device

from ..utils.typing import Ints


@dataclass(frozen=True)
class ActiveBatch:
    """Images that have not exited yet, one row each.

    Args:
        rows: (b,) their positions in the result.
        x: images or state (b, …). side: (b, …) or None. memory: the policy's state, arrays (b,).
    """

    rows: Ints
    x: Any
    side: Any = None
    memory: tuple[Any, ...] = ()

    def take(self, picked: Ints | slice, index: Any = None) -> ActiveBatch:
        """The images at ``picked``, positions in this batch or a slice; ``index``: the same on the arrays' device."""

        def one(array: Any) -> Any:
            if array is None or isinstance(picked, slice) or isinstance(array, np.ndarray):
                return array if array is None else array[picked]
            xp = array_namespace(array)
            return xp.take(array, xp.asarray(picked, device=device(array)) if index is None else index, axis=0)

        return ActiveBatch(self.rows[picked], one(self.x), one(self.side), tuple(map(one, self.memory)))

    @staticmethod
    def join(batches: Sequence[ActiveBatch]) -> ActiveBatch:
        """All of them as one, in order."""
        if len(batches) == 1:
            return batches[0]

        def one(arrays: Sequence[Any]) -> Any:
            return None if arrays[0] is None else array_namespace(arrays[0]).concat(list(arrays), axis=0)

        memory = tuple(map(one, zip(*(batch.memory for batch in batches), strict=True)))
        x, side = one([batch.x for batch in batches]), one([batch.side for batch in batches])
        return ActiveBatch(np.concatenate([batch.rows for batch in batches]), x, side, memory)


class Queue:
    """First-in-first-out queue of images before a stage; its length counts images."""

    def __init__(self) -> None:
        self._batches: deque[ActiveBatch] = deque()
        self._images = 0

    def __len__(self) -> int:
        return self._images

    def put(self, batch: ActiveBatch) -> None:
        """Append."""
        self._batches.append(batch)
        self._images += len(batch.rows)

    def get(self, n: int) -> ActiveBatch:
        """The first n images, or all if there are fewer."""
        picked: list[ActiveBatch] = []
        while self._batches and n > 0:
            batch = self._batches.popleft()
            if len(batch.rows) > n:
                self._batches.appendleft(batch.take(slice(n, None)))
                batch = batch.take(slice(n))
            picked.append(batch)
            n -= len(batch.rows)
            self._images -= len(batch.rows)
        return ActiveBatch.join(picked)
