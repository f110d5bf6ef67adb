"""A record written batch by batch, so that a stopped recording goes on; and the embedding of its features.

Embedding: the features of every exit in two dimensions, for a map of the images.
In: features (B, K, D). Out: (B, K, 2) float16, the first two principal components of each exit. Ours: from the second
exit on, a map is rotated or mirrored onto the one before (orthogonal Procrustes, Schönemann 1966), so that an image
stays near its place.
"""

from __future__ import annotations

import errno
import hashlib
import io
import math
import os
import shutil
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from filelock import FileLock, Timeout

from ..utils.files import atomic_folder, read_json, remove, write_json
from ..utils.registry import lookup
from ..utils.typing import Array, Ints
from .record import ExitRecord, RecordMeta, check_record, refuse_overwriting, write_facts
from .scores import SCORES, STORED
from .validation import AXES, FILES, kind_of, open_array

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
# its place once every batch is there. Until then a hidden folder beside that place holds the arrays at their full size,
# state.json (what they are made from) and batches.bin (which batches are written, each with a checksum of its bytes).
# Arrays are written with plain writes, not through a memory map: on a full disk a map would end the process.

STATE, BATCHES, LOCK = "state.json", "batches.bin", ".lock"


def partial_folder(place: Path) -> Path:
    """The folder in which the record for ``place`` is written."""
    return place.with_name(f".{place.name}.partial")


def remove_partial(folder: Path) -> None:
    """Remove a partial folder, its state last, by which leftovers of a kill are recognised and removed later."""
    for path in folder.iterdir():
        if path.name not in (STATE, LOCK):
            remove(path)
    shutil.rmtree(folder)


def clear_recorded(records: Path) -> None:
    """Remove the partial folders in ``records`` whose record is complete, or that have no state: leftovers of kills."""
    for folder in records.glob(".*.partial"):
        place = records / folder.name.removeprefix(".").removesuffix(".partial")
        with suppress(OSError, ValueError, KeyError, TypeError, Timeout), FileLock(folder / LOCK, timeout=0):
            state = folder / STATE
            if not state.exists() or read_json(state)["created"] == read_json(place / "meta.json")["created"]:
                remove_partial(folder)


@contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """Context in which an error of the file system without a file's name, as of a full disk, names ``path``."""
    try:
        yield
    except OSError as error:
        if error.strerror is None or error.filename is not None:  # it has a message of its own, or none
            raise
        raise OSError(error.errno, error.strerror, str(path)) from None


WRITTEN = 1 << 32  # flag of a written batch in batches.bin, above its 32 bits of checksum


class RecordWriter:
    """Arrays of a record on disk, filled batch by batch: batch b holds the rows from ``b * batch_size``.

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
        RecordMeta.from_dict(meta.to_dict(), str(path / "meta.json"))
        self.path, self.meta, self.n_images, self.batch_size = path, meta, n_images, batch_size
        self.n_batches = math.ceil(n_images / batch_size)
        self.folder = partial_folder(path)
        sizes = n_images, len(meta.exit_blocks), len(meta.class_names)
        self.more = tuple(name for name in dict.fromkeys(more) if name not in STORED and lookup(SCORES, name, "score"))
        files = (*FILES, *["logits.npy"] * keep_logits, *(f"scores/{name}.npy" for name in self.more))
        self.shapes: dict[str, tuple[int, ...]] = {file: sizes[: AXES.get(file, 2)] for file in files}
        if n_features:
            self.shapes["features.npy"] = (*sizes[:2], n_features)
        self.kinds: dict[str, np.dtype[Any]] = {file: kind_of(file) for file in self.shapes}
        indices = np.arange(n_images) if meta.indices is None else np.asarray(meta.indices, np.int64)
        facts = {key: value for key, value in meta.to_dict().items() if key != "created"}
        sums = {"indices_sha256": hashlib.sha256(indices.tobytes()).hexdigest()}
        counts = {"n_images": n_images, "batch_size": batch_size, "keep_logits": keep_logits}
        counts |= {"n_features": n_features} if n_features else {}
        sums |= {"more": ", ".join(self.more)} if self.more else {}
        self.state = {"format_version": 1, **facts, **sums, **counts, **made_from}
        self.keep_logits, self.keep_features, self.finished = keep_logits, n_features > 0, False

    @contextmanager
    def begin(self) -> Iterator[list[str]]:
        """Hold the partial folder, for one process at a time; batches of the same record are kept.

        Yields:
            Names in ``made_from`` and meta.json that differ from those of the rows found there, which are then removed.
            Empty if there were no rows, or if the recording is continued.

        Raises:
            FileExistsError: another process is recording it.
            OSError: not enough disk space, ENOSPC; or another error of the file system.
        """
        lock = FileLock(self.folder / LOCK)
        try:
            with named_errors(self.path):
                self.folder.mkdir(parents=True, exist_ok=True)
                self._acquire(lock)
                changed = self._changed()
                if changed is None or changed:
                    self._create()
                else:
                    self._drop_damaged()
            yield changed or []
        finally:
            with suppress(OSError):
                if lock.is_locked and (self.finished or not self.n_written):
                    remove_partial(self.folder)  # while it is held: later it may be another's
            lock.release()
            with suppress(OSError):
                self.folder.rmdir()  # where it is empty: Windows removes the lock on its release

    def _acquire(self, lock: FileLock) -> None:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise FileExistsError(f"another process is recording {self.path}; wait for it, or stop it first") from None
        except OSError:
            with suppress(OSError):
                self.folder.rmdir()  # where it is empty
            raise

    def missing(self) -> list[int]:
        """The numbers of the batches that are not written, rising."""
        return [int(batch) for batch in np.flatnonzero(self._sums() == 0)]

    @property
    def n_written(self) -> int:
        """The number of images that are written, by all processes together."""
        with suppress(OSError):
            done = self._sums() != 0
            short = self.n_batches * self.batch_size - self.n_images  # of the last batch
            return int(done.sum()) * self.batch_size - short * int(done[-1:].sum())
        return 0

    def rows(self, batch: int) -> slice:
        """The rows of ``batch``."""
        return slice(batch * self.batch_size, min((batch + 1) * self.batch_size, self.n_images))

    def rows_of(self, batches: Iterable[int]) -> Ints:
        """The numbers of the images in some batches, in their order."""
        return np.concatenate([np.arange(rows.start, rows.stop) for rows in map(self.rows, batches)])

    def write(self, batch: int, arrays: Mapping[str, Array]) -> None:
        """Write a batch: ``labels`` (b,), all scores (b, K), and where they are kept ``logits`` (b, K, C) and
        ``features`` (b, K, D).

        Raises:
            ValueError: an array of another shape or type.
            OSError: it cannot be written, ENOSPC on a full disk. Batches written before are kept.
        """
        rows, total = self.rows(batch), 0
        for file, shape in self.shapes.items():
            array = np.ascontiguousarray(arrays[Path(file).stem])
            wanted, kind = (rows.stop - rows.start, *shape[1:]), self.kinds[file]
            if array.shape != wanted or array.dtype != kind:
                raise ValueError(f"{file}: batch {batch} of {array.shape} {array.dtype} must be {wanted} {kind}")
            data = array.tobytes()
            self._write_at(file, len(self._header(file)) + rows.start * len(data) // len(array), data)
            total = zlib.crc32(data, total)
        self._write_at(BATCHES, 8 * batch, np.uint64(WRITTEN | total).tobytes())

    def record(self) -> ExitRecord:
        """The record in the partial folder, memory-mapped and checked; every batch must be written.

        Raises:
            ValueError: batches are missing, or as `ExitRecord.load`.
        """
        if missing := self.missing():
            raise ValueError(f"{self.path}: {len(missing)} of {self.n_batches} batches are not recorded yet")
        arrays = {Path(file).stem: open_array(self.folder / file) for file in self.shapes}
        record = ExitRecord.of_arrays(arrays, self.meta)
        check_record(record, self.folder, read_logits=False)
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
            for file in self.shapes:
                _link(self.folder / file, folder / file)  # not moved: a kill in here leaves the rows where they are
            if features is not None:
                np.save(folder / "embedding.npy", feature_embedding(features), allow_pickle=False)
            write_facts(folder, self.meta)
        self.finished = True

    def _changed(self) -> list[str] | None:
        """Names of the values that differ from the state on disk, empty if none; None: there is no state."""
        if not (self.folder / STATE).is_file():
            return None
        try:
            kept = read_json(self.folder / STATE)
            before, created, now = kept["made_from"], kept["created"], _plain(self.state)
            changed = [key for key in now | before if before.get(key) != now.get(key)]
        except (ValueError, TypeError, KeyError, AttributeError):
            return [STATE]
        if not changed and not all(map(self._is_whole, (*self.shapes, BATCHES))):
            return ["files"]
        self.meta = self.meta if changed or not isinstance(created, str) else replace(self.meta, created=created)
        return changed

    def _is_whole(self, file: str) -> bool:
        path, header = self.folder / file, self._header(file)
        if not path.is_file() or path.stat().st_size != self._size(file):
            return False
        with path.open("rb") as stream:
            return stream.read(len(header)) == header

    def _create(self) -> None:
        """Empty arrays of their full size; state.json comes last."""
        (self.folder / STATE).unlink(missing_ok=True)
        for file in (*self.shapes, BATCHES):
            (self.folder / file).unlink(missing_ok=True)
        (self.folder / "scores").mkdir(exist_ok=True)
        needed, free = sum(map(self._size, self.shapes)), shutil.disk_usage(self.folder).free
        if needed > free:
            sizes = f"the record needs {needed / 1e9:.3g} GB and {free / 1e9:.3g} GB are free"
            raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: {sizes}", str(self.path))
        for file in (*self.shapes, BATCHES):
            with (self.folder / file).open("wb") as stream:
                stream.write(self._header(file))
                stream.truncate(self._size(file))
        write_json(self.folder / STATE, {"created": self.meta.created, "made_from": _plain(self.state)})

    def _drop_damaged(self) -> None:
        """Mark batches with a wrong checksum as missing: after a power cut, or if a file was changed."""
        sums = self._sums()
        for batch in map(int, np.flatnonzero(sums)):
            if int(sums[batch]) != WRITTEN | self._sum(batch):
                self._write_at(BATCHES, 8 * batch, bytes(8))

    def _sum(self, batch: int) -> int:
        rows, total = self.rows(batch), 0
        for file, shape in self.shapes.items():
            row = math.prod(shape[1:]) * self.kinds[file].itemsize
            with (self.folder / file).open("rb") as stream:
                stream.seek(len(self._header(file)) + rows.start * row)
                total = zlib.crc32(stream.read((rows.stop - rows.start) * row), total)
        return total

    def _sums(self) -> Array:
        return np.fromfile(self.folder / BATCHES, np.uint64)

    def _header(self, file: str) -> bytes:
        """As `np.save` writes it."""
        if file == BATCHES:
            return b""
        stream, kind = io.BytesIO(), np.lib.format.dtype_to_descr(self.kinds[file])
        facts = {"descr": kind, "fortran_order": False, "shape": self.shapes[file]}
        np.lib.format.write_array_header_1_0(stream, facts)
        return stream.getvalue()

    def _size(self, file: str) -> int:
        if file == BATCHES:
            return 8 * self.n_batches
        return len(self._header(file)) + math.prod(self.shapes[file]) * int(self.kinds[file].itemsize)

    def _write_at(self, file: str, position: int, data: bytes) -> None:
        path = self.folder / file
        with named_errors(path), path.open("r+b") as stream:
            stream.seek(position)
            stream.write(data)


def _plain(value: Any) -> Any:
    """The value after a round trip through JSON: tuples are lists."""
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, list | tuple) else value


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copyfile(source, target)
