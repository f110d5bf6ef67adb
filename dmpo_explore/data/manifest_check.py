"""Differences: files that were added, renamed, changed or removed since a manifest was made."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..config import DataConfig
from ..utils.texts import few
from ..utils.typing import Progress
from .image_data import FileRow, ImageData, hash_files
from .images import open_data
from .manifest import Manifest
from .splits import SPLITS


@dataclass(frozen=True)
class Differences:
    """How the files in a folder differ from a manifest's: relative paths; ``renamed``: old → new path, same bytes.

    ``inputs``: without added images, places of the manifest's ledger that hold another number of inputs, in words.

    Example:
        >>> found = Differences(missing=("cat/1.png",), changed=("dog/2.png",), added=("dog/9.png",))
        >>> found.described()
        '1 missing (cat/1.png), 1 changed (dog/2.png), 1 added (dog/9.png)'
        >>> found.fits, Differences(added=("dog/9.png",)).fits
        (False, True)
    """

    missing: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    renamed: tuple[tuple[str, str], ...] = ()
    added: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether every image of the manifest is unchanged and in its place; added files are allowed."""
        return not (self.missing or self.changed or self.renamed)

    def described(self) -> str:
        """The missing, changed, renamed and added files: their numbers, and the first three of each."""
        renamed = tuple(f"{old} is now {new}" for old, new in self.renamed)
        parts = {"missing": self.missing, "changed": self.changed, "renamed": renamed, "added": self.added}
        return ", ".join(
            [*(f"{len(names):,} {what} ({few(names)})" for what, names in parts.items() if names), *self.inputs]
        )


def manifest_check(
    manifest: Manifest,
    data: DataConfig | ImageData,
    splits: Iterable[str] = SPLITS,
    progress: Progress | None = None,
) -> Differences:
    """Compare the images of these splits with the manifest by their SHA-256.

    Args:
        progress: called with (images hashed, images in all).

    Raises:
        FileNotFoundError: the folder is missing.

    Example:
        >>> from dmpo_explore.data import make_manifest
        >>> digits = DataConfig("digits")
        >>> manifest_check(make_manifest(digits), digits).fits
        True
    """
    if not manifest.files:
        return Differences()
    data = open_data(data)
    rows = [row for split in splits for row in manifest.files.get(split, ())]
    missing, changed = data.compare(rows, progress)
    known = {row.path for listed in manifest.files.values() for row in listed} | {*manifest.unused}
    added = tuple(path for path in data.names() if path not in known)
    gone = {*missing}
    renamed = _renamed([row for row in rows if row.path in gone], added, data.folder) if gone else {}
    new = {*renamed.values()}
    return Differences(
        tuple(path for path in missing if path not in renamed), changed, tuple(renamed.items()),
        tuple(path for path in added if path not in new), () if added else _recounted(manifest, data),
    )  # fmt: skip


def _recounted(manifest: Manifest, data: ImageData) -> tuple[str, ...]:
    """Places of the ledger whose folders hold another number of inputs now."""
    now = data.recounted() if manifest.ledger else {}
    return tuple(
        f"inputs of {place}: {line.found:,} when it was trained, {now[place]:,} now"
        for place, line in manifest.ledger.items()
        if now.get(place, line.found) != line.found
    )


def _renamed(missing: list[FileRow], added: Sequence[str], folder: Path) -> dict[str, str]:
    """Old → new path of missing files whose bytes are found among the added ones."""
    sizes = {row.bytes for row in missing}
    there = [path for path in added if (folder / path).is_file() and (folder / path).stat().st_size in sizes]
    by_hash: dict[str, list[str]] = {}
    for path, digest in zip(there, hash_files([folder / path for path in there]), strict=True):
        by_hash.setdefault(digest, []).append(path)
    found = {}
    for row in missing:
        if candidates := by_hash.get(row.sha256):
            found[row.path] = candidates.pop(0)
    return found
