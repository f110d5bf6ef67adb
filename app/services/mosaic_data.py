"""What the mosaic draws: images as tiles, where each of them exits at every position of the sliders, and its answers.
`Pictures` belong to run and split, `Exits` to the policy too: they stay while the slider moves, and are sent once.
Arrays are little-endian, in base64."""

from __future__ import annotations

import base64
import hashlib
import shlex
from functools import lru_cache
from typing import Any, NamedTuple, TypedDict

import numpy as np
import numpy.typing as npt
import streamlit as st
from dmpo_explore_app.services import policies, records, slider_data, thumbnails
from dmpo_explore_app.services.images import number_of
from dmpo_explore_app.services.policies import OperatingPoint
from dmpo_explore_app.services.records import Stamp
from dmpo_explore_app.services.selection import Selection

import dmpo_explore as dx

AMOUNTS = (100, 250, 500, 1000, 2000, 10_000)  # tiles, as the reader may choose
USUAL = 250  # tiles of which one can see what they show, on a laptop too
BINS = 48  # of the histograms of scores
RARE = 4  # at most one tile in so many is there because few images exit where it does


class Pictures(TypedDict):
    """Tiles and answers: ``rows`` (n,) u32 of the record; ``labels`` (B,) u16; ``answers`` (B, K) u16 classes;
    ``confidence`` (n, K) u16, of 65,535; ``numbers`` (n,) u32 as the data number them; ``map`` (n, K, 2) u16, places in
    each exit's map. ``of``: images that were drawn from. ``sheet`` is empty where the images are not here, ``map``
    where the record has no embedding."""

    key: str
    rows: str
    numbers: str
    map: str
    labels: str
    answers: str
    confidence: str
    of: int
    names: list[str]
    split: str
    n_exits: int
    sheet: str
    side: int
    columns: int


class Tiles(NamedTuple):
    """Which images the mosaic shows: the key of their `Pictures`, how many at most, how many they are drawn from."""

    key: str
    amount: int
    of: int


class ScoreBins(TypedDict):
    """What is compared at every exit, its range; ``falling``: images exit at low values; ``moves``: sliders move it."""

    name: str
    low: float
    high: float
    falling: bool
    moves: bool


class Exits(TypedDict):
    """``limits`` of the sliders and ``line`` of the single threshold, (B, K−1) u8 or u16 as `dx.analysis.exit_limits`;
    or ``exits`` (G, B) u8 where no limit gives them. ``scores`` (B, K−1) u8: the bin of `ScoreBins`, of ``bins``."""

    key: str
    limits: str
    line: str
    exits: str
    bytes: int
    scores: str
    bins: int
    score: ScoreBins


def sample(labels: npt.NDArray[np.int64], amount: int, label: int | None = None) -> npt.NDArray[np.int64]:
    """``amount`` rows drawn at random, seed 0, from every class in proportion (as is every beginning of them), or from
    one class."""
    rng = np.random.default_rng(0)
    order = rng.permutation(len(labels))
    if label is not None:
        return np.asarray(order[labels[order] == label][:amount])
    among = np.empty(len(labels))  # an image's place among those of its class, from 0 to 1
    for found in np.unique(labels):
        own = order[labels[order] == found]
        among[own] = (np.arange(len(own)) + rng.random()) / len(own)
    return np.asarray(np.argsort(among, kind="stable")[:amount])


def shown(record: dx.ExitRecord, amount: int, label: int | None = None) -> npt.NDArray[np.int64]:
    """The rows of the tiles: those of `sample`, and an image of every exit at which any image exits."""
    rows = sample(record.labels, amount, label)
    if len(rows) < amount:
        return rows
    among = np.arange(record.n_images) if label is None else np.flatnonzero(record.labels == label)
    needed = among[one_at_every_exit(record.confidence[among])][: amount // RARE]
    return np.concatenate((rows[~np.isin(rows, needed)][: amount - len(needed)], needed))


def one_at_every_exit(confidence: npt.NDArray[Any]) -> list[int]:
    """Few rows of (B, K): where a threshold on confidence lets any row exit at an exit, one of them exits there.

    A row exits at an exit for the thresholds between its largest confidence before and the one there: the fewest
    intervals are taken that cover all of them.
    """
    found, n_exits = list[int](), confidence.shape[1]
    before = np.maximum.accumulate(confidence, axis=1)
    for k in range(n_exits):
        low = before[:, k - 1] if k else np.full(len(confidence), -1.0)
        high = confidence[:, k] if k < n_exits - 1 else np.full(len(confidence), 2.0)
        covered, best = -2.0, -1
        order = np.argsort(low, kind="stable")
        for row in order[(high > low)[order]].tolist():
            if low[row] > covered and best >= 0:
                found.append(best)
                covered, best = float(high[best]), -1
            if high[row] > covered and (best < 0 or high[row] > high[best]):
                best = row
        if best >= 0:
            found.append(best)
    return list(dict.fromkeys(found))


def tiles(point: OperatingPoint, amount: int, label: int | None = None) -> Tiles:
    """What `pictures` will be called, before they are drawn."""
    of = point.record.n_images if label is None else int((point.record.labels == label).sum())
    return Tiles(_digest(*_pictured(point, amount, label)), amount, of)


def pictures(point: OperatingPoint, amount: int, label: int | None = None) -> Pictures:
    """Tiles and answers of the record as the policy reads it."""
    return _pictures(*_pictured(point, amount, label))


def _pictured(
    point: OperatingPoint, amount: int, label: int | None
) -> tuple[Stamp, tuple[float, ...], int, int | None, bool]:
    """What `Pictures` follow from; last `thumbnails.are_here`."""
    stamp = records.stamp(point.run, point.split)
    return stamp, point.policy.temperatures, amount, label, thumbnails.are_here(stamp)


def _digest(*facts: object) -> str:
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


@lru_cache(maxsize=24)
@st.cache_resource(max_entries=24, show_spinner=False)
def _pictures(stamp: Stamp, temperatures: tuple[float, ...], amount: int, label: int | None, here: bool) -> Pictures:
    record = records.calibrated_at(stamp, temperatures) if temperatures else records.record_at(stamp)
    rows = shown(record, amount, label)
    drawn = thumbnails.sheet_at(stamp, tuple(rows.tolist())) if here else thumbnails.Sheet("", 1, 1)
    return {
        "key": _digest(stamp, temperatures, amount, label, here),
        "rows": packed(rows, np.uint32),
        "numbers": packed(np.array([number_of(record, int(row)) for row in rows]), np.uint32),
        "map": packed(places(record, rows), np.uint16),
        "labels": packed(record.labels, np.uint16),
        "answers": packed(record.prediction, np.uint16),
        "confidence": packed(np.round(np.clip(record.confidence[rows], 0, 1) * 65_535), np.uint16),
        "of": int(record.n_images if label is None else (record.labels == label).sum()),
        "names": list(record.meta.class_names),
        "split": record.meta.split,
        "n_exits": record.n_exits,
        "sheet": drawn.uri,
        "side": drawn.side,
        "columns": drawn.columns,
    }


def places(record: dx.ExitRecord, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """(n, K, 2) the images' places in the map of each exit, 0 to 65,535 from edge to edge of all images' places."""
    if record.embedding is None:
        return np.zeros(0, np.int64)
    found = np.asarray(record.embedding, np.float64)
    low, high = found.min(axis=0), found.max(axis=0)
    return np.asarray(np.round((found[rows] - low) / np.maximum(high - low, 1e-6) * 65_535), np.int64)


def map_note(point: OperatingPoint) -> tuple[str, str]:
    """What the map is, or the command that makes one; empty where the record has one, or where none can be made."""
    run, record = point.run, point.record
    if record.embedding is None and (source := dx.analysis.map_source(record)):
        return f"Near each other: images whose {source} at the last exit are alike (t-SNE).", ""
    if record.embedding is not None or run.path.parent == dx.runs.BUNDLED_RUNS.resolve():
        return "", ""
    if not (run.path / "weights.safetensors").is_file():
        return "", ""
    command = f"dmpo-explore record {shlex.quote(run.name)} --split {shlex.quote(point.split)} --features --force"
    return "A map of the images by features needs a record with features:", command


def exits(point: OperatingPoint, found: dx.analysis.SliderCounts) -> Exits:
    """Where every image exits, at the positions of ``found``, which is `slider_data.counts`."""
    run, split, policy = point.run, point.split, point.policy
    start = policies.untuned(run, split, policy.name, bool(policy.temperatures))
    stops = tuple(np.asarray(s.thresholds, np.float64).tobytes() for s in (found.single, *found.sliders))
    return _exits(records.stamp(run, split), start, stops)  # stops as bytes: quick to hash


@lru_cache(maxsize=24)
@st.cache_resource(max_entries=24, show_spinner=False)
def _exits(stamp: Stamp, start: policies.Untuned, stops: tuple[bytes, ...]) -> Exits:
    single, *sliders = (tuple(np.frombuffer(part).tolist()) for part in stops)
    sliders = sliders or [single]
    policy = policies.base_at(start)
    record = records.calibrated_at(stamp, policy.temperatures) if policy.temperatures else records.record_at(stamp)
    limits = dx.analysis.exit_limits(record, policy, sliders)
    line = limits if len(sliders) == 1 else dx.analysis.exit_limits(record, policy, [single])
    table = dx.analysis.exits_at(record, policy, single) if limits is None or line is None else None
    kind = np.uint8 if max(map(len, (*sliders, single))) < 256 else np.uint16
    empty = np.zeros(0)
    parts = [packed(empty if part is None else part, kind) for part in (limits, None if line is limits else line)]
    parts.append(packed(empty if table is None else table, np.uint8))
    binned, score = scores(record, policy)
    parts.append(packed(binned, np.uint8))
    return {
        "key": _digest(stamp, start, stops),
        "limits": parts[0],
        "line": parts[1],
        "exits": parts[2],
        "bytes": np.dtype(kind).itemsize,
        "scores": parts[3],
        "bins": BINS,
        "score": score,
    }


def scores(record: dx.ExitRecord, policy: dx.Policy) -> tuple[npt.NDArray[np.int64], ScoreBins]:
    """(B, K−1) the bin of every image's score at every exit but the last; confidence where the policy compares none."""
    moves = policy.per_exit_thresholds
    values = (policy.values(record) if moves else record.confidence[:, :-1]).astype(np.float64)
    low, high = (0.0, 1.0) if values.size and values.min() >= 0 and values.max() <= 1 else _ends(values)
    binned = np.clip(((values - low) / (high - low) * BINS).astype(np.int64), 0, BINS - 1)
    name = str(policy.compares) if moves else "confidence"
    return binned, {"name": name, "low": low, "high": high, "falling": policy.falling and moves, "moves": moves}


def _ends(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
    return min(0.0, low), high if high > low else low + 1


def with_mosaic(
    data: slider_data.SliderData, point: OperatingPoint, shown: Tiles, exits: str, chosen: Selection
) -> slider_data.SliderData:
    """The slider's data with what its mosaic and its map are drawn from and which of it is chosen."""
    return {
        **data,
        "map_note": map_note(point),
        "elsewhere": bool(dx.runs.recorded_elsewhere(point.run.splits())),
        "exit_colours": dx.figures.exit_colours(point.record.n_exits),
        "region": packed(chosen.region, np.uint32) if chosen.region else "",
        "pictures": shown.key,
        "exits": exits,
        "sample": {"amount": shown.amount, "of": shown.of, "amounts": list(AMOUNTS)},
        "answers": chosen.answers,
        "image": -1 if chosen.image is None else chosen.image,
        "view": chosen.view,
    }


def packed(numbers: npt.ArrayLike, kind: type[np.unsignedinteger]) -> str:
    """Numbers as base64 of their little-endian bytes."""
    return base64.b64encode(np.ascontiguousarray(numbers).astype(np.dtype(kind).newbyteorder("<")).tobytes()).decode()
