"""`timm.data.create_dataset`, with errors that name the data set and what to do."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .reader_names import ReaderName


def create(name: ReaderName, part: str, root: Path | None, **options: Any) -> Any:
    """timm's data set; its errors for missing data become a FileNotFoundError."""
    import timm.data

    try:
        with _quiet():
            return timm.data.create_dataset(str(name), root=path_text(root), split=part, is_training=False, **options)
    except (OSError, RuntimeError, AssertionError) as error:
        cause = " ".join(str(error).split())
        fix = f"fetch it with `dmpo-explore fetch --data {name}`, or name its folder with --data-root"
        raise FileNotFoundError(f"{name} ({part}) cannot be opened{in_folder(root)}: {cause}. {fix}") from None


def path_text(root: Path | None) -> str | None:
    return None if root is None else str(root)


def in_folder(root: Path | None) -> str:
    return "" if root is None else f" in {root}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Context without timm's warning that shards have no _info.json, which they need not have."""
    log = logging.getLogger("timm.data.readers.reader_wds")
    before, log.level = log.level, logging.ERROR
    try:
        yield
    finally:
        log.level = before
