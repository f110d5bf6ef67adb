"""Scores of an exit, computed from its logits: the open registry `SCORES`; one implementation for numpy and torch.

In: logits (..., C) of any float type, on any device. Out: arrays (...,) of the same library and device.
Confidence (the largest softmax value) is the score of the authors' release; entropy and margin are the usual
alternatives (BranchyNet, Teerapittayanon et al. 2016; best versus second best). A record stores these; every other
score it computes from what that score needs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from array_api_compat import array_namespace, device

from .. import joints
from ..utils.registry import Joint, lookup
from ..utils.texts import one_line

LOGITS, SHARED = "logits", ("probabilities", "log_probabilities")  # what a score may need besides other scores
NAME = re.compile(r"\w[\w+ -]*")  # of a score, and of its file


@dataclass(frozen=True)
class Score:
    """A score: one number per row of logits, by which a policy can decide.

    Args:
        name: its name in `SCORES`.
        compute: gets what the score needs, in that order, and returns an array (...,) of the same library: numpy or
            torch. It must not change what it gets.
        better: where an exit is sure: at ``high`` values or at ``low`` ones; empty for a number that ranks no images.
        needs: of ``logits`` (..., C) float32, ``probabilities`` and ``log_probabilities`` (their softmax, computed once
            for all scores), and names of other scores. A score that needs none but other scores is available without
            logits.
        bounds: number of classes → lowest and highest possible value. kind: NumPy's name of the type that is kept.

    Raises:
        ValueError: another word for ``better``, nothing needed, or a name that stands for what scores need.

    Example:
        >>> import numpy as np
        >>> certain = Score("certain", lambda entropy: -entropy, "high", needs=("entropy",))
        >>> certain.compute(np.array([0.5])).tolist()
        [-0.5]
    """

    name: str
    compute: Callable[..., Any]
    better: Literal["high", "low", ""]
    needs: tuple[str, ...] = (LOGITS,)
    bounds: Callable[[float], tuple[float, float]] = lambda _: (-math.inf, math.inf)
    kind: str = "float32"

    def __post_init__(self) -> None:
        if self.better not in ("high", "low", ""):
            raise ValueError(f"score {self.name!r}: better={self.better!r} must be 'high', 'low' or ''")
        if not self.needs or self.name in (LOGITS, *SHARED, *self.needs):
            raise ValueError(f"score {self.name!r} needs {self.needs}: at least one, and another name than its own")
        if not NAME.fullmatch(self.name):
            raise ValueError(f"score {self.name!r}: its name must be of letters and digits, as it is that of a file")


def _entropy(probabilities: Any, log_probabilities: Any) -> Any:
    """−Σ p ln p; a class with p = 0 contributes 0."""
    xp = array_namespace(probabilities)
    logs = xp.where(probabilities > 0, log_probabilities, xp.zeros_like(probabilities))
    return 0 - xp.sum(probabilities * logs, axis=-1)


def _margin(probabilities: Any, prediction: Any) -> Any:
    xp = array_namespace(probabilities)
    classes = xp.arange(probabilities.shape[-1], device=device(probabilities))
    others = xp.where(classes == prediction[..., None], xp.zeros_like(probabilities), probabilities)
    return xp.max(probabilities, axis=-1) - xp.max(others, axis=-1)


def _share(_: float) -> tuple[float, float]:
    return 0.0, 1.0


SCORES: Joint[Score] = joints.SCORES.fill(
    {
        score.name: score
        for score in (
            Score(
                "prediction",
                lambda logits: array_namespace(logits).argmax(logits, axis=-1),
                "",
                bounds=lambda classes: (0, classes - 1),
                kind="int32",
            ),
            Score("confidence", lambda p: array_namespace(p).max(p, axis=-1), "high", ("probabilities",), _share),
            Score("entropy", _entropy, "low", SHARED, lambda classes: (0.0, math.log(classes))),
            Score("margin", _margin, "high", ("probabilities", "prediction"), _share),
        )
    }
)
STORED = ("prediction", "confidence", "entropy", "margin")  # by every record, whether it keeps logits or not


def scores(logits: Any, reads: Sequence[str] = STORED) -> dict[str, Any]:
    """Scores of each row of logits.

    Args:
        logits: (..., C), C ≥ 1, numpy or torch; computed in float32.
        reads: which of `SCORES` to compute; ``prediction`` is always included.

    Returns:
        Name → array (...,), in the order of `SCORES`: int32 ``prediction``; float32 ``confidence`` in [1/C, 1],
        ``entropy`` in [0, ln C] (nats), ``margin`` = best minus second-best probability in [0, 1], 1 if there is a
        single class; and others as they were registered.

    Raises:
        ValueError: unknown score (the valid ones are listed), logits without classes, or a score of another shape.

    Example:
        >>> import numpy as np
        >>> found = scores(np.log([[0.7, 0.2, 0.1]]))
        >>> found["prediction"].tolist(), [round(float(found[name][0]), 2) for name in ("confidence", "margin")]
        ([0], [0.7, 0.5])
    """
    return _named(_Values(logits, {}), reads)


def scores_of_record(
    logits: Any, reads: Sequence[str], temperature: float | None = None, stored: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """`scores` as a record of these logits has them, so that a live model and its record agree.

    The scores that it stores (`STORED`) are of the logits as they are; others of those that it keeps, in half
    precision. At a temperature all are of `tempered` logits, but for the prediction, which stays the model's own.

    Args:
        logits: as of `scores`; None where there are none. stored: name → array (...,), those that are known already.
    """
    given = dict(stored or {})
    if temperature is not None:
        own = given if "prediction" in given else scores(logits, ())
        return _named(_Values(tempered(logits, temperature), {}), reads) | {"prediction": own["prediction"]}
    plain = _Values(logits, given)
    if {*reads} <= {*STORED, *given}:
        return _named(plain, reads)
    given |= {name: plain[name] for name in leaves(("prediction", *reads), STORED) if name in STORED}
    return _named(_Values(None if logits is None else tempered(logits, 1.0), given), reads)


def leaves(reads: Iterable[str], stored: Iterable[str]) -> set[str]:
    """What some scores are computed from: names in ``stored``, or ``logits``; unknown names stay as they are."""
    found, known = set[str](), {*stored}
    for name in reads:
        if name in known or name not in SCORES:
            found.add(LOGITS if name in SHARED else name)
        else:
            found |= leaves(SCORES[name].needs, known)
    return found


def tempered(logits: Any, temperature: float) -> Any:
    """Logits divided by a temperature, float32, shape and library as given.

    Ours: they are first rounded to float16, as a record keeps them, so that a live model and its record agree.

    Raises:
        ValueError: a temperature that is not a positive number.

    Example:
        >>> import numpy as np
        >>> tempered(np.array([[4.0, 2.0]]), 2.0).tolist()
        [[2.0, 1.0]]
    """
    if not 0 < temperature < float("inf"):
        raise ValueError(f"temperature={temperature!r} must be a positive number")
    xp = array_namespace(logits)
    return xp.astype(xp.astype(logits, xp.float16), xp.float32) / float(temperature)


class _Values(dict[str, Any]):
    """Name → array: scores and what they need, each computed from the logits on first use and kept."""

    def __init__(self, logits: Any, found: Mapping[str, Any]) -> None:
        super().__init__(found)
        if logits is not None:
            if logits.ndim < 1 or logits.shape[-1] < 1:
                raise ValueError(f"logits of shape {tuple(logits.shape)} have no classes; expected (..., C) with C ≥ 1")
            self.xp = array_namespace(logits)
            self[LOGITS] = self.xp.astype(logits, self.xp.float32, copy=False)

    def __missing__(self, name: str) -> Any:
        if name == "probabilities":
            weight = self.xp.exp(self._shifted)
            self._total = self.xp.sum(weight, axis=-1, keepdims=True)  # (..., 1), at least 1
            self[name] = weight / self._total
        elif name == "log_probabilities":
            self["probabilities"]  # gives the total
            self[name] = self._shifted - self.xp.log(self._total)
        else:
            self[name] = self._score(lookup(SCORES, name, "score"))
        return self[name]

    @cached_property
    def _shifted(self) -> Any:
        return self[LOGITS] - self.xp.max(self[LOGITS], axis=-1, keepdims=True)

    def _score(self, score: Score) -> Any:
        given = [_unchangeable(self[name]) for name in score.needs]
        try:
            found = score.compute(*given)
            xp = array_namespace(found)
            values = xp.astype(found, getattr(xp, score.kind), copy=False)
        except (Exception, SystemExit) as error:  # a plug-in may do anything
            kind = type(given[0]).__module__.partition(".")[0]
            raise ValueError(
                f"score {score.name!r} failed on {kind} arrays: {type(error).__name__}: {one_line(error)}"
            ) from error
        like = self[LOGITS][..., 0] if LOGITS in self else given[0]
        if tuple(found.shape) != tuple(like.shape):
            raise ValueError(
                f"score {score.name!r} has shape {tuple(found.shape)}; compute must return one number per row, "
                f"{tuple(like.shape)}"
            )
        return values


def _unchangeable(values: Any) -> Any:
    """A view of NumPy's arrays that cannot be written to: other scores are computed from the same values."""
    if isinstance(values, np.ndarray):
        values = values.view()
        values.flags.writeable = False
    return values


def _named(values: _Values, reads: Sequence[str]) -> dict[str, Any]:
    for name in reads:
        lookup(SCORES, name, "score")
    wanted = {"prediction", *reads}
    return {name: values[name] for name in SCORES if name in wanted}
