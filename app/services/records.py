"""Exit records, each read once and kept, and what is derived from them without a policy. Entries are keyed by the
states of meta.json and weights.safetensors. What is asked for at every move is looked up by `lru_cache` first:
Streamlit takes 0.3 ms to find an entry."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import islice
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import streamlit as st
from dmpo_explore_app.services import models, own_runs

import dmpo_explore as dx

Stamp = own_runs.Stamp


def stamp(run: dx.Run, split: str) -> Stamp:
    """Which states of a record and of the weights are on disk; raises FileNotFoundError where there is no record."""
    if isinstance(run, own_runs.OwnRun):
        return run.stamp(split)
    try:
        status = os.stat(f"{run.path}/records/{split}/meta.json")
    except FileNotFoundError:
        raise FileNotFoundError(f"the {split} record of run {run.name!r} is gone: deleted, or being replaced") from None
    return str(run.path), split, status.st_mtime_ns, status.st_ino, *models.weights_stamp(run)[1:]


def record(run: dx.Run, split: str) -> dx.ExitRecord:
    """The record, validated; raises as `Run.record`."""
    return record_at(stamp(run, split))


@own_runs.kept_apart
@lru_cache(maxsize=32)
@st.cache_resource(max_entries=32, show_spinner=False)
def record_at(stamp: Stamp) -> dx.ExitRecord:
    path, split, *_ = stamp
    return own_runs.run_at(path).record(split)


def calibrated(run: dx.Run, split: str, temperatures: tuple[float, ...]) -> dx.ExitRecord:
    """The record with the scores that a policy with ``temperatures`` reads; unchanged without any."""
    return calibrated_at(stamp(run, split), temperatures) if temperatures else record(run, split)


@own_runs.kept_apart
@lru_cache(maxsize=8)
@st.cache_resource(max_entries=8, show_spinner=False)
def calibrated_at(stamp: Stamp, temperatures: tuple[float, ...]) -> dx.ExitRecord:
    return dx.fitting.tempered_record(record_at(stamp), temperatures)


def novelty_detector(run: dx.Run, split: str, logits: bool) -> dx.analysis.NoveltyDetector:
    """Nearest-neighbour search over a record's images by the exits' outputs; raises as `Run.record`."""
    return _novelty_detector(stamp(run, split), logits)


@own_runs.kept_apart
@st.cache_resource(max_entries=8, show_spinner=False)
def _novelty_detector(stamp: Stamp, logits: bool) -> dx.analysis.NoveltyDetector:
    return dx.analysis.novelty_detector(record_at(stamp), logits=logits)


USUAL, LIKE = 3, 4  # runs whose curves are drawn unless others are chosen


class Fingerprint(NamedTuple):
    """What decides whether two records can be compared, small enough to keep thousands."""

    data: str
    images_sha256: str  # of the recorded split's images; empty where that is not known
    labels: bytes  # a digest
    indices: bytes | None  # a digest, or None where they were not recorded
    reference_flops: float  # shares of compute are relative to it

    def same_images(self, other: Fingerprint) -> bool:
        """As `dx.analysis.same_images`."""
        indices = self.indices is None or other.indices is None or self.indices == other.indices
        known = self.images_sha256 and other.images_sha256
        images = self.images_sha256 == other.images_sha256 if known else self.data == other.data
        return indices and images and self.labels == other.labels


def of_like_compute(run: dx.Run, others: Mapping[str, dx.Run], split: str) -> list[str]:
    """The first `USUAL` of the other runs whose plain backbone is at most `LIKE` times as large or small."""
    own = fingerprint(run, split).reference_flops
    ratios = ((name, fingerprint(other, split).reference_flops / own) for name, other in others.items())
    return list(islice((name for name, ratio in ratios if 1 / LIKE <= ratio <= LIKE), USUAL))


def fingerprint(run: dx.Run, split: str) -> Fingerprint:
    return _fingerprint(stamp(run, split))


@st.cache_resource(max_entries=8192, show_spinner=False)
def _fingerprint(stamp: Stamp) -> Fingerprint:
    path, split, *_ = stamp
    record = own_runs.run_at(path).record(split)  # not `record_at`: that would push out records that are on screen
    indices = None if record.meta.indices is None else _digest(record.meta.indices)
    meta = record.meta
    return Fingerprint(meta.data, meta.images_sha256, _digest(record.labels), indices, meta.reference_flops)


def _digest(numbers: npt.ArrayLike) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(numbers, np.int64).tobytes()).digest()


def comparable_runs(names: Sequence[str], run: dx.Run, split: str) -> dict[str, dx.Run]:
    """Other runs on the same images, by name; runs that cannot be read are left out."""
    found, own = {}, fingerprint(run, split)
    for name in names:
        try:
            other = dx.load_run(name)
            if name != run.name and own.same_images(fingerprint(other, split)):
                found[name] = other
        except (OSError, ValueError):
            continue
    return found
