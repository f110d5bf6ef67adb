"""A record written batch by batch, so that a stopped recording goes on; and the embedding of its features.

Embedding: the features of every exit in two dimensions, for a map of the images.
In: features (B, K, D). Out: (B, K, 2) float16, the first two principal components of each exit. Ours: from the second
exit on, a map is rotated or mirrored onto the one before (orthogonal Procrustes, Schönemann 1966), so that an image
stays near its place.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from filelock import FileLock, Timeout

from ..utils.files import atomic_folder, full_disk_named, read_json, remove, require_free, write_json
from ..utils.registry import lookup
from ..utils.typing import Array, Ints
from .record import ExitRecord, RecordMeta, check_record, refuse_overwriting, write_facts
from .scores import SCORES, STORED
from .validation import FILES, UNREADABLE, file_of, form_of, meta_problems, open_array, raise_first

PIECE = 4096  # images that are read together, as features may be large
EDGE = 100.0  # the largest coordinate of a map


def feature_embedding(features: Array) -> npt.NDArray[np.float16]:
    """First two principal components of the features of each exit (B, K, D), matched from exit to exit: (B, K, 2).

    Each map is scaled as a whole: distances within it can be compared, those of two exits cannot.

    Example:
        >>> import numpy as np
        >>> line = np.array([0.0, 1.0, 2.0])[:, None, None] * np.ones((1, 2, 4))
        >>> (feature_embedding(line)[:, 0].round() + 0.0).tolist()  # on a line, from end to end
        [[-100.0, 0.0], [0.0, 0.0], [100.0, 0.0]]
    """
    from scipy.linalg import orthogonal_procrustes

    found = np.zeros((*features.shape[:2], 2))
    for k in range(features.shape[1]):
        now = _components(features[:, k])
        found[:, k] = now @ orthogonal_procrustes(now, found[:, k - 1])[0] if k else now
        found[:, k] *= EDGE / max(float(np.abs(found[:, k]).max()), 1e-12)
    return found.astype(np.float16)


def _components(features: Array) -> npt.NDArray[np.float64]:
    """Projections (B, 2) of features (B, D) on the two eigenvectors of their covariance with the largest eigenvalues.

    The sign of a component is free: here the sum of the cubes of its projections is not negative.
    """
    total, width = len(features), features.shape[1]
    pieces = [slice(start, start + PIECE) for start in range(0, total, PIECE)]
    mean = sum((features[piece].astype(np.float64).sum(axis=0) for piece in pieces), np.zeros(width)) / total
    scatter = np.zeros((width, width))
    for piece in pieces:
        centred = features[piece].astype(np.float64) - mean
        scatter += centred.T @ centred
    axes = np.linalg.eigh(scatter)[1][:, ::-1][:, :2]
    found = np.zeros((total, 2))
    for piece in pieces:
        found[piece, : axes.shape[1]] = (features[piece].astype(np.float64) - mean) @ axes
    return found * np.where((found**3).sum(axis=0) < -1e-9, -1.0, 1.0)


# A record that is written batch by batch: memory does not grow with the images, and a stopped recording is continued.
#
# In: the scores of one batch after another, in any order, from one process or several. Out: the record's folder, put in
# its place once every batch is there. Until then a hidden folder beside that place holds state.json (what the scores
# are made from) and an archive per batch, whole or absent, with checksums. At the end they are joined, with plain
# writes, not through a memory map: on a full disk a map would end the process.

STATE, LOCK = "state.json", ".lock"
VERSION = 2  # of the hidden folder


def clear_recorded(records: Path) -> None:
    """Remove the hidden folders in ``records`` whose record is complete, or that have no state: leftovers of kills."""
    for folder in records.glob(".*.partial"):
        place = records / folder.name.removeprefix(".").removesuffix(".partial")
        with suppress(OSError, ValueError, KeyError, TypeError, Timeout), FileLock(folder / LOCK, timeout=0):
            state = folder / STATE
            if not state.exists() or read_json(state)["created"] == read_json(place / "meta.json")["created"]:
                shutil.rmtree(folder)


class RecordWriter:
    """A record that is written batch by batch: batch b holds the rows from ``b * batch_size``.

    Args:
        path: folder of the record to be.
        meta: its facts; the date is that of an unfinished recording that is continued.
        n_images: B. batch_size: images of a batch; the last one may have fewer.
        made_from: everything that the scores depend on, as JSON values. Rows with other values are not used.
        keep_logits: the record gets logits. n_features: D of the features that it gets, 0 for none.
        more: names of further scores that the record stores.

    Raises:
        ValueError: invalid facts, or an unknown score.
    """

    def __init__(
        self,
        path: Path,
        meta: RecordMeta,
        n_images: int,
        *,
        batch_size: int,
        made_from: Mapping[str, Any],
        keep_logits: bool = True,
        n_features: int = 0,
        more: Sequence[str] = (),
    ) -> None:
        raise_first(meta_problems(meta.to_dict(), str(path / "meta.json")))
        self.path, self.meta, self.n_images, self.batch_size = path, meta, n_images, batch_size
        self.n_batches = math.ceil(n_images / batch_size)
        self.folder = path.with_name(f".{path.name}.partial")
        self.more = tuple(name for name in dict.fromkeys(more) if name not in STORED and lookup(SCORES, name, "score"))
        sizes = {"images": n_images, "exits": len(meta.exit_blocks), "classes": len(meta.class_names)}
        optional = ["logits.npy"] * keep_logits + ["features.npy"] * (n_features > 0)
        self.shapes: dict[str, tuple[int, ...]] = {
            file: tuple((sizes | {"features": n_features})[str(axis)] for axis in form_of(file).axes)
            for file in (*FILES, *optional, *map(file_of, self.more))
        }
        indices = np.arange(n_images) if meta.indices is None else np.asarray(meta.indices, np.int64)
        facts = {key: value for key, value in meta.to_dict().items() if key != "created"}
        sums = {"indices_sha256": hashlib.sha256(indices.tobytes()).hexdigest()}
        counts = {"n_images": n_images, "batch_size": batch_size, "keep_logits": keep_logits}
        counts |= {"n_features": n_features} if n_features else {}
        sums |= {"more": ", ".join(self.more)} if self.more else {}
        state = {**facts, **sums, **counts, **made_from, "format_version": VERSION}
        self.state: dict[str, Any] = json.loads(json.dumps(state))  # tuples are lists
        self.keep_logits, self.keep_features, self.finished = keep_logits, n_features > 0, False

    @contextmanager
    def begin(self) -> Iterator[list[str]]:
        """Hold the hidden folder, for one process at a time; batches of the same record are kept.

        Yields:
            Names in ``made_from`` and meta.json that differ from those of the rows found there, which are then removed.
            Empty if there were no rows, or if the recording is continued.

        Raises:
            FileExistsError: another process is recording it.
            OSError: not enough disk space, ENOSPC; or another error of the file system.
        """
        lock = FileLock(self.folder / LOCK)
        try:
            with full_disk_named(self.path):
                self.folder.mkdir(parents=True, exist_ok=True)
                self._acquire(lock)
                changed = self._changed()
                if changed is None or changed:
                    self._create()
            for batch in range(self.n_batches):
                if not self._is_whole(batch):
                    self._batch(batch).unlink(missing_ok=True)
            yield changed or []
        finally:
            with suppress(OSError):
                if lock.is_locked and (self.finished or not self.n_written):
                    shutil.rmtree(self.folder)  # while it is held: later it may be another's
            lock.release()
            with suppress(OSError):
                self.folder.rmdir()  # where it is empty: Windows removes the lock on its release

    def _acquire(self, lock: FileLock) -> None:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise FileExistsError(f"another process is recording {self.path}; wait for it, or stop it first") from None

    def missing(self) -> list[int]:
        """The numbers of the batches that are not written, rising."""
        return [batch for batch in range(self.n_batches) if not self._batch(batch).is_file()]

    @property
    def n_written(self) -> int:
        """The number of images that are written, by all processes together."""
        return self.n_images - len(self.rows_of(self.missing()))

    def rows(self, batch: int) -> slice:
        """The rows of ``batch``."""
        return slice(batch * self.batch_size, min((batch + 1) * self.batch_size, self.n_images))

    def rows_of(self, batches: Iterable[int]) -> Ints:
        """The numbers of the images in some batches, in their order."""
        return np.concatenate([np.arange(0), *(np.arange(rows.start, rows.stop) for rows in map(self.rows, batches))])

    def write(self, batch: int, arrays: Mapping[str, Array]) -> None:
        """Write a batch: ``labels`` (b,), all scores (b, K), and where they are kept ``logits`` (b, K, C) and
        ``features`` (b, K, D).

        Raises:
            OSError: it cannot be written, ENOSPC on a full disk. Batches written before are kept.
        """
        place = self._batch(batch)
        with full_disk_named(self.path):
            with place.with_suffix(".part").open("wb") as stream:
                given: dict[str, Any] = {file: arrays[Path(file).stem] for file in self.shapes}
                np.savez(stream, **given)
            os.replace(place.with_suffix(".part"), place)

    def record(self) -> ExitRecord:
        """The record in the hidden folder, memory-mapped and checked; every batch must be written.

        Raises:
            ValueError: batches are missing, or as `ExitRecord.load`.
        """
        if missing := self.missing():
            raise ValueError(f"{self.path}: {len(missing)} of {self.n_batches} batches are not recorded yet")
        (self.folder / "scores").mkdir(exist_ok=True)
        with full_disk_named(self.path), ExitStack() as opened:
            streams = {file: opened.enter_context((self.folder / file).open("wb")) for file in self.shapes}
            for file, stream in streams.items():
                kind = np.lib.format.dtype_to_descr(np.dtype(form_of(file).kind))
                facts = {"descr": kind, "fortran_order": False, "shape": self.shapes[file]}
                np.lib.format.write_array_header_1_0(stream, facts)
            for batch in range(self.n_batches):
                with np.load(self._batch(batch), allow_pickle=False) as arrays:
                    for file, stream in streams.items():
                        stream.write(arrays[file].tobytes())
        record = ExitRecord.of_arrays({Path(file).stem: open_array(self.folder / file) for file in streams}, self.meta)
        check_record(record, self.folder, read_large=False)
        return record

    def finish(self, *, force: bool = False) -> None:
        """Put the record in its place, whole or not at all; features get their embedding.

        Args:
            force: replace the record that is there.

        Raises:
            FileExistsError: as `ExitRecord.save`. ValueError: as `record`.
        """
        refuse_overwriting(self.path, force)
        features = self.record().features
        with atomic_folder(self.path) as folder:
            (folder / "scores").mkdir()
            if features is not None:
                np.save(folder / "embedding.npy", feature_embedding(features), allow_pickle=False)
            del features  # Windows moves no file that is mapped
            for file in self.shapes:
                os.replace(self.folder / file, folder / file)  # the batches stay until it is in its place
            write_facts(folder, self.meta)
        self.finished = True

    def _batch(self, batch: int) -> Path:
        return self.folder / f"{batch}.npz"

    def _is_whole(self, batch: int) -> bool:
        """Whether every checksum of a batch fits: after a power cut some bytes may be lost."""
        try:
            with zipfile.ZipFile(self._batch(batch)) as archive:
                return archive.testzip() is None
        except (OSError, zipfile.BadZipFile, NotImplementedError, *UNREADABLE):
            return False

    def _changed(self) -> list[str] | None:
        """Names of the values that differ from the state on disk, empty if none; None: there is no state."""
        if not (self.folder / STATE).is_file():
            return None
        try:
            kept = read_json(self.folder / STATE)
            before, created = kept["made_from"], kept["created"]
            changed = [key for key in self.state | before if before.get(key) != self.state.get(key)]
        except (ValueError, TypeError, KeyError, AttributeError):
            return [STATE]
        self.meta = self.meta if changed or not isinstance(created, str) else replace(self.meta, created=created)
        return changed

    def _create(self) -> None:
        """An empty folder with the state, which comes last."""
        for path in sorted(self.folder.iterdir(), key=lambda path: path.name != STATE):
            if path.name != LOCK:
                remove(path)
        sizes = (math.prod(shape) * np.dtype(form_of(file).kind).itemsize for file, shape in self.shapes.items())
        require_free(self.folder, 2 * sum(sizes), "the record")
        write_json(self.folder / STATE, {"created": self.meta.created, "made_from": self.state})
