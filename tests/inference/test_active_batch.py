"""Rows, state, side and policy state of an image stay together, in order."""

from __future__ import annotations

import numpy as np

from dmpo_explore.inference.active_batch import ActiveBatch, Queue


def test_a_queue_is_first_in_first_out() -> None:
    queue = Queue()
    for start in (0, 5, 7):
        rows = np.arange(start, start + {0: 5, 5: 2, 7: 3}[start])
        queue.put(ActiveBatch(rows, rows * 10, rows * 100, (rows * 1000,)))
    taken = []
    for n in (3, 4, 9):
        group = queue.get(n)
        assert (group.x == group.rows * 10).all() and (group.side == group.rows * 100).all()
        assert (group.memory[0] == group.rows * 1000).all()
        taken.append(group.rows.tolist())
    assert taken == [[0, 1, 2], [3, 4, 5, 6], [7, 8, 9]]
    assert len(queue) == 0
