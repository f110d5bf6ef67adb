"""What the files of a folder hold, without dates, durations and drawn ids: equal texts for equal work.

In: a folder. Out: `contents`, the relative path of every file, hidden ones included → a hash of what it holds.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from dmpo_explore.search.search_run import MARK
from dmpo_explore.search.study import IDENTITY, load_front
from dmpo_explore.utils.torch_tools import load_tensors

TIMES = {"created", "seconds", "ended"}  # keys of JSON
DATE = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d)?)?")
DURATION = re.compile(r"\d+(?:\.\d+)? (?:s|seconds|minutes)\b|\b\d+:\d\d\b")


def contents(folder: Path) -> dict[str, str]:
    """Relative path → hash, of every file below a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): content(path) for path in files}


def content(path: Path) -> str:
    """A hash of what a file holds, without dates and durations."""
    try:
        held = _held(path)
    except Exception as error:  # damaged, in any of many ways
        held = f"{type(error).__name__}: {error}"
    return hashlib.sha256(held if isinstance(held, bytes) else held.encode()).hexdigest()


def _held(path: Path) -> bytes | str:
    if path.name == MARK:  # a kept run names its study by an id that is drawn for each new one
        mark = json.loads(path.read_text(encoding="utf-8"))
        return json.dumps(mark | {IDENTITY: len(mark[IDENTITY])})
    if path.suffix == ".json":
        return json.dumps(_timeless(json.loads(path.read_text(encoding="utf-8"))))
    if path.name == "history.csv":
        return pd.read_csv(io.StringIO(path.read_text(encoding="utf-8"))).drop(columns="seconds").to_csv()
    if path.name == "checkpoint.pt":
        return _described(_timeless(load_tensors(path, path.name)))
    if path.name == "searches.db":
        front = load_front("study", f"sqlite:///{path}")
        return f"{front.trials} {front.epochs.drop(columns=['seconds', 'ended']).to_json()}"
    if path.suffix == ".md":
        return DURATION.sub("", DATE.sub("", path.read_text(encoding="utf-8")))
    return path.read_bytes()


def _timeless(value: Any) -> Any:
    """JSON values, or a checkpoint's, without the entries of `TIMES`."""
    if isinstance(value, Mapping):
        return {str(key): _timeless(item) for key, item in value.items() if key not in TIMES}
    return [_timeless(item) for item in value] if isinstance(value, list | tuple) else value


def _described(value: Any) -> str:
    """A checkpoint's values in words: tensors by their bytes."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_described(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_described, value)) + "]"
    if hasattr(value, "numpy"):
        array = value.contiguous().cpu()
        return f"{array.dtype}{tuple(array.shape)}{hashlib.sha256(array.flatten().numpy().tobytes()).hexdigest()}"
    return repr(value)
