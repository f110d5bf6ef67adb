"""What a page holds of its run: page.json and the record's arrays, as a browser reads them.

In: a run, its record, a policy. Out: JSON values, and files of numbers (little-endian, without a header). The slider's
positions are those of `dx.analysis.slider_counts`; the page counts exits from the arrays.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..analysis.metrics import accuracy_interval
from ..analysis.outcome import apply
from ..analysis.tables import origin, percent
from ..figures.style import exit_colours
from ..policies.base import Policy
from ..records.record import ExitRecord
from ..records.scores import SCORES
from ..reports.shared import facts_of, rule_of, slider_of
from ..runs.run import Run
from .runtime import integrity

FORMAT = "dmpo-explore page"
VERSION = 1
COMPUTED = ("confidence", "margin", "entropy")  # scores that its scores.js computes
RESIZING = ("bicubic", "bilinear", "box", "hamming", "lanczos")  # of its resize.js


def check_policy(policy: Policy, n_exits: int) -> None:
    """Raise ValueError unless a page can show ``policy``: one threshold on one score of an exit's logits."""
    if n_exits < 2:
        raise ValueError(
            "a run with a single exit has nothing to show: a page is about where images stop; take --out for its graph"
        )
    if len(policy.thresholds) > 1:
        raise ValueError(f"a page has one slider, but the policy has {len(policy.thresholds)} thresholds: fit one")
    if policy.compared_score() not in COMPUTED or not policy.per_exit_thresholds:
        raise ValueError(
            f"a page computes no policy {policy.name!r}; take one that compares {', '.join(COMPUTED)}, or show this "
            "one in a report"
        )


def check_resizing(interpolation: str) -> None:
    """Raise ValueError unless a page resizes with ``interpolation``."""
    if interpolation not in RESIZING:
        raise ValueError(f"a page has no interpolation {interpolation!r}; valid: {', '.join(RESIZING)}")


def write_record(folder: Path, record: ExitRecord, policy: Policy) -> dict[str, Any]:
    """Write labels (B,), predictions (B, K) and the policy's scores (B, K) into ``record/``; returns their entries.

    Scores are those that the policy compares, at its temperatures, so that no exit differs from the library's.
    """
    place = folder / "record"
    place.mkdir()
    narrow = "<u1" if len(record.meta.class_names) <= 256 else "<u2"
    scored = apply(policy, record).record
    arrays = {
        "labels": record.labels.astype(narrow),
        "predictions": record.prediction.astype(narrow),
        "scores": scored.score(policy.reads[0]).astype("<f4"),
    }
    entries: dict[str, Any] = {"images": record.n_images, "exits": record.n_exits}
    for name, array in arrays.items():
        path = place / f"{name}.bin"
        path.write_bytes(np.ascontiguousarray(array).tobytes())
        entries[name] = file_facts(folder, path) | {"type": array.dtype.name}
    return entries


def file_facts(folder: Path, path: Path) -> dict[str, Any]:
    """Address, bytes and hash of a file, as the page checks it."""
    return {
        "url": path.relative_to(folder).as_posix(), "bytes": path.stat().st_size, "packed": False,
        "integrity": integrity(path),
    }  # fmt: skip


def run_facts(run: Run, record: ExitRecord, policy: Policy) -> dict[str, Any]:
    """Name, classes, exits, compute and policy of a run, with the slider's positions and the notes of the page."""
    outcome = apply(policy, record)
    slider = slider_of(policy, outcome)
    meta, found = record.meta, float(outcome.correct.mean())
    (low, high), how = accuracy_interval(outcome.correct), origin(policy) or "set by hand"
    kept = [float(threshold) for threshold in slider.thresholds]
    return {
        "format": FORMAT,
        "format_version": VERSION,
        "made_by": f"dmpo-explore {__version__}",
        "name": run.name,
        "split": meta.split,
        "class_names": list(meta.class_names),
        "blocks": list(meta.exit_blocks),
        "flops": [float(f) for f in meta.flops],
        "reference_flops": float(meta.reference_flops),
        "colours": exit_colours(record.n_exits),
        "policy": {
            "name": policy.name,
            "score": policy.reads[0],
            "falling": policy.falling,
            "unit": policy.unit,
            "temperatures": list(policy.temperatures),
            "rule": rule_of(policy, fixed=False),
            "highest": float(SCORES[policy.reads[0]].bounds(len(meta.class_names))[1]),
        },
        "slider": {"thresholds": kept, "place": slider.position},
        "facts": facts_of(run, record),
        "notes": [
            f"The slider begins at the policy {policy.name}, {how}. There the accuracy on {meta.split} is "
            f"{percent(found)}, with a 95 % interval from {percent(low)} to {percent(high)}.",
            f"Other positions are set by hand, looking at {meta.split}: they are no result.",
            "Compute is the mean over images of all FLOPs that ran, relative to the plain backbone.",
        ],
    }
