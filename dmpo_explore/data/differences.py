"""Differences: files that were added, renamed, changed or removed since a manifest was made."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..config import DataConfig
from ..utils.progress import Progress
from .file_hashes import few, hash_files, listed_files
from .ledger import count_inputs
from .locations import base_folder, is_table, open_source
from .manifest import Manifest
from .manifest_rows import FileRow, compare, require_inside, stored_names
from .reader_names import reader_name
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
    manifest: Manifest, data: DataConfig, splits: Iterable[str] = SPLITS, progress: Progress | None = None
) -> Differences:
    """Compare the files of these splits with the manifest by their SHA-256.

    Args:
        progress: called with (files hashed, files in all).

    Raises:
        FileNotFoundError: the folder is missing.

    Example:
        >>> from dmpo_explore.data import make_manifest
        >>> digits = DataConfig("digits")
        >>> manifest_check(make_manifest(digits), digits).fits
        True
    """
    folder = base_folder(data)
    if not manifest.files:
        return Differences()
    if reader_name(data.name):
        return _stored_check(manifest, data, splits, progress)
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}")
    rows = [row for split in splits for row in manifest.files.get(split, ())]
    require_inside(rows, data)
    hashes = hash_files([folder / row.path for row in rows], progress)
    missing = [row for row, found in zip(rows, hashes, strict=True) if not found]
    changed = [row.path for row, found in zip(rows, hashes, strict=True) if found not in ("", row.sha256)]
    added = _added(manifest, data)
    renamed = _renamed(missing, added, folder) if missing else {}
    new = set(renamed.values())
    return Differences(
        tuple(row.path for row in missing if row.path not in renamed), tuple(changed), tuple(renamed.items()),
        tuple(path for path in added if path not in new), () if added else _recounted(manifest, data),
    )  # fmt: skip


def _stored_check(
    manifest: Manifest, data: DataConfig, splits: Iterable[str], progress: Progress | None
) -> Differences:
    """`manifest_check` of images that are no files, by their names."""
    source = open_source(data)
    rows = [row for split in splits for row in manifest.files.get(split, ())]
    missing, changed = compare(source, rows, progress)
    known = {row.path for rows in manifest.files.values() for row in rows} | {*manifest.unused}
    return Differences(missing, changed, added=tuple(name for name in stored_names(source) if name not in known))


def _recounted(manifest: Manifest, data: DataConfig) -> tuple[str, ...]:
    """Places of the ledger whose folders hold another number of inputs now; a table lists its images itself."""
    if not manifest.ledger or is_table(data.name):
        return ()
    try:
        now = count_inputs(data)
    except OSError:  # a folder of a split that is not read is not there
        return ()
    return tuple(
        f"inputs of {place}: {line.found:,} when it was trained, {now[place]:,} now"
        for place, line in manifest.ledger.items()
        if now.get(place, line.found) != line.found
    )


def _added(manifest: Manifest, data: DataConfig) -> list[str]:
    """Images that the data hold now, and that are in no split of the manifest."""
    known = {row.path for rows in manifest.files.values() for row in rows} | {*manifest.unused}
    return [path for path in listed_files(data) if path not in known]


def _renamed(missing: list[FileRow], added: list[str], folder: Path) -> dict[str, str]:
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
