"""Measurements of a live run: a call, speed, latency, what a stretch measured, single answers, and the count of all."""

from __future__ import annotations

from dataclasses import dataclass

from ..policies.base import Policy
from ..utils.typing import Ints
from .loop import InferenceResult


@dataclass(frozen=True)
class Call:
    """One call of either arm on the same n images.

    Args:
        rows: (n,) rows of the record. policy: the one that decided the exits. early: result of the early-exit arm.
        full: (n,) labels of the full model. early_s, full_s: seconds of each arm.
        stage_s: seconds from the call's begin until each stage ended, as far as stages ran; empty: not known.
        early_j, full_j: joules of each arm; None: not known.

    Example:
        >>> import numpy as np
        >>> import dmpo_explore as dx
        >>> record, policy = dx.load_run("demo").record("test"), dx.policies.ConfidencePolicy((0.9,))
        >>> outcome = dx.apply(policy, record.subset(rows := np.arange(100)))
        >>> early = InferenceResult(outcome.exits, outcome.prediction, outcome.confidence)
        >>> call = Call(rows, policy, early, record.prediction[rows, -1], early_s=0.5, full_s=1.0)
        >>> len(call.rows), call.early.exit.shape, call.full.shape
        (100, (100,), (100,))
    """

    rows: Ints
    policy: Policy
    early: InferenceResult
    full: Ints
    early_s: float
    full_s: float
    stage_s: tuple[float, ...] = ()
    early_j: float | None = None
    full_j: float | None = None


@dataclass(frozen=True)
class Latency:
    """Latency of the images of one exit: seconds from their call's begin until that exit's stage ended, call by call.

    Args:
        seconds: of the last calls in which images exited there. images: how many in each of them.

    Example:
        >>> Latency(seconds=(0.02, 0.04), images=(3, 1)).mean
        0.025
    """

    seconds: tuple[float, ...]
    images: tuple[int, ...]

    @property
    def mean(self) -> float:
        """Mean over images, in seconds; NaN without any."""
        n = sum(self.images)
        return sum(s * i for s, i in zip(self.seconds, self.images, strict=True)) / n if n else float("nan")


@dataclass(frozen=True)
class Speed:
    """Speed of one arm in one stretch. ``seconds``: inside its calls; ``p50``, ``p95``: seconds of a call.
    ``joules``: of its images together; None: not known.

    Example:
        >>> Speed(images=100, seconds=2.0, p50=0.02, p95=0.03).rate
        50.0
    """

    images: int
    seconds: float
    p50: float
    p95: float
    joules: float | None = None

    @property
    def rate(self) -> float:
        """Images per second."""
        return self.images / self.seconds


@dataclass(frozen=True)
class Measured:
    """Measurements of a stretch: the calls since the policy was last exchanged.

    Args:
        speed_up: seconds of the full arm over those of the early one, for the same images.
        low, high: 10 % and 90 % quantiles of that ratio from call to call.
        expected_speed_up: the same ratio of FLOPs: the plain backbone's over those of the exits taken.
        exits: (K,) images that exited there. accuracy, full_accuracy: shares of correct labels of either arm.
        latency: of each exit; empty where stages are not timed.

    Example:
        >>> arms = Speed(100, 0.5, 0.5, 0.5), Speed(100, 1.0, 1.0, 1.0)
        >>> measured = Measured(1, *arms, 2.0, 2.0, 2.0, 2.5, exits=(80, 20), accuracy=0.9, full_accuracy=0.91)
        >>> measured.early.rate, measured.full.rate, measured.speed_up
        (200.0, 100.0, 2.0)
    """

    calls: int
    early: Speed
    full: Speed
    speed_up: float
    low: float
    high: float
    expected_speed_up: float
    exits: tuple[int, ...]
    accuracy: float
    full_accuracy: float
    latency: tuple[Latency, ...] = ()


@dataclass(frozen=True)
class Answer:
    """Result for one image: row of the record, 0-based exit, label, confidence there.

    Example:
        >>> Answer(row=7, exit=1, label=3, confidence=0.98).exit
        1
    """

    row: int
    exit: int
    label: int
    confidence: float


@dataclass(frozen=True)
class Disagreement:
    """An image whose exit or label differs from its record; exits are 0-based.

    ``distance``: of the recorded score to the threshold at the first exit where the two differ; None where the policy
    compares no score there.

    Example:
        >>> Disagreement(row=7, exit=0, recorded_exit=1, label=3, recorded_label=3, distance=1e-7).recorded_exit
        1
    """

    row: int
    exit: int
    recorded_exit: int
    label: int
    recorded_label: int
    distance: float | None


@dataclass(frozen=True)
class Point:
    """After a call: images classified since the start, (K,) exit shares of the stretch so far, images per second.

    Example:
        >>> Point(answered=64, shares=(0.75, 0.25), early=120.0, full=60.0).shares
        (0.75, 0.25)
    """

    answered: int
    shares: tuple[float, ...]
    early: float
    full: float


@dataclass(frozen=True)
class Count:
    """All live statistics at one moment.

    Args:
        images: classified since the start. agreed: of them with the record's exit and label. full_agreed: of them with
            the record's last label from the full model.
        measured: the stretch under ``policy``; None before its first call.
        last: newest first. moves: changes of the policy: images classified before each, and the policy.

    Example:
        >>> import dmpo_explore as dx
        >>> count = dx.inference.LiveStats(dx.load_run("demo").record("test")).count()
        >>> count.images, count.measured
        (0, None)
    """

    policy: Policy | None
    images: int
    agreed: int
    full_agreed: int
    measured: Measured | None
    disagreements: tuple[Disagreement, ...]
    last: tuple[Answer, ...]
    timeline: tuple[Point, ...]
    moves: tuple[tuple[int, Policy], ...]
