"""What is read once and kept: the app's only caches.

In: runs and splits. Out: what the library reads from them. Every entry is keyed by the file's stamp, so that a run that
is recorded anew is read anew and one that is gone raises FileNotFoundError. Importing this imports no torch.
"""

from __future__ import annotations

import base64
import hashlib
import io
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
import streamlit as st
from dmpo_explore_app.services import model_queue
from PIL import Image

import dmpo_explore as dx
from dmpo_explore.analysis import threshold_counts
from dmpo_explore.analysis.novelty import Crowd
from dmpo_explore.analysis.novelty import crowd as make_crowd
from dmpo_explore.data.images import ImageSet
from dmpo_explore.fitting.temperature import tempered_record
from dmpo_explore.jobs.jobs import check_ready
from dmpo_explore.policies.catalogue import POLICIES
from dmpo_explore.records.validation import FILES, OPTIONAL
from dmpo_explore.runs.weights_file import WEIGHTS

Stamp = tuple[str, str, int, int]  # folder, split, and which state of the file meta.json
THUMBNAIL = 160  # pixels; larger pictures are made smaller, smaller ones stay as they are


def stamp(run: dx.Run, split: str) -> Stamp:
    """Which state of a record this is; FileNotFoundError if there is none."""
    status = (run.path / "records" / split / "meta.json").stat()
    return str(run.path), split, status.st_mtime_ns, status.st_ino


def record(run: dx.Run, split: str) -> dx.ExitRecord:
    """The record, checked and memory-mapped; raises as `Run.record`."""
    return _record(stamp(run, split))


class Fingerprint(NamedTuple):
    """What tells whether records can be held against each other, small enough to keep thousands."""

    data: str
    labels: bytes  # a digest
    indices: bytes | None  # ... or nothing where they were not recorded
    reference_flops: float  # shares of compute are relative to it

    def comparable(self, other: Fingerprint) -> bool:
        """Same images, as `dx.evaluation.same_images` has it, and shares of compute of the same backbone."""
        indices = self.indices is None or other.indices is None or self.indices == other.indices
        return indices and self._replace(indices=None) == other._replace(indices=None)


def fingerprint(run: dx.Run, split: str) -> Fingerprint:
    """The record's; raises as `Run.record`."""
    return _fingerprint(stamp(run, split))


class Start(NamedTuple):
    """What a policy has before its threshold is chosen, as the caches know it."""

    learned_on: Stamp
    policy: str
    calibrated: bool  # with a temperature per exit, fitted on val


def base(run: dx.Run, split: str, policy: str, calibrated: bool = False) -> dx.Policy:
    """The policy with all that it learns on val, and a threshold still to be chosen; raises as `dx.fit_policy`."""
    return _base(_start(run, split, policy, calibrated))


def trade_off(run: dx.Run, split: str, policy: str, calibrated: bool = False) -> pd.DataFrame:
    """`dx.trade_off` of the record with thresholds as the policy keeps them: the slider's stops. Not to be changed."""
    return _trade_off(stamp(run, split), _start(run, split, policy, calibrated))


def line(run: dx.Run, split: str, policy: str, label: int | None = None, calibrated: bool = False) -> list[list[int]]:
    """`grid.single` at the stops of `trade_off`, for the images of class ``label`` only if one is given."""
    return _line(stamp(run, split), _start(run, split, policy, calibrated), label)


def stops_of_exits(run: dx.Run, split: str, policy: str, calibrated: bool = False) -> list[list[float]]:
    """`threshold_counts.positions_of_exits`."""
    return _stops_of_exits(stamp(run, split), _start(run, split, policy, calibrated))


def _start(run: dx.Run, split: str, policy: str, calibrated: bool) -> Start:
    return Start(stamp(run, "val" if calibrated or POLICIES[policy].learns else split), policy, calibrated)


def tempered(run: dx.Run, split: str, temperatures: tuple[float, ...]) -> dx.ExitRecord:
    """The record with the scores that a policy with ``temperatures`` reads; as it is without any."""
    return _tempered(stamp(run, split), temperatures) if temperatures else record(run, split)


def of_class(run: dx.Run, split: str, label: int) -> dx.ExitRecord:
    """The record of the images of one class."""
    return _of_class(stamp(run, split), label)


def fitted(
    run: dx.Run, policy: str, wish: str, value: float, per_exit: bool = False, calibrated: bool = False
) -> dx.Policy:
    """The policy fitted on the run's val record to ``flops``, ``accuracy_drop`` or ``too_early`` (a guarantee).

    Raises as `dx.fit_policy`.
    """
    return _fitted(stamp(run, "val"), policy, wish, value, per_exit, calibrated)


def thumbnails(run: dx.Run, split: str) -> Callable[[int], str]:
    """Image number in the record → data URI of its picture; raises as `Run.image_set`."""
    return _thumbnails(stamp(run, split))


def pictures(run: dx.Run, split: str) -> ImageSet:
    """Those of the record; raises as `Run.image_set`."""
    return _pictures(stamp(run, split))


def crowd(run: dx.Run, split: str, logits: bool) -> Crowd:
    """What the exits said about the record's images, to find others like one; raises as `Run.record`."""
    return _crowd(stamp(run, split), logits)


def preprocess(run: dx.Run) -> dx.Preprocess:
    """How the run's model wants its pictures; needs no weights."""
    return _preprocess(repr(run.config.model), run)


class Kept(OrderedDict[tuple[Any, ...], Any]):
    """What models said, by what they were asked; the oldest of more than ``most`` are dropped."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most, self.lock = most, threading.Lock()

    def keep(self, key: tuple[Any, ...], value: Any) -> None:
        """Put ``value`` in as the newest."""
        with self.lock:
            self[key] = value
            self.move_to_end(key)
            while len(self) > self.most:
                self.popitem(last=False)

    def forget(self) -> None:
        """Drop everything."""
        with self.lock:
            self.clear()


def kept(private: bool) -> Kept:
    """Of images of records, for all sessions; or this session's own, for pictures that its reader sent."""
    if private:
        return cast(Kept, st.session_state.setdefault("_kept", Kept(8)))
    return _shared()


@st.cache_resource(show_spinner=False)
def _shared() -> Kept:
    return Kept(96)


def ready(config: dx.Config) -> None:
    """`jobs.check_ready`, looked up again after a while; raises as that does."""
    problem = _not_ready(config.data, config.model.backbone, config.model.weights)
    if problem:
        raise ValueError(problem)


@st.cache_data(max_entries=64, ttl=10, show_spinner="Looking for pictures and weights …")
def _not_ready(data: dx.DataConfig, backbone: str, weights: str) -> str:
    try:
        check_ready(dx.Config(data, dx.ModelConfig(backbone, weights)))
    except (OSError, ValueError) as error:
        return str(error)
    return ""


WeightsStamp = tuple[str, int, int, int]  # folder, and which state of its weights


def model(run: dx.Run, device: str = "auto", merge: bool = False) -> dx.DMPO:
    """The trained model, shared between sessions: nobody may change it, and use it inside `model_queue.exclusive_use`.

    Loading waits for its turn too. Raises as `Run.model`.
    """
    with model_queue.exclusive_use("a model that is being loaded"):
        return _model(weights_stamp(run), device, merge)


def weights_stamp(run: dx.Run) -> WeightsStamp:
    """Which state of a run's weights this is, whether they are there or not."""
    try:
        status = (run.path / WEIGHTS).stat()
    except OSError:
        return str(run.path), 0, 0, 0  # `Run.model` says what is missing
    return str(run.path), status.st_mtime_ns, status.st_ino, status.st_size


# Maps hold the model that they are of: what is kept would keep a dropped one in memory.
@st.cache_resource(max_entries=3, show_spinner="Loading the model …", on_release=lambda _: _shared().forget())
def _model(stamp: WeightsStamp, device: str, merge: bool) -> dx.DMPO:
    return dx.load_run(stamp[0]).model(device, merge=merge)


@st.cache_resource(max_entries=64, show_spinner=False)
def _record(stamp: Stamp) -> dx.ExitRecord:
    path, split, *_ = stamp
    return dx.load_run(path).record(split)


@st.cache_resource(max_entries=8192, show_spinner=False)
def _fingerprint(stamp: Stamp) -> Fingerprint:
    path, split, *_ = stamp
    record = dx.load_run(path).record(split)  # not by `_record`: it would push out records that are looked at
    indices = None if record.meta.indices is None else _digest(record.meta.indices)
    return Fingerprint(record.meta.data, _digest(record.labels), indices, record.meta.reference_flops)


def _digest(numbers: npt.ArrayLike) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(numbers, np.int64).tobytes()).digest()


@st.cache_resource(max_entries=256, show_spinner=False)
def _base(start: Start) -> dx.Policy:
    everybody = {"threshold": POLICIES[start.policy].threshold_all}
    return _fit(_record(start.learned_on), start.policy, everybody, start.calibrated)


def _fit(record: dx.ExitRecord, policy: str, wish: dict[str, Any], calibrated: bool) -> dx.Policy:
    """`dx.fit_policy`; ``fitted`` says where temperatures were fitted too, for `sharing`."""
    how: dict[str, Any] = {"temperatures": "fit"} if calibrated else {}
    made = dx.fit_policy(record, policy, **wish, **how)
    return replace(made, fitted=made.fitted | how)


@st.cache_resource(max_entries=256, show_spinner="Drawing the curve …")
def _trade_off(stamp: Stamp, start: Start) -> pd.DataFrame:
    policy = _base(start)
    table = dx.trade_off(_record(stamp), policy)
    kept = [replace(policy, thresholds=(t,)).thresholds[0] for t in table["threshold"]]
    return table.assign(threshold=kept).drop_duplicates("threshold", ignore_index=True)


@st.cache_resource(max_entries=256, show_spinner=False)
def _line(stamp: Stamp, start: Start, label: int | None) -> list[list[int]]:
    record = _record(stamp) if label is None else _of_class(stamp, label)
    stops = _trade_off(stamp, start)["threshold"].tolist()
    rows: list[list[int]] = threshold_counts.single(record, _base(start), stops).tolist()
    return rows


@st.cache_resource(max_entries=64, show_spinner=False)
def _stops_of_exits(stamp: Stamp, start: Start) -> list[list[float]]:
    record = _record(stamp)
    return threshold_counts.positions_of_exits(record, _base(start))


@st.cache_resource(max_entries=8, show_spinner=False)
def _tempered(stamp: Stamp, temperatures: tuple[float, ...]) -> dx.ExitRecord:
    return tempered_record(_record(stamp), temperatures)


@st.cache_resource(max_entries=64, show_spinner=False)
def _of_class(stamp: Stamp, label: int) -> dx.ExitRecord:
    record = _record(stamp)
    return record.subset(np.flatnonzero(record.labels == label))


@st.cache_resource(max_entries=1024, show_spinner="Choosing the threshold on val …")
def _fitted(
    stamp: Stamp, policy: str, wish: str, value: float, per_exit: bool = False, calibrated: bool = False
) -> dx.Policy:
    guarantee = wish not in ("flops", "accuracy_drop")
    asked = {"risk": wish, "epsilon": value} if guarantee else {wish: value, "per_exit": per_exit}
    return _fit(_record(stamp), policy, asked, calibrated)


@st.cache_resource(max_entries=8, show_spinner="Reading the pictures …")
def _pictures(stamp: Stamp) -> ImageSet:
    path, split, *_ = stamp
    return dx.load_run(path).image_set(split)


@st.cache_resource(max_entries=8, show_spinner=False)
def _crowd(stamp: Stamp, logits: bool) -> Crowd:
    return make_crowd(_record(stamp), logits=logits)


@st.cache_resource(max_entries=32, show_spinner=False)
def _preprocess(asked: str, _run: dx.Run) -> dx.Preprocess:
    del asked  # the key
    return _run.preprocess()


@st.cache_resource(max_entries=8, show_spinner=False)
def _thumbnails(stamp: Stamp) -> Callable[[int], str]:
    pictures = _pictures(stamp)

    @lru_cache(maxsize=4096)
    def thumbnail(row: int) -> str:
        return data_uri(pictures[row])

    return thumbnail


def data_uri(picture: npt.NDArray[np.uint8]) -> str:
    """uint8 (H, W, 3) → a data URI: PNG at its own size, or JPEG at `THUMBNAIL` pixels if it is larger.

    A picture in grey is written as such.
    """
    grey = bool((picture == picture[..., :1]).all())  # a third of the bytes
    image, stream = Image.fromarray(picture[..., 0] if grey else picture), io.BytesIO()
    if max(image.size) > THUMBNAIL:
        image.thumbnail((THUMBNAIL, THUMBNAIL))
        image.save(stream, "JPEG", quality=85)
        return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
    image.save(stream, "PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


class Applied(NamedTuple):
    """What a policy does on a record."""

    policy: dx.Policy
    exits: npt.NDArray[np.int64]  # (B,) 0-based
    right: npt.NDArray[np.bool_]  # (B,)
    summary: dict[str, Any]


def applied(run: dx.Run, split: str, policy: str, budget: float | None) -> Applied:
    """The policy fitted on val to at most ``budget`` of compute, or full depth (None), applied to ``split``.

    Raises:
        FileNotFoundError, ValueError: no such record, or a budget that cannot be met; see `dx.fit_run_policy`.
    """
    fitted_on = None if budget is None else stamp(run, "val")
    return _applied(stamp(run, split), fitted_on, policy, budget)


@st.cache_resource(max_entries=256, show_spinner="Choosing thresholds on val …")
def _applied(stamp: Stamp, fitted_on: Stamp | None, policy: str, budget: float | None) -> Applied:
    record, run = _record(stamp), dx.load_run(stamp[0])
    if budget is None:
        fitted = dx.fit_run_policy(run, policy, dx.Target.full_depth())
    else:  # runs are compared under one budget, and each may spend no more than its own full depth
        most = dx.Target.flops(budget).capped(_record(fitted_on or stamp)).value
        fitted = _fitted(fitted_on or stamp, policy, "flops", most)
    exits = fitted.exits(record)
    return Applied(fitted, exits, record.correct[np.arange(record.n_images), exits], dx.summarise(record, exits))


# -- folders of one's own: every file counts, for their makers rewrite one at a time --

FolderStamp = tuple[str, tuple[tuple[str, int, int], ...]]  # folder; each file's name, time and size


def folder_stamp(folder: Path) -> FolderStamp:
    """Which state of a record folder this is; empty if there is nothing."""
    files = []
    for file in ("meta.json", *FILES, *OPTIONAL):
        try:
            status = (folder / file).stat()
        except OSError:
            continue
        files.append((file, status.st_mtime_ns, status.st_size))
    return str(folder), tuple(files)


@st.cache_resource(max_entries=32, show_spinner="Checking the folder …")
def folder_problems(stamp: FolderStamp) -> list[str]:
    """`dx.ExitRecord.problems` of a folder. Not to be changed."""
    return dx.ExitRecord.problems(stamp[0])


@st.cache_resource(max_entries=32, show_spinner=False)
def folder_record(stamp: FolderStamp) -> dx.ExitRecord:
    """`dx.ExitRecord.load` of a folder."""
    return dx.ExitRecord.load(stamp[0])


@st.cache_resource(max_entries=64, show_spinner="Drawing the curve …")
def folder_trade_off(stamp: FolderStamp, policy: str) -> pd.DataFrame:
    """As `trade_off`, of a folder; for policies that learn nothing."""
    record = folder_record(stamp)
    table = dx.trade_off(record, policy)
    kept = [dx.fit_policy(record, policy, threshold=t).thresholds[0] for t in table["threshold"]]
    return table.assign(threshold=kept).drop_duplicates("threshold", ignore_index=True)


@st.cache_resource(max_entries=256, show_spinner="Choosing the threshold …")
def folder_fitted(stamp: FolderStamp, policy: str, budget: float) -> dx.Policy:
    """The policy fitted on a folder to a compute budget; raises as `dx.fit_policy`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a test record; the page has a notice for that
        return dx.fit_policy(folder_record(stamp), policy, flops=budget)
