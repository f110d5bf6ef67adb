"""Checks before a training: its name, the folder of runs, disk space, and pre-trained weights.

In: a `Config` and a name. Out: `Finding`s, to be named together with those of the data check. No file is left.
"""

from __future__ import annotations

from pathlib import Path

from ..config import Config
from ..data.check import Finding
from ..pretrained.weights import fetch_weights, find_weights
from ..pretrained.wheels import SOURCES
from ..utils.files import full_disk_cause, write_error
from ..utils.typing import Report
from .store import new_run_path, runs_root

CHECKED = (OSError, ValueError)


def start_findings(config: Config, name: str, *, force: bool = False) -> list[Finding]:
    """Findings that stop a new run of this name, apart from its images.

    Args:
        force: a run of that name may be replaced.
    """
    found = []
    try:
        new_run_path(name, force)
    except CHECKED as error:
        found.append(_finding("name", error))
    if finding := place_finding():
        found.append(finding)
    try:
        find_weights(config.model.backbone, config.model.weights)
    except CHECKED as error:
        found.append(_finding("weights", error))
    return found


def fetch_backbone(name: str, progress: Report | None = None) -> Path:
    """Download a backbone's weights, the published file that the library lists or else those of timm's hub.

    Raises:
        ValueError: no such backbone. FileNotFoundError: they cannot be downloaded.
    """
    if name in SOURCES:
        return fetch_weights(name, progress)
    from ..models.timm_backbones import fetch_hub_weights

    return fetch_hub_weights(name)


def place_finding() -> Finding | None:
    """The finding if no file can be written under the runs root; else None."""
    root = runs_root()
    if (error := write_error(root)) is None:
        return None
    why = "its disk is full; make room" if full_disk_cause(error) else f"{error.strerror or error}; choose another one"
    text = f"runs are written to {root.absolute()} (DMPO_EXPLORE_RUNS), where nothing can be written: {why}"
    return Finding("runs root", text, stops=True, error=OSError)


def _finding(check: str, error: Exception) -> Finding:
    return Finding(check, str(error), stops=True, error=type(error))
