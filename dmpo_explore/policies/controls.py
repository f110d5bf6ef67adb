"""Control policies and bounds: random, fixed, oracle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from array_api_compat import array_namespace, device

from ..records.record import ExitRecord
from .base import State, not_deployable
from .scalar import CountPolicy, ScorePolicy


class RandomPolicy(ScorePolicy):
    """Leave at every exit with probability ``threshold``: a control. Ours: the draw of an image's row and the exit."""

    name = "random"
    reads = ("prediction",)
    rule = "Leave at every exit with a probability of **{}**, whatever the image, else at the last."
    summary = "chance: a control that looks at nothing"
    falling = True
    threshold_all, threshold_none = 1.0, 0.0

    def start(self, n: int, like: Any) -> State:
        """The row of every image (n,); in a live batch its place there."""
        xp = array_namespace(like)
        return (xp.arange(n, dtype=xp.int64, device=device(like)),)

    def value(self, exit: int, scores: Mapping[str, Any], state: State) -> tuple[Any, State]:
        """See `ScalarPolicy.value`."""
        return _draws(state[0], exit), state


class FixedPolicy(CountPolicy):
    """Leave at exit ``threshold``, counted from 1: a control."""

    name = "fixed"
    reads = ("prediction",)
    rule = "Leave at exit **{}**, whatever the image, or at the last if there are fewer."
    summary = "the number of the exit: a control, as if the model ended there"
    threshold_all = 1

    def value(self, exit: int, scores: Mapping[str, Any], state: State) -> tuple[Any, State]:
        """See `ScalarPolicy.value`."""
        return 0 * scores["prediction"] + (exit + 1), state


class OraclePolicy(CountPolicy):
    """Leave at the first right exit up to ``threshold``, and at exit 1 where none of these is right: a bound.

    For its mean compute no choice of exits is right more often, since it pays for the cheapest gains first. A
    threshold above K lets nobody leave early. It reads the labels, so it runs on records only.
    """

    name = "oracle"
    reads = ("prediction",)
    rule = "Leave at the first right exit up to exit **{}**, else at exit 1: it knows the labels, so it is a bound."
    summary = "the labels: a bound that no model can reach, not for use"
    deployable = False
    threshold_all = 1

    @classmethod
    def settings(cls, n_exits: int) -> list[int] | None:
        """See `Policy.settings`; the last one lets nobody leave early."""
        return list(range(1, n_exits + 2))

    def decide(self, exit: int, scores: Mapping[str, Any], state: State) -> tuple[Any, State]:
        """Raises ValueError: without labels there is no oracle."""
        raise ValueError(not_deployable(self.name))

    def exits(self, record: ExitRecord) -> npt.NDArray[np.int64]:
        """(B,) exit of every image, 0-based."""
        if len(self.thresholds) > 1:
            raise ValueError("policy 'oracle' takes one threshold: the last exit that it may choose, counted from 1")
        if self.thresholds[0] > record.n_exits:
            return np.full(record.n_images, record.n_exits - 1, np.int64)
        return np.asarray(np.argmax(record.correct[:, : int(self.thresholds[0])], axis=1), np.int64)


def _draws(rows: Any, exit: int) -> Any:
    """A float32 in (0, 1) for every row and exit, the same everywhere: a 32-bit hash (multiply and shift, thrice)."""
    xp = array_namespace(rows)
    x = (rows * 64 + exit + 1) % 2**32
    for _ in range(3):
        x = ((x // 2**16) ^ x) * 0x45D9F3B % 2**32
    return (xp.astype(x // 2**9, xp.float32) + 0.5) / 2**23
