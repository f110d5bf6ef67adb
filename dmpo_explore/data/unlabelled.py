"""Unlabelled images of a run: the image files of one folder and its subfolders, which a teacher answers.

In: a `DataConfig` with ``unlabelled``. Out: their files, and what a check finds in them: what cannot be read, and what
is in val, calibration or test by content, which stops a training. Files are compared with files by their SHA-256, and
with arrays by that of their pixels.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..config import DataConfig
from ..utils.files import expanded
from ..utils.texts import few
from ..utils.typing import Progress
from .findings import Finding, left_out, unreadable
from .image_data import BROKEN, ImageData, Ledger, LedgerLine, Listing, count_below, list_class, relative_path
from .image_facts import Facts, FileLook, look_at_all
from .image_files import open_image
from .image_set import ChosenImages, ImageFiles

UNLABELLED = "unlabelled"  # their place in a ledger and a manifest


@dataclass(frozen=True)
class UnlabelledCheck:
    """What a check finds in the unlabelled images; nothing where there are none.

    Args:
        hashes: file → SHA-256. left_out: broken files that ``skip_broken`` leaves out → why. ledger: their line.
    """

    findings: tuple[Finding, ...] = ()
    hashes: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    ledger: Ledger = field(default_factory=dict)


class UnlabelledData(ImageData):
    """The folder of a config's unlabelled images, where there is one; its files are found again by a manifest."""

    moved_cure = "resume the run with --unlabelled FOLDER"

    @property
    def folder(self) -> Path:
        assert self.config.unlabelled is not None
        return expanded(self.config.unlabelled).absolute()  # relative paths are those of the other images


def unlabelled_files(data: DataConfig, left_out: Collection[str] = ()) -> list[Path]:
    """The image files, without those ``left_out``; empty without a folder."""
    if data.unlabelled is None:
        return []
    return [path for path in _files(_list(UnlabelledData(data).folder)) if str(path) not in left_out]


def check_unlabelled(facts: Facts, progress: Progress | None = None) -> UnlabelledCheck:
    """Hash, decode and count the unlabelled images, and compare them with those of the splits.

    Args:
        facts: about all other images, and the data. progress: called with (files read, files in all).
    """
    data = facts.data.config
    if data.unlabelled is None:
        return UnlabelledCheck()
    folder = UnlabelledData(data).folder
    if not folder.is_dir():
        text = f"unlabelled={data.unlabelled!r} (--unlabelled) is no folder"
        return UnlabelledCheck((Finding(UNLABELLED, text, True, error=FileNotFoundError),))
    listing = _list(folder)
    files = _files(listing)
    looks = dict(zip(files, look_at_all(files, progress), strict=True))
    bad = {str(path): look for path, look in looks.items() if look.problem}
    gone = bad if data.skip_broken else {}
    used = [path for path in files if str(path) not in gone]
    reasons = Counter(reason for _, _, reason in listing.left_out) + Counter({BROKEN: len(gone)})
    readable = {path: look for path, look in looks.items() if not look.problem}
    findings = _shared(files, folder, facts) or [
        *unreadable(facts, UNLABELLED, {} if gone else bad, "cannot be read", "Replace"),
        *left_out(UNLABELLED, tuple(gone)),
        *([] if used else [Finding(UNLABELLED, f"{folder} (--unlabelled) holds no images", stops=True)]),
        *_known(readable, facts),
    ]
    return UnlabelledCheck(
        tuple(findings),
        {str(path): looks[path].sha256 for path in used},
        {path: look.problem for path, look in gone.items()},
        {UNLABELLED: LedgerLine(count_below(str(folder)), {UNLABELLED: len(used)}, dict(reasons))},
    )


def _list(folder: Path) -> Listing:
    listing = Listing([], [], [], [])
    list_class(folder, UNLABELLED, listing)
    return listing


def _files(listing: Listing) -> list[Path]:
    return sorted(image.path for image in listing.images)


def _shared(files: Collection[Path], folder: Path, facts: Facts) -> list[Finding]:
    """The folder lies in that of the data, or the other way round."""
    own = {*facts.paths}
    both = [path for path in map(str, files) if relative_path(Path(path), facts.data.folder) in own]
    text = (
        f"{folder} (--unlabelled) lies in the data's folder {facts.data.folder}, or holds it: {len(both):,} of its "
        f"images are the data's too ({few(both)}); move it out"
    )
    return [Finding(UNLABELLED, text, stops=True, places=tuple(both))] if both else []


def _known(looks: Mapping[Path, FileLook], facts: Facts) -> list[Finding]:
    """Those that are in a split, by content: of what is held out a training must see nothing."""
    places, pixels = _places(facts), _of_arrays(facts)
    seen: dict[bool, list[str]] = {True: [], False: []}  # whether it is held out
    for path, look in looks.items():
        if found := places.get(_pixels_sha256(open_image(path)) if pixels else look.sha256):
            name, split = found
            seen[split != "train"].append(f"{path} = {name} [{split}]")
    texts = {
        True: "in val, calibration or test too; remove them: a model must not learn from what it is tested on",
        False: "in train too: an epoch trains on it twice, with its label and without",
    }
    findings = []
    for held, all_of in seen.items():
        if all_of:
            these = f"{len(all_of):,} unlabelled images are" if len(all_of) > 1 else "1 unlabelled image is"
            text = f"{these} {texts[held]} (first {all_of[0]})"
            findings.append(Finding(UNLABELLED, text, held, tuple(all_of)))
    return findings


def _places(facts: Facts) -> dict[str, tuple[str, str]]:
    """Content of every image of a split → its name and split; of arrays those that are held out."""
    if not _of_arrays(facts):
        rows = zip(facts.looks, facts.paths, facts.split, strict=True)
        return {look.sha256: (path, split) for look, path, split in rows if look.sha256}
    found = {}
    for split, images in facts.sets.items():
        if split != "train":
            for i in range(len(images)):
                with suppress(OSError, ValueError):  # the check of the data names it
                    found[_pixels_sha256(images[i])] = (f"image {images.indices[i]}", split)
    return found


def _of_arrays(facts: Facts) -> bool:
    """Whether the splits' images are arrays, without files or bytes of their own."""
    return not all(isinstance(images.pixels, ChosenImages | ImageFiles) for images in facts.sets.values())


def _pixels_sha256(image: NDArray[np.uint8]) -> str:
    return hashlib.sha256(f"{image.shape}".encode() + np.ascontiguousarray(image).tobytes()).hexdigest()
