"""Exit policies on scores: confidence, margin, entropy, patience.

In: one exit's scores, numpy or torch. Out: the value that is compared with the threshold. Confidence is the rule of
the authors' release, entropy that of BranchyNet (Teerapittayanon et al. 2016), patience that of PABEE (Zhou et al.
2020).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device

from .base import State
from .scalar import LOG_ODDS, CountPolicy, ScorePolicy


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
