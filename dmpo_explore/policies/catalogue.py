"""When to stop: scores of the exits seen so far → leave or go on.

In: one exit's scores (live) or an `ExitRecord` (simulated). Out: a decision per image, or the exit of every image.
A policy reads only the prefix: what it decided from exits 1..k never changes when exit k+1 is added. Leaving by
confidence is the release's rule; entropy is BranchyNet's (Teerapittayanon et al. 2016), patience PABEE's (Zhou et
al. 2020), budgeted MSDNet's (Huang et al. 2018), gate JEI-DNN's (Regol et al. 2024). `fitting` chooses the thresholds.

`POLICIES` is the one list: command line, app and documents show each class's ``rule`` and ``summary``. What is not
``deployable`` knows the answer and serves as a bound. What ``learns`` needs more from val than a threshold: make it
with `fit_policy` on val and ask other records with the policy that you get.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from array_api_compat import array_namespace, device

from ..records.record import ExitRecord
from ..utils.files import read_json, write_json
from ..utils.registry import lookup, unknown
from .base import ByCount, ByScore, Rule, State
from .learned import judge, log_odds


class Policy(Rule):
    """A frozen rule with its thresholds; see `Rule` for what all have in common."""

    @staticmethod
    def from_dict(values: Any, where: str = "policy") -> Policy:
        """Read ``to_dict``'s values; raises ValueError naming ``where`` and what is wrong."""
        if not isinstance(values, dict):
            raise ValueError(f"{where} must be a JSON object, not {type(values).__name__}")
        for key in values:
            if key not in _KEYS:
                raise ValueError(unknown(f"key in {where}", key, _KEYS))
        name, thresholds, fitted = values.get("policy"), values.get("thresholds"), values.get("fitted", {})
        if not isinstance(name, str) or not isinstance(thresholds, list) or not isinstance(fitted, dict):
            raise ValueError(f"{where} needs policy (a name), thresholds (a list) and, if at all, fitted (an object)")
        temperatures, learned = values.get("temperatures", []), values.get("learned", [])
        if not _numbers(temperatures) or not isinstance(learned, list) or not all(map(_numbers, learned)):
            raise ValueError(f"{where}: temperatures must be a list of numbers, learned a list of such lists")
        rows = tuple(tuple(row) for row in learned)
        return lookup(POLICIES, name, "policy")(tuple(thresholds), fitted, tuple(temperatures), rows)

    @staticmethod
    def load(path: str | Path) -> Policy:
        """Read a saved policy; FileNotFoundError or ValueError naming the file."""
        return Policy.from_dict(read_json(Path(path)), str(path))


class ConfidencePolicy(ByScore, Policy):
    """Leave at confidence ≥ threshold (the release's rule)."""

    name = "confidence"
    reads = ("confidence",)
    rule = "Leave at the first exit that is at least **{}** confident, else at the last."
    summary = "the probability of the best class"


class MarginPolicy(ByScore, Policy):
    """Leave at margin ≥ threshold."""

    name = "margin"
    reads = ("margin",)
    rule = "Leave at the first exit whose best class leads by at least **{}**, else at the last."
    summary = "best class minus second best"


class EntropyPolicy(ByScore, Policy):
    """Leave at entropy ≤ threshold (nats); below 0 nobody leaves early."""

    name = "entropy"
    reads = ("entropy",)
    rule = "Leave at the first exit with an entropy of at most **{}** nats, else at the last."
    summary = "how spread out the probabilities are"
    falling = True
    everybody = 20.0  # no entropy gets there: ln C of half a billion classes
    nobody = -0.01


class PatiencePolicy(ByCount, Policy):
    """Leave once ``threshold`` exits in a row agreed with the one before: patience t needs t+1 agreeing exits."""

    name = "patience"
    reads = ("prediction",)
    rule = "Leave once **{}** exits in a row repeat the answer before them, else at the last."
    summary = "how often the answer was repeated"

    def start(self, n: int, like: Any) -> State:
        """How many exits in a row agreed (n,) and what the last one said (n,)."""
        return _zeros(n, like), _zeros(n, like)

    def value(self, exit: int, scores: Mapping[str, Any], state: State) -> tuple[Any, State]:
        """See `ByValue.value`."""
        count = _repeats(exit, scores["prediction"], state)
        return count, (count, scores["prediction"])


class PatienceConfidencePolicy(ByScore, Policy):
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
        """See `ByValue.value`."""
        confidence = scores["confidence"]
        count = _repeats(exit, scores["prediction"], state)
        half = array_namespace(confidence).astype(0.5**count, confidence.dtype)
        return 1 - (1 - confidence) * half, (count, scores["prediction"])


class GatePolicy(ByScore, Policy):
    """Leave where a small judge of each exit thinks with chance ≥ threshold that going on brings nothing.

    ``learned``: one row per exit but the last, weights of `gate.FEATURES` and the intercept. See `gate`.
    """

    name = "gate"
    reads = ("prediction", "confidence", "entropy", "margin")
    rule = "Leave where a learned judge gives at least **{}** that going on brings nothing, else at the last."
    summary = "a logistic regression per exit on its scores and those of the exit before"
    learns = True

    def start(self, n: int, like: Any) -> State:
        """Repetitions and what the last exit said, its log-odds and margin, (n,) each."""
        float32 = array_namespace(like).float32
        zeros = _zeros(n, like), _zeros(n, like)
        return (*zeros, _zeros(n, like, float32), _zeros(n, like, float32))

    def features(self, exit: int, scores: Mapping[str, Any], state: State) -> tuple[tuple[Any, ...], State]:
        """`gate.FEATURES` of b images, (b,) each, and the new state."""
        odds, before, margin_before = log_odds(scores["confidence"]), state[2], state[3]
        count = _repeats(exit, scores["prediction"], state[:2])
        repeats = array_namespace(odds).astype(count, odds.dtype)
        seen = (odds, scores["entropy"], scores["margin"], repeats, before, margin_before)
        return seen, (count, scores["prediction"], odds, scores["margin"])

    def value(self, exit: int, scores: Mapping[str, Any], state: State) -> tuple[Any, State]:
        """See `ByValue.value`."""
        features, state = self.features(exit, scores, state)
        if exit >= len(self.learned):  # asked by thresholds alone (everybody, nobody), or at the last exit
            return 0 * features[0] + 0.5, state
        return judge(self.learned[exit], features), state

    def _check_learned(self, n_exits: int) -> None:
        if len(self.learned) != n_exits - 1 or any(len(row) != 7 for row in self.learned):
            raise ValueError(_unlearned(self.name, n_exits))


class BudgetedPolicy(Policy):
    """Keep a share of those who came to each exit, the least sure ones (MSDNet's budgeted batch classification).

    ``thresholds``: the share that goes on, one for all exits (then geometrically fewer get to each) or one per exit.
    ``learned``: what confidence that takes on val. For one share, rows of a share and K−1 confidences, rising in the
    share, between which confidences are interpolated; for K−1 shares, one row of K−1 confidences. Ours: shares are not
    normalised over the exits, the last takes the rest.
    """

    name = "budgeted"
    reads = ("confidence",)
    rule = "Leave unless among the least sure **{}** of those who came to this exit on val, else at the last."
    summary = "confidence, with a level per exit at which a fixed share of the images goes on"
    learns = True
    nobody = 1.0

    def _clean(self, threshold: Any) -> float:
        number = isinstance(threshold, int | float | np.floating) and not isinstance(threshold, bool)
        if not number or not 0 <= threshold <= 1:
            raise ValueError(f"threshold={threshold!r} of policy 'budgeted' must be a share from 0 to 1")
        return float(str(np.float32(threshold)))

    def level(self, exit: int) -> float:
        """The confidence from which images leave at ``exit`` (0-based)."""
        share = self.threshold(exit)
        if share == self.everybody or exit >= self._levels() > 0:
            return ConfidencePolicy.everybody
        if share == self.nobody:
            return ConfidencePolicy.nobody
        if len(self.thresholds) > 1:
            return self.learned[0][exit]
        shares, levels = ([row[i] for row in self.learned] for i in (0, exit + 1))
        return float(np.interp(share, shares, levels))

    def _levels(self) -> int:
        return len(self.learned[0]) - (len(self.thresholds) == 1) if self.learned else 0

    def decide(self, exit: int, scores: Mapping[str, Any], state: State) -> tuple[Any, State]:
        """See `Rule.decide`."""
        return scores["confidence"] >= float(np.float32(self.level(exit))), state

    def _check_learned(self, n_exits: int) -> None:
        single = len(self.thresholds) == 1
        expected = n_exits if single else n_exits - 1
        if {len(row) for row in self.learned} != {expected} or (not single and len(self.learned) != 1):
            raise ValueError(_unlearned(self.name, n_exits))


class RandomPolicy(ByScore, Policy):
    """Leave at every exit with probability ``threshold``: a control. Ours: the draw of an image's row and the exit."""

    name = "random"
    reads = ("prediction",)
    rule = "Leave at every exit with a probability of **{}**, whatever the image, else at the last."
    summary = "chance: a control that looks at nothing"
    falling = True
    everybody, nobody = 1.0, 0.0

    def start(self, n: int, like: Any) -> State:
        """The row of every image (n,); in a live batch its place there."""
        xp = array_namespace(like)
        return (xp.arange(n, dtype=xp.int64, device=device(like)),)

    def value(self, exit: int, scores: Mapping[str, Any], state: State) -> tuple[Any, State]:
        """See `ByValue.value`."""
        return _draws(state[0], exit), state


class FixedPolicy(ByCount, Policy):
    """Leave at exit ``threshold``, counted from 1: a control."""

    name = "fixed"
    reads = ("prediction",)
    rule = "Leave at exit **{}**, whatever the image, or at the last if there are fewer."
    summary = "the number of the exit: a control, as if the model ended there"
    everybody = 1

    def value(self, exit: int, scores: Mapping[str, Any], state: State) -> tuple[Any, State]:
        """See `ByValue.value`."""
        return 0 * scores["prediction"] + (exit + 1), state


class OraclePolicy(ByCount, Policy):
    """Leave at the first right exit up to ``threshold``, and at exit 1 where none of these is right: a bound.

    For its mean compute no choice of exits is right more often, since it pays for the cheapest gains first. A
    threshold above K lets nobody leave early. It reads the labels, so it runs on records only.
    """

    name = "oracle"
    reads = ("prediction",)
    rule = "Leave at the first right exit up to exit **{}**, else at exit 1: it knows the labels, so it is a bound."
    summary = "the labels: a bound that no model can reach, not for use"
    deployable = False
    everybody = 1

    @classmethod
    def settings(cls, n_exits: int) -> list[int] | None:
        """See `Rule.settings`; the last one lets nobody leave early."""
        return list(range(1, n_exits + 2))

    def decide(self, exit: int, scores: Mapping[str, Any], state: State) -> tuple[Any, State]:
        """Raises ValueError: without labels there is no oracle."""
        raise ValueError(not_deployable(self.name))

    def exits(self, record: ExitRecord) -> npt.NDArray[np.int64]:
        """(B,) exit of every image, 0-based."""
        if len(self.thresholds) > 1:
            raise ValueError("policy 'oracle' takes one threshold: the last exit that it may choose, counted from 1")
        if self.thresholds[0] > record.n_exits:
            return np.full(record.images, record.n_exits - 1, np.int64)
        return np.asarray(np.argmax(record.correct[:, : int(self.thresholds[0])], axis=1), np.int64)


POLICIES: dict[str, type[Policy]] = {
    kind.name: kind
    for kind in (
        ConfidencePolicy,
        EntropyPolicy,
        MarginPolicy,
        PatiencePolicy,
        PatienceConfidencePolicy,
        GatePolicy,
        BudgetedPolicy,
        RandomPolicy,
        FixedPolicy,
        OraclePolicy,
    )
}
_KEYS = ("policy", "thresholds", "fitted", "temperatures", "learned")


def not_deployable(name: str) -> str:
    """The error text where a bound is asked to decide about images."""
    usable = ", ".join(name for name, kind in POLICIES.items() if kind.deployable)
    return f"policy {name!r} knows the labels: it is a bound for records and cannot decide about images; use {usable}"


def write_policies(path: str | Path, policies: Mapping[str, Policy]) -> None:
    """Write named policies as one JSON object."""
    write_json(Path(path), {name: policy.to_dict() for name, policy in policies.items()})


def read_policies(path: str | Path) -> dict[str, Policy]:
    """Read `write_policies`'s file; FileNotFoundError or ValueError naming the file and the entry."""
    values = read_json(Path(path))
    if not isinstance(values, dict):
        raise ValueError(f"{path} must hold a JSON object, not {type(values).__name__}")
    return {name: Policy.from_dict(value, f"{path}: {name!r}") for name, value in values.items()}


def _zeros(n: int, like: Any, kind: Any = None) -> Any:
    xp = array_namespace(like)
    return xp.zeros(n, dtype=kind or xp.int32, device=device(like))


def _repeats(exit: int, prediction: Any, state: State) -> Any:
    """How many exits in a row, this one included, repeated the answer before them."""
    count, previous = state
    return (count + 1) * (prediction == previous) if exit else count


def _draws(rows: Any, exit: int) -> Any:
    """A float32 in (0, 1) for every row and exit, the same everywhere: a 32-bit hash (multiply and shift, thrice)."""
    xp = array_namespace(rows)
    x = (rows * 64 + exit + 1) % 2**32
    for _ in range(3):
        x = ((x // 2**16) ^ x) * 0x45D9F3B % 2**32
    return (xp.astype(x // 2**9, xp.float32) + 0.5) / 2**23


def _unlearned(name: str, n_exits: int) -> str:
    return (
        f"policy {name!r} has not learned what it needs for {n_exits} exits; make it with fit_policy on a val record "
        "(a threshold alone says too little)"
    )


def _numbers(values: Any) -> bool:
    plain = isinstance(values, list) and all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    return plain and all(math.isfinite(v) for v in values)
