"""The images that a page plays: a thousand of the record as tiles, and three that run through the network one by one.

In: an outcome of the page's policy, and the slider's positions. Out: rows of the record, and for the page each tile's
label, its answers and scores at all exits, and its exit at every position of the slider, as the library decides it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..analysis.metrics import Outcome
from ..analysis.sliders import Slider
from ..data.splits import stratified_rows
from ..policies.base import Policy
from ..records.record import ExitRecord
from ..utils.typing import Array, Bools, Ints
from .places import PageFiles
from .shared import exits_of

TILES = 1000
COMPUTED = ("confidence", "margin", "entropy")  # scores that a page computes and draws


def tile_rows(record: ExitRecord, amount: int = TILES) -> Ints:
    """At most ``amount`` rows, drawn at random (seed 0) from every class in proportion, in the order of classes."""
    rows = stratified_rows(record.labels, min(amount, record.n_images))
    return rows[np.argsort(record.labels[rows], kind="stable")]


def drawn_score(policy: Policy) -> str:
    """The score that the page draws at every exit: what the policy compares, else the confidence."""
    compared = policy.compared_score()
    return compared if compared in COMPUTED and policy.per_exit_thresholds else "confidence"


def write_tiles(place: PageFiles, rows: Ints, policy: Policy, outcome: Outcome, slider: Slider) -> dict[str, Any]:
    """Add the arrays of the tiles, little-endian without a header; returns ``rows`` and the arrays' entries.

    ``labels`` (n,), ``predictions`` and ``scores`` (n, K) at the policy's temperatures, ``exits`` (G, n), 0-based.
    """
    record = outcome.record
    narrow = "<u1" if len(record.meta.class_names) <= 256 else "<u2"
    arrays = {
        "labels": record.labels[rows].astype(narrow),
        "predictions": record.prediction[rows].astype(narrow),
        "scores": record.score(drawn_score(policy))[rows].astype("<f4"),
        "exits": exits_of(rows, policy, outcome, slider).astype("<u1"),
    }
    entries = {
        name: place.add(f"record/{name}.bin", np.ascontiguousarray(array).tobytes()) | {"type": array.dtype.name}
        for name, array in arrays.items()
    }
    return {"rows": rows.tolist(), **entries}


def runner_rows(outcome: Outcome, score: Array, *, falling: bool = False) -> list[int]:
    """Rows of up to three images to run through the network: an easy, a hard, and an early incorrect one.

    The easy one is correct at exit 1; the hard one goes as deep as any, is incorrect at exit 1 and correct where it
    exits; the third is incorrect where it exits although the last exit is correct. Where no image is like that, the
    next best one is taken, or none.

    Args:
        score: (B, K) that is drawn; ``falling``: an exit is sure at small values.

    Example:
        >>> import dmpo_explore as dx
        >>> record = dx.load_run("fashion").record("test")
        >>> outcome = dx.apply(dx.fit_policy(record, threshold=0.8), record)
        >>> rows = runner_rows(outcome, record.confidence)
        >>> [int(outcome.exits[row]) + 1 for row in rows], outcome.correct[rows].tolist()
        ([1, 6, 2], [True, True, False])
    """
    record, exits, correct = outcome.record, outcome.exits, outcome.correct
    at_exit = np.take_along_axis(np.asarray(score), exits[:, None], axis=1)[:, 0] * (-1 if falling else 1)
    deepest, last = exits.max(), record.n_exits - 1
    full, first = record.correct[:, -1], record.correct[:, 0]
    easy = [(exits == 0) & correct & record.correct.all(axis=1), correct & (exits < deepest)]
    hard = [(exits == deepest) & correct & ~first, (exits == deepest) & correct, exits == deepest]
    late = (exits < last) & ~correct
    wrong = [late & full & (exits > 0), late & full, late]
    taken: list[int] = []
    if record.n_exits == 1:  # no image exits early
        return taken
    for kinds, place in ((easy, 0.9), (hard, 0.8), (wrong, 0.5)):
        if (row := _at_quantile(kinds, at_exit, place, taken)) is not None:
            taken.append(row)
    return taken


def _at_quantile(kinds: list[Bools], values: Array, place: float, taken: list[int]) -> int | None:
    """Of the first of ``kinds`` that some image meets, the row at a quantile of ``values``."""
    for kind in kinds:
        rows = np.setdiff1d(np.flatnonzero(kind), taken)
        if len(rows):
            order = rows[np.argsort(values[rows], kind="stable")]
            return int(order[int(place * (len(order) - 1))])
    return None
