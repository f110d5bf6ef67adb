"""A map of images: t-SNE of what a record's last exit knows of them, made once and kept in the cache.

In: a record with features or logits, rows. Out: (n, 2), images near each other where the last exit sees them alike.
t-SNE: van der Maaten and Hinton (2008), as scikit-learn computes it (Barnes-Hut), from at most 50 principal components.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..records.record import ExitRecord
from ..utils.files import atomic_file, cache_dir
from ..utils.typing import Array

COMPONENTS, PERPLEXITY, LEAST = 50, 30.0, 8  # LEAST: images of a map
FORMAT = 2  # of what is kept


def map_source(record: ExitRecord) -> str:
    """What a map is made from: ``features``, or ``logits`` where there are none; empty where there is neither.

    Example:
        >>> import dmpo_explore as dx
        >>> map_source(dx.load_run("demo").record("test"))
        'logits'
    """
    return next((name for name in ("features", "logits") if getattr(record, name) is not None), "")


def kept_map(record: ExitRecord, rows: npt.ArrayLike) -> npt.NDArray[np.float32] | None:
    """The map of these rows if it has been made (`image_map`); None otherwise.

    Example:
        >>> import dmpo_explore as dx
        >>> kept_map(dx.load_run("demo").record("test"), [0, 1, 2]) is None
        True
    """
    rows = np.asarray(rows, np.int64)
    if not map_source(record):
        return None
    try:
        with _file(_drawn(record, rows)).open("rb") as stream:
            found = np.lib.format.read_array(stream, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    whole = found.shape == (len(rows), 2) and found.dtype == np.float32 and np.isfinite(found).all()
    return found if whole else None


def image_map(record: ExitRecord, rows: npt.ArrayLike, *, keep: bool = True) -> npt.NDArray[np.float32]:
    """The map of rows of a record, (n, 2); minutes for thousands of rows where it has not been made.

    Args:
        keep: read and write it in the cache.

    Raises:
        ValueError: fewer than 8 rows, or a record without features and logits.

    Example:
        >>> import numpy as np
        >>> import dmpo_explore as dx
        >>> image_map(dx.load_run("demo").record("test"), np.arange(40), keep=False).shape
        (40, 2)
    """
    rows = np.asarray(rows, np.int64)
    if not map_source(record):
        raise ValueError("a map needs features or logits, and this record has neither; record it with --features")
    if len(rows) < LEAST:
        raise ValueError(f"{len(rows)} images are too few for a map; at least {LEAST} are needed")
    if keep and (kept := kept_map(record, rows)) is not None:
        return kept
    values = _drawn(record, rows)
    found = _neighbours(values)
    if keep:
        file = _file(values)
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(file) as temporary, temporary.open("wb") as stream:
            np.lib.format.write_array(stream, found, allow_pickle=False)
    return found


def _neighbours(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    most = min(COMPONENTS, *values.shape)
    if values.shape[1] > most:
        values = PCA(most, random_state=0).fit_transform(values)
    perplexity = min(PERPLEXITY, (len(values) - 1) / 3)
    start = "pca" if values.shape[1] > 1 else "random"
    found: npt.NDArray[np.float32] = TSNE(2, perplexity=perplexity, init=start, random_state=0).fit_transform(values)
    return found.astype(np.float32)


def _drawn(record: ExitRecord, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """(n, D): what a map of these rows is made from."""
    values: Array = getattr(record, map_source(record))
    return np.asarray(values[rows, -1], np.float32)


def _file(values: npt.NDArray[np.float32]) -> Path:
    """Named by what is drawn: a `subset` has its record's digest, and rows of its own."""
    key = hashlib.sha256(f"{FORMAT} {values.shape} ".encode() + np.ascontiguousarray(values, "<f4").tobytes())
    return cache_dir() / "maps" / f"{key.hexdigest()[:24]}.npy"
