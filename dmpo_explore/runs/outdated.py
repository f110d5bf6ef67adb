"""Outdated records: those made before the run was trained longer; no torch."""

from __future__ import annotations

from ..utils.files import read_json
from .run import Run
from .weights_file import of_other_weights


def outdated_splits(run: Run) -> list[str]:
    """Splits whose record is of earlier weights than the run has now; `Run.record` refuses to open it.

    Records of earlier versions do not name their weights, and are never among these.

    Example:
        >>> import dmpo_explore as dx
        >>> outdated_splits(dx.load_run("demo"))
        []
    """
    return [split for split in run.splits() if of_other_weights(run.path, _weights_sha256(run, split))]


def _weights_sha256(run: Run, split: str) -> str:
    try:
        return str(read_json(run.path / "records" / split / "meta.json").get("weights_sha256", ""))
    except (OSError, ValueError, AttributeError):  # a broken record, which has an error of its own
        return ""
