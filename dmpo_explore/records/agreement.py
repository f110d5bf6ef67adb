"""Agreement of a record's scores with each other and with its logits.

In: the arrays of a record whose form and ranges are valid. Out: problems, as of `validation`. Only
`ExitRecord.problems` reads all logits for it; a record that does not agree is still opened.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..utils.typing import Array
from .arrays import pieces
from .scores import LOGITS, SCORES, STORED, leaves, scores_of_record

HALF = 2.0**-11  # half a unit in the last place of float16, relative
SLACK = 1e-3  # of a probability, for sums in float32


def agreement_problems(arrays: Mapping[str, Array], path: Path) -> Iterator[ValueError]:
    """Scores that cannot belong together, at their first image: one problem per kind.

    Args:
        arrays: file → array, of all score files, and of ``logits.npy`` where there is one. path: the folder, for
            messages.

    Logits are stored as float16, so a confidence may differ from theirs by what that rounding changes; their order is
    kept by rounding, so a prediction is exactly one of the largest. Ours: other scores may differ by a share of their
    range, so that only those of other logits or of another formula are found.
    """
    found: dict[str, tuple[int, ValueError]] = {}
    scores = {Path(file).stem: array for file, array in arrays.items() if file.startswith("scores/")}
    logits = arrays.get("logits.npy")
    ranges = {} if logits is None else _ranges(scores, logits.shape[2])
    for start, piece in pieces(scores["margin"] if logits is None else logits):
        part = {name: array[start : start + len(piece)] for name, array in scores.items()}
        larger = part["margin"] > part["confidence"] + SLACK
        _note(found, "margin", larger, start, path / "scores/margin.npy", "the margin is above the confidence")
        if logits is None:
            continue
        z = np.asarray(piece, np.float32)
        chosen = np.take_along_axis(z, part["prediction"][..., None], axis=2)[..., 0]
        other = chosen < z.max(axis=2)
        _note(found, "prediction", other, start, path / "scores/prediction.npy", "another class has the largest logit")
        p = 1 / np.exp(z - z.max(axis=2, keepdims=True)).sum(axis=2)
        far = np.abs(part["confidence"] - p) > SLACK + p * (1 - p) * 4 * HALF * np.abs(z).max(axis=2)
        text = "the confidence is not the largest softmax probability of the logits"
        _note(found, "confidence", far & ~other, start, path / "scores/confidence.npy", text)
        for name, width in ranges.items():
            given = {known: part[known] for known in STORED if known != name}
            off = np.abs(part[name] - scores_of_record(piece, [name], stored=given)[name])
            far = off > SLACK + 8 * HALF * np.abs(z).max(axis=2) * width
            text = f"the {name} is not that of the logits"
            _note(found, name, far & ~other, start, path / f"scores/{name}.npy", text)
    for count, problem in found.values():
        yield ValueError(f"{problem}{such(count)}; compute all scores from the same logits")


def _ranges(names: Iterable[str], n_classes: int) -> dict[str, float]:
    """Score → width of its range: those that are computed from logits, but prediction and confidence."""
    ours = [name for name in names if name in SCORES and LOGITS in leaves(SCORES[name].needs, ())]
    bounds = {name: SCORES[name].bounds(n_classes) for name in ours if name not in ("prediction", "confidence")}
    return {name: high - low for name, (low, high) in bounds.items() if math.isfinite(high - low)}


def such(count: int) -> str:
    """What follows the first of ``count`` bad values."""
    return f" ({count:,} such values)" if count > 1 else ""


def _note(
    found: dict[str, tuple[int, ValueError]], kind: str, bad: npt.NDArray[np.bool_], start: int, path: Path, text: str
) -> None:
    """Count the bad values (rows, exits) of a piece; the first gives the message."""
    if bad.any():
        image, exit = (int(axis[0]) for axis in np.nonzero(bad))
        message = ValueError(f"{path}: {text} at image {start + image} (counted from 0), exit {exit + 1}")
        count, problem = found.get(kind, (0, message))
        found[kind] = count + int(bad.sum()), problem
