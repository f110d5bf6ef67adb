"""Exit policies on scores: confidence, margin, entropy, patience; and the controls random, fixed and oracle.

In: one exit's scores, numpy or torch. Out: the value that is compared with the threshold. Confidence is the rule of
the authors' release, entropy that of BranchyNet (Teerapittayanon et al. 2016), patience that of PABEE (Zhou et al.
2020).
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
from .ranking import LOG_ODDS, CountPolicy, ScorePolicy


class ConfidencePolicy(ScorePolicy):
    """Exit at confidence (largest softmax probability) ≥ threshold, the rule of the authors' release.

    Example:
        >>> ConfidencePolicy((0.9,)).decide(0, {"confidence": np.array([0.5, 0.95])}, ())[0].tolist()
        [False, True]
    """

    name = "confidence"
    reads = ("confidence",)
    rule = "Exit at the first exit whose confidence is at least **{}**, else at the last."
    summary = "the largest class probability"
    compares = "confidence"


class MarginPolicy(ScorePolicy):
    """Exit at margin (best minus second-best probability) ≥ threshold.

    Example:
        >>> MarginPolicy((0.5,)).decide(0, {"margin": np.array([0.4, 0.6])}, ())[0].tolist()
        [False, True]
    """

    name = "margin"
    reads = ("margin",)
    rule = "Exit at the first exit whose margin is at least **{}**, else at the last."
    summary = "the largest class probability less the second largest"
    compares = "margin"


class EntropyPolicy(ScorePolicy):
    """Exit at entropy ≤ threshold (nats); below 0 no image exits early.

    Example:
        >>> EntropyPolicy((0.5,)).decide(0, {"entropy": np.array([0.4, 0.6])}, ())[0].tolist()
        [True, False]
    """

    name = "entropy"
    reads = ("entropy",)
    rule = "Exit at the first exit with an entropy of at most **{}** nats, else at the last."
    summary = "the entropy of the probabilities, in nats"
    compares = "entropy"
    unit = "nats"
    falling = True
    threshold_all = 20.0  # above every entropy: ln C of half a billion classes
    threshold_none = -0.01

    @classmethod
    def grid(cls, n_exits: int, n_classes: int) -> list[float]:
        """See `Policy.grid`: shares of the largest entropy, ln C."""
        inner = 1 / (1 + np.exp(LOG_ODDS)) * np.log(n_classes)
        return [cls.threshold_none, *(float(f"{t:.7g}") for t in inner), cls.threshold_all]

    @classmethod
    def format_value(cls, number: float, digits: int = 1) -> str:
        """See `Policy.format_value`."""
        return super().format_value(number, digits) if number >= 0 else "less than 0 nats"


class PatiencePolicy(CountPolicy):
    """Exit once ``threshold`` exits in a row repeat the prediction before them: patience t needs t+1 equal predictions.

    Example:
        >>> policy = PatiencePolicy((1,))
        >>> state = policy.start(2, np.zeros(2))
        >>> _, state = policy.decide(0, {"prediction": np.array([3, 4])}, state)
        >>> policy.decide(1, {"prediction": np.array([3, 5])}, state)[0].tolist()
        [True, False]
    """

    name = "patience"
    reads = ("prediction",)
    rule = "Exit once **{}** exits in a row repeat the prediction before them, else at the last."
    summary = "the number of exits in a row with the same prediction"
    compares = "repeated predictions"

    def start(self, n: int, like: Any) -> State:
        """How many exits in a row agreed (n,) and the last prediction (n,)."""
        return zeros(n, like), zeros(n, like)

    def value(self, exit: int, scores: Mapping[str, Any], state: State) -> tuple[Any, State]:
        """See `Policy.value`."""
        count = repeats(exit, scores["prediction"], state)
        return count, (count, scores["prediction"])


class PatienceConfidencePolicy(ScorePolicy):
    """Exit at certainty ≥ threshold; certainty is 1 − (1 − confidence) / 2^r after r repeated predictions.

    Ours. It was better on val than two alternatives: counting only confident exits (PCEE-BERT, Zhang et al. 2022),
    where no image can exit at exit 1, and dividing 1 − confidence by the number of repetitions.

    Example:
        >>> policy = PatienceConfidencePolicy((0.7,))
        >>> seen = {"prediction": np.array([3]), "confidence": np.array([0.6], np.float32)}
        >>> leave, state = policy.decide(0, seen, policy.start(1, np.zeros(1)))
        >>> leave.tolist(), policy.decide(1, seen, state)[0].tolist()
        ([False], [True])
    """

    name = "patience+confidence"
    reads = ("prediction", "confidence")
    rule = "Exit once 1 − (1 − confidence) / 2^r reaches **{}** after r repeated predictions, else at the last."
    summary = "confidence and the number of repeated predictions"
    compares = "certainty"

    start = PatiencePolicy.start

    def value(self, exit: int, scores: Mapping[str, Any], state: State) -> tuple[Any, State]:
        """See `Policy.value`."""
        confidence = scores["confidence"]
        count = repeats(exit, scores["prediction"], state)
        half = array_namespace(confidence).astype(0.5**count, confidence.dtype)
        return 1 - (1 - confidence) * half, (count, scores["prediction"])


def zeros(n: int, like: Any, dtype: str = "int32") -> Any:
    """(n,) zeros of ``like``'s library and device: a state to start from.

    Example:
        >>> import numpy as np
        >>> zeros(3, np.ones(2)).tolist()
        [0, 0, 0]
    """
    xp = array_namespace(like)
    return xp.zeros(n, dtype=getattr(xp, dtype), device=device(like))


def repeats(exit: int, prediction: Any, state: State) -> Any:
    """(b,) how many exits in a row, this one included, repeated the prediction before them."""
    count, previous = state
    return (count + 1) * (prediction == previous) if exit else count


# Control policies and bounds: random, fixed, oracle.
#
# In: one exit's scores, or a record. Out: exits that serve as a control (random, fixed) or a bound (oracle).


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
    """`RandomPolicy` on a part of a record: an image draws by its row in the whole."""

    rows: tuple[int, ...] = ()

    def start(self, n: int, like: Any) -> State:
        """The row of every image (n,) in the whole record."""
        return (np.asarray(self.rows, np.int64),)


def of_rows(policy: Policy, rows: Ints) -> Policy:
    """The policy for a part of a record, whose ``rows`` (n,) exit as they do in the whole."""
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
