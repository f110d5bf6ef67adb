"""What is read once and kept: the app's only caches.

In: runs and splits. Out: what the library reads from them. Every entry is keyed by the file's stamp, so that a run that
is recorded anew is read anew and one that is gone raises FileNotFoundError. Nothing here imports torch.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pandas as pd
import streamlit as st
from PIL import Image

import dmpo_explore as dx

Stamp = tuple[str, str, int, int]  # folder, split, and which state of the file meta.json
THUMBNAIL = 160  # pixels; larger pictures are made smaller, smaller ones stay as they are


def stamp(run: dx.Run, split: str) -> Stamp:
    """Which state of a record this is; FileNotFoundError if there is none."""
    status = (run.path / "records" / split / "meta.json").stat()
    return str(run.path), split, status.st_mtime_ns, status.st_ino


def record(run: dx.Run, split: str) -> dx.ExitRecord:
    """The record, checked and memory-mapped; raises as `Run.record`."""
    return _record(stamp(run, split))


def trade_off(run: dx.Run, split: str, policy: str) -> pd.DataFrame:
    """`dx.trade_off` of the record with thresholds as the policy keeps them: the slider's stops. Not to be changed."""
    return _trade_off(stamp(run, split), policy)


def fitted(run: dx.Run, policy: str, wish: str, value: float) -> dx.Policy:
    """The policy fitted on the run's val record to ``flops`` or ``accuracy_drop``; raises as `dx.fit_policy`."""
    return _fitted(stamp(run, "val"), policy, wish, value)


def thumbnails(run: dx.Run, split: str) -> Callable[[int], str]:
    """Image number in the record → data URI of its picture; raises as `Run.pictures`."""
    return _thumbnails(stamp(run, split))


@st.cache_resource(max_entries=64, show_spinner=False)
def _record(stamp: Stamp) -> dx.ExitRecord:
    path, split, *_ = stamp
    return dx.load_run(path).record(split)


@st.cache_resource(max_entries=256, show_spinner="Drawing the curve …")
def _trade_off(stamp: Stamp, policy: str) -> pd.DataFrame:
    table = dx.trade_off(_record(stamp), policy)
    kept = [dx.fit_policy(_record(stamp), policy, threshold=t).thresholds[0] for t in table["threshold"]]
    return table.assign(threshold=kept).drop_duplicates("threshold", ignore_index=True)


@st.cache_resource(max_entries=1024, show_spinner="Choosing the threshold on val …")
def _fitted(stamp: Stamp, policy: str, wish: str, value: float) -> dx.Policy:
    if wish == "flops":
        return dx.fit_policy(_record(stamp), policy, flops=value)
    return dx.fit_policy(_record(stamp), policy, accuracy_drop=value)


@st.cache_resource(max_entries=8, show_spinner="Reading the pictures …")
def _thumbnails(stamp: Stamp) -> Callable[[int], str]:
    path, split, *_ = stamp
    pictures = dx.load_run(path).pictures(split)

    @lru_cache(maxsize=4096)
    def thumbnail(row: int) -> str:
        return data_uri(pictures[row])

    return thumbnail


def data_uri(picture: npt.NDArray[np.uint8]) -> str:
    """uint8 (H, W, 3) → a data URI: PNG at its own size, or JPEG at `THUMBNAIL` pixels if it is larger."""
    image, stream = Image.fromarray(picture), io.BytesIO()
    if max(image.size) > THUMBNAIL:
        image.thumbnail((THUMBNAIL, THUMBNAIL))
        image.save(stream, "JPEG", quality=85)
        return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
    image.save(stream, "PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
