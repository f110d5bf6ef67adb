"""A small record and a `RecordWriter` of it, filled batch by batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from synthetic import make_record

from dmpo_explore.records.record import ExitRecord
from dmpo_explore.records.validation import SCORE_TYPES
from dmpo_explore.records.writer import RecordWriter

B, K, C, SIZE = 20, 3, 5, 6  # four batches, the last one of 2 images
RECORD = make_record(B, K, C)
BATCHES_OF_IT = [0, 1, 2, 3]


def made(folder: Path, record: ExitRecord = RECORD, **changes: Any) -> RecordWriter:
    how: dict[str, Any] = {"batch_size": SIZE, "made_from": {"weights": "w", "shape": (1, 2)}} | changes
    return RecordWriter(folder / "val", record.meta, record.n_images, **how)


def arrays(writer: RecordWriter, batch: int, record: ExitRecord = RECORD) -> dict[str, Any]:
    rows = record.subset(writer.rows(batch))
    return {name: getattr(rows, name) for name in ("labels", "logits", *SCORE_TYPES)}


def fill(writer: RecordWriter, batches: list[int], record: ExitRecord = RECORD) -> None:
    for batch in batches:
        writer.write(batch, arrays(writer, batch, record))


def begun(folder: Path, batches: list[int], record: ExitRecord = RECORD, **changes: Any) -> RecordWriter:
    """A recording that ends behind these batches."""
    writer = made(folder, record, **changes)
    with writer.begin():
        fill(writer, batches, record)
    return writer


def finished(
    folder: Path, record: ExitRecord = RECORD, *, force: bool = False, **changes: Any
) -> tuple[list[str], list[int]]:
    """Record to the end; what has changed since it was begun, and which batches were missing."""
    writer = made(folder, record, **changes)
    with writer.begin() as changed:
        missing = writer.missing()
        fill(writer, missing, record)
        writer.finish(force=force)
    return changed, missing


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
