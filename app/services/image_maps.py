"""Maps of images by t-SNE, made in the background, one at a time, and kept on disk (`dx.analysis.image_map`). Of a
record with many images some are on the map, drawn as the mosaic's are."""

from __future__ import annotations

import hashlib
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypedDict

import numpy as np
import numpy.typing as npt
import streamlit as st
from dmpo_explore_app.services import mosaic_data, own_runs, records
from dmpo_explore_app.services.policies import OperatingPoint
from dmpo_explore_app.services.records import Stamp

import dmpo_explore as dx

MOST = 4000  # images of a map
EDGE = 65_535  # the largest place


class Neighbours(TypedDict):
    """``near`` (n,) u32 rows of the record, ``spots`` (n, 2) u16 their places, 0 to `EDGE` from edge to edge."""

    key: str
    near: str
    spots: str


def key(point: OperatingPoint) -> str:
    """What the map will be called; empty where none can be made."""
    if not dx.analysis.map_source(point.record) or point.record.n_images < 8:
        return ""
    return hashlib.sha256(repr(("map", records.stamp(point.run, point.split))).encode()).hexdigest()[:16]


def found(point: OperatingPoint) -> Neighbours | None:
    """The map, or None while it is made, which begins now, also after an attempt that failed: that raises once. Raises
    ValueError where none can be made."""
    if not (name := key(point)):
        raise ValueError("a map needs features or logits")
    stamp = records.stamp(point.run, point.split)
    work = _begun(stamp, name)
    if work.done() and work.exception() is not None:
        _begun.clear(stamp, name)
    return work.result() if work.done() else None


def is_made(point: OperatingPoint) -> bool:
    """Whether `found` would answer at once."""
    return _begun(records.stamp(point.run, point.split), key(point)).done()


@st.cache_resource(max_entries=32, show_spinner=False)
def _begun(stamp: Stamp, name: str) -> Future[Neighbours]:
    record, keep = records.record_at(stamp), not own_runs.is_own(own_runs.run_at(stamp[0]))
    if keep and dx.analysis.kept_map(record, _rows(record)) is not None:
        done: Future[Neighbours] = Future()
        done.set_result(_made(record, name, keep))
        return done
    return _worker().submit(_made, record, name, keep)


@st.cache_resource(show_spinner=False)
def _worker() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, "map")


def _rows(record: dx.ExitRecord) -> npt.NDArray[np.int64]:
    return mosaic_data.sample(record.labels, MOST)


def _made(record: dx.ExitRecord, name: str, keep: bool) -> Neighbours:
    """The map; one of own scores is not kept on the disk, as they stay in their session."""
    rows = _rows(record)
    places = dx.analysis.image_map(record, rows, keep=keep).astype(np.float64)
    low, high = places.min(axis=0), places.max(axis=0)
    spots = np.round((places - low) / np.maximum(high - low, 1e-6) * EDGE)
    return {"key": name, "near": mosaic_data.packed(rows, np.uint32), "spots": mosaic_data.packed(spots, np.uint16)}
