"""Control policies and bounds: random, fixed, oracle.

In: one exit's scores, or a record. Out: exits that serve as a control (random, fixed) or a bound (oracle).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device

from ..records.record import ExitRecord
from ..utils.typing import Ints
from .base import Policy, State, not_deployable
from .scalar import CountPolicy, ScorePolicy


class RandomPolicy(ScorePolicy):
    """Exit at every exit with probability ``threshold``: a control.

    Ours: the draw is a hash of the image's row and the exit, the same everywhere.

    Example:
        >>> draws, _ = RandomPolicy((0.5,)).value(0, {}, (np.arange(3),))
        >>> (draws <= 0.5).tolist()
        [True, False, True]
    """

    name = "random"
    reads = ("prediction",)
    rule = "Exit at every exit with a probability of **{}**, for every image alike, else at the last."
    summary = "random numbers: a control that reads no score"
    compares = "random number"
    falling = True
    threshold_all, threshold_none = 1.0, 0.0

    @classmethod
    def grid(cls, n_exits: int, n_classes: int) -> list[float]:
        """See `Policy.grid`: evenly spread probabilities."""
        return [float(t) for t in np.linspace(0, 1, 501)]

    def start(self, n: int, like: Any) -> State:
        """The row of every image (n,); in a live batch its position there."""
        xp = array_namespace(like)
        return (xp.arange(n, dtype=xp.int64, device=device(like)),)

    def value(self, exit: int, scores: Mapping[str, Any], state: State) -> tuple[Any, State]:
        """See `Policy.value`."""
        return _draws(state[0], exit), state


@dataclass(frozen=True)
class RandomOfRows(RandomPolicy):
    """`RandomPolicy` on a part of a record: an image draws by its row in the whole.

    Example:
        >>> draws, _ = RandomOfRows((0.5,), rows=(2, 1)).value(0, {}, RandomOfRows((0.5,), rows=(2, 1)).start(2, None))
        >>> (draws <= 0.5).tolist()
        [True, False]
    """

    rows: tuple[int, ...] = ()

    def start(self, n: int, like: Any) -> State:
        """The row of every image (n,) in the whole record."""
        del n, like
        return (np.asarray(self.rows, np.int64),)


def of_rows(policy: Policy, rows: Ints) -> Policy:
    """The policy for a part of a record, whose ``rows`` (n,) exit as they do in the whole.

    Example:
        >>> policy = RandomPolicy((0.5,))
        >>> of_rows(policy, np.arange(3)).start(3, None)[0].tolist()
        [0, 1, 2]
    """
    return RandomOfRows(policy.thresholds, rows=tuple(rows.tolist())) if isinstance(policy, RandomPolicy) else policy


class FixedPolicy(CountPolicy):
    """Exit at exit ``threshold``, counted from 1: a control.

    Example:
        >>> import dmpo_explore as dx
        >>> set(FixedPolicy((2,)).exits(dx.load_run("demo").record("val")).tolist())
        {1}
    """

    name = "fixed"
    reads = ("prediction",)
    rule = "Exit at exit **{}**, for every image alike, or at the last if there are fewer."
    summary = "the number of the exit: a control, as if the model ended there"
    compares = "exit number"
    threshold_all = 1

    def value(self, exit: int, scores: Mapping[str, Any], state: State) -> tuple[Any, State]:
        """See `Policy.value`."""
        return 0 * scores["prediction"] + (exit + 1), state


class OraclePolicy(CountPolicy):
    """Exit at the first correct exit up to ``threshold``, and at exit 1 where none of these is correct: a bound.

    No choice of exits with the same mean FLOPs is correct more often, since the cheapest gains come first. At a
    threshold above K no image exits early. It reads the labels, so it runs on records only.

    Example:
        >>> import dmpo_explore as dx
        >>> record = dx.load_run("demo").record("val")
        >>> outcome = dx.apply(OraclePolicy((record.n_exits,)), record)
        >>> bool(outcome.correct.mean() == record.correct.any(axis=1).mean())
        True
    """

    name = "oracle"
    reads = ("prediction",)
    rule = "Exit at the first correct exit up to exit **{}**, else at exit 1; reads the labels: an upper bound."
    summary = "the labels: an upper bound for comparison, not deployable"
    compares = "exit number"
    deployable = False
    threshold_all = 1

    @classmethod
    def settings(cls, n_exits: int) -> Sequence[float] | None:
        """See `Policy.settings`; at the last one no image exits early."""
        return list(range(1, n_exits + 2))

    def value(self, exit: int, scores: Mapping[str, Any], state: State) -> tuple[Any, State]:
        """Raises ValueError: without labels there is no oracle."""
        raise ValueError(not_deployable(self.name))

    def exits(self, record: ExitRecord) -> Ints:
        """(B,) exit of every image, 0-based."""
        if len(self.thresholds) > 1:
            raise ValueError("policy 'oracle' takes one threshold: the last exit to choose from, counted from 1")
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
