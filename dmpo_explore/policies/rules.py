"""Exit policies on scores: confidence, margin, entropy, patience."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from array_api_compat import array_namespace, device

from .base import State
from .scalar import CountPolicy, ScorePolicy


class ConfidencePolicy(ScorePolicy):
    """Leave at confidence ≥ threshold (the release's rule)."""

    name = "confidence"
    reads = ("confidence",)
    rule = "Leave at the first exit that is at least **{}** confident, else at the last."
    summary = "the probability of the best class"


class MarginPolicy(ScorePolicy):
    """Leave at margin ≥ threshold."""

    name = "margin"
    reads = ("margin",)
    rule = "Leave at the first exit whose best class leads by at least **{}**, else at the last."
    summary = "best class minus second best"


class EntropyPolicy(ScorePolicy):
    """Leave at entropy ≤ threshold (nats); below 0 nobody leaves early."""

    name = "entropy"
    reads = ("entropy",)
    rule = "Leave at the first exit with an entropy of at most **{}** nats, else at the last."
    summary = "how spread out the probabilities are"
    falling = True
    threshold_all = 20.0  # no entropy gets there: ln C of half a billion classes
    threshold_none = -0.01


class PatiencePolicy(CountPolicy):
    """Leave once ``threshold`` exits in a row agreed with the one before: patience t needs t+1 agreeing exits."""

    name = "patience"
    reads = ("prediction",)
    rule = "Leave once **{}** exits in a row repeat the answer before them, else at the last."
    summary = "how often the answer was repeated"

    def start(self, n: int, like: Any) -> State:
        """How many exits in a row agreed (n,) and what the last one said (n,)."""
        return zeros(n, like), zeros(n, like)

    def value(self, exit: int, scores: Mapping[str, Any], state: State) -> tuple[Any, State]:
        """See `ScalarPolicy.value`."""
        count = repeats(exit, scores["prediction"], state)
        return count, (count, scores["prediction"])


class PatienceConfidencePolicy(ScorePolicy):
    """Leave at certainty ≥ threshold, where doubt (1 − confidence) is halved each time the answer was repeated.

    Ours: chosen on val over counting only exits that are confident (PCEE-BERT, Zhang et al. 2022), with which nobody
    can leave at exit 1, and over dividing the doubt by the number of repetitions.
    """

    name = "patience+confidence"
    reads = ("prediction", "confidence")
    rule = "Leave once confidence reaches **{}**, where every repeated answer halves the doubt, else at the last."
    summary = "confidence and how often the answer was repeated"

    start = PatiencePolicy.start

    def value(self, exit: int, scores: Mapping[str, Any], state: State) -> tuple[Any, State]:
        """See `ScalarPolicy.value`."""
        confidence = scores["confidence"]
        count = repeats(exit, scores["prediction"], state)
        half = array_namespace(confidence).astype(0.5**count, confidence.dtype)
        return 1 - (1 - confidence) * half, (count, scores["prediction"])


def zeros(n: int, like: Any, kind: Any = None) -> Any:
    xp = array_namespace(like)
    return xp.zeros(n, dtype=kind or xp.int32, device=device(like))


def repeats(exit: int, prediction: Any, state: State) -> Any:
    """How many exits in a row, this one included, repeated the answer before them."""
    count, previous = state
    return (count + 1) * (prediction == previous) if exit else count
