"""Data sets by timm's names: ``hfds/`` and ``wds/``.

In: a `ReaderName`, a part as the reader calls it, and the folder of data sets. Out: an `OpenedPart`: names, targets,
class names and the bytes of every image, by position. Images are decoded as image files are (`decode_image`). Shards of
webdataset are read by position (`tar_shards`), where timm streams them; the rest is read by ``datasets``
(`hugging_face`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...config import DataConfig
from ...utils.files import expanded
from ...utils.typing import Ints, Progress
from ..image_data import FileRow, ImageData, absolute
from ..image_set import ChosenImages, ImageSet, Pool, StoredImages, VerifiedImages
from ..labels import refused, wrong_label
from ..names import ReaderName, data_dir
from ..splits import SPLITS, cuts_calibration, divide, split_of
from .hugging_face import Keys, OpenedPart, fetch_hugging_face, hugging_face_parts, open_hugging_face
from .tar_shards import ShardContent, part_info, read_samples, shards_of


def part_names(name: ReaderName, root: Path | None) -> tuple[str, ...]:
    """The parts of a data set as its reader calls them.

    Raises:
        FileNotFoundError, ValueError: there is no such data set. ImportError: a package is missing.
    """
    return tuple(shards_of(expanded(name.rest))) if name.reader == "wds" else hugging_face_parts(name, root)


def open_part(name: ReaderName, part: str, root: Path | None, keys: Keys) -> OpenedPart:
    """Open one of `part_names`.

    Args:
        root: folder of published data sets; None: the reader's own cache.

    Raises:
        As `part_names`, and ValueError where images or classes are not found in it.
    """
    return (_open_shards if name.reader == "wds" else open_hugging_face)(name, part, root, keys)


def download(name: ReaderName, root: Path | None) -> None:
    """Download a data set of Hugging Face's hub, or check that the parts of a folder open.

    Raises:
        FileNotFoundError: it cannot be downloaded.
    """
    try:
        if root is not None:
            root.mkdir(parents=True, exist_ok=True)
        if name.reader == "hfds":
            fetch_hugging_face(name, root)  # whose fields need not be known for that
            return
        for part in part_names(name, root):
            open_part(name, part, root, Keys())
    except (OSError, RuntimeError) as error:
        place = "" if root is None else f" in {root}"
        raise FileNotFoundError(f"{name} could not be downloaded{place}: {error}") from None


def _open_shards(name: ReaderName, part: str, root: Path | None, keys: Keys) -> OpenedPart:
    folder = expanded(name.rest).resolve()
    counted, label_key = part_info(folder, part)
    samples = read_samples(folder, shards_of(folder)[part], image_key=keys.image, label_key=keys.label or label_key)
    if counted not in (None, len(samples)):
        raise ValueError(
            f"{folder} lists {counted:,} samples of {part} (num_samples), and its shards hold {len(samples):,}; "
            "correct the list, or fetch the shards again"
        )
    names = [f"{part}/{sample.image.shard.relative_to(folder).as_posix()}/{sample.image.name}" for sample in samples]
    return OpenedPart(StoredImages(names, ShardContent(samples)), [sample.label for sample in samples])


# Data sets by timm's names as the data of a run; nothing is loaded before use.

EVERY = 100  # images between two reports of progress


class Place(NamedTuple):
    """Where an image is now: the part, its position there, and its label."""

    part: StoredImages
    position: int
    label: int


class ReaderData(ImageData):
    """A data set by timm's name.

    Opening raises FileNotFoundError, ValueError: there is no such data set, or two parts are the same split;
    ImportError: a package is missing, with the command that installs it.
    """

    skips_broken = False

    def __init__(self, config: DataConfig, name: ReaderName) -> None:
        super().__init__(config)
        self.name = name
        self.root = expanded(config.root) if config.root is not None else None
        self.keys = Keys(config.image_key, config.label_key)
        self._opened: dict[str, OpenedPart] = {}
        self._stored: dict[str, Pool] = {}

    @property
    def folder(self) -> Path:
        return self.name.folder or Path(self.config.name)

    @cached_property
    def _parts(self) -> tuple[str, ...]:
        return part_names(self.name, self.root)

    @cached_property
    def part_of(self) -> dict[str, str]:
        """Split → the part that it is."""
        return _splits(self.name, self._parts)

    @property
    def _undivided(self) -> bool:
        return len(self.part_of) == 1

    @cached_property
    def _calibrated(self) -> bool:
        """Whether an undivided data set gets a calibration split."""
        if self.config.calibration is not None:
            return self.config.calibration
        labels = self.part(self.part_of["train"]).labels
        return cuts_calibration(None, len(labels) // 10, labels)

    @property
    def given(self) -> tuple[str, ...]:
        if not self._undivided:
            return tuple(self.part_of)
        return ("train", "val", *["calibration"] * self._calibrated, "test")

    @property
    def given_rule(self) -> str:
        if not self._undivided:
            return ", ".join(f"{split} is its {part}" for split, part in self.part_of.items())
        shares = "60/10/10/20" if self._calibrated else "80/10/10"
        return f"{shares} % of every class into {', '.join(self.given)}, with seed {self.config.seed}"

    def read(self, split: str) -> Pool:
        if split not in self.given:
            raise FileNotFoundError(f"{self.name} has no {split!r} (it has {', '.join(self._parts)})")
        pool = self.part(self.part_of["train" if self._undivided else split])
        rows = self._divided[split] if self._undivided else np.arange(len(pool.labels))
        assert isinstance(pool.pixels, StoredImages)
        return Pool(ChosenImages(pool.pixels, rows), pool.labels[rows], pool.class_names)

    @cached_property
    def _divided(self) -> dict[str, Ints]:
        pool = self.part(self.part_of["train"])
        return divide(pool.labels, seed=self.config.seed, calibration=self._calibrated, class_names=pool.class_names)

    def part(self, part: str) -> Pool:
        """All images of a part, with the classes of train."""
        if part not in self._stored:
            first, found = self._open(self.part_of["train"]), self._open(part)
            names = first.class_names or _class_names(first.targets)
            self._stored[part] = Pool(found.images, _labels(self.name, part, found, names, first), names)
        return self._stored[part]

    def _open(self, part: str) -> OpenedPart:
        if part not in self._opened:
            found = open_part(self.name, part, self.root, self.keys)
            _check_targets(self.name, part, found)
            self._opened[part] = found
        return self._opened[part]

    def fetch(self) -> Path:
        download(self.name, self.root)
        return self.name.folder or data_dir(self.root)

    def fetch_missing(self) -> None:
        if self.name.reader != "hfds" or self.name.folder is not None:
            return
        try:
            _ = self.part_of
        except FileNotFoundError:
            self.fetch()

    def located(self) -> DataConfig:
        found, folder = super().located(), self.name.folder
        return replace(found, name=str(self.name._replace(rest=str(folder.resolve())))) if folder else found

    def moved(self, place: str | Path) -> DataConfig:
        new = self.moved_to(absolute(str(place).removeprefix(f"{self.name.reader}/")), self.config.name)
        if self.name.folder is None:
            return replace(self.config, root=str(new))
        return replace(self.config, name=str(self.name._replace(rest=str(new))))

    def names(self) -> list[str]:
        return [name for part in self.part_of.values() for name in self._images(part).names]

    def _further_files(self) -> Sequence[Path]:
        folder = self.name.folder or self.root
        return sorted(path for path in folder.rglob("*") if path.is_file()) if folder is not None else ()

    # -- images of a manifest, by their names --

    def rows(
        self, sets: Mapping[str, ImageSet], hashes: Mapping[str, str], progress: Progress | None = None
    ) -> dict[str, tuple[FileRow, ...]]:
        found: dict[str, list[FileRow]] = {split: [] for split in SPLITS if split in sets}
        done, total = 0, sum(map(len, sets.values()))
        for split in found:
            images = sets[split]
            assert isinstance(images.pixels, ChosenImages)
            for index, label in zip(images.indices, images.labels, strict=True):
                found[split].append(FileRow(*images.pixels.look(int(index)), int(label)))
                done += 1
                if progress and (done % EVERY == 0 or done == total):
                    progress(done, total)
        return {split: tuple(rows) for split, rows in found.items()}

    def verified(self, rows: Sequence[FileRow], split: str) -> VerifiedImages:
        places, what = self._places(rows), self.config.name
        if lost := [row.path for row in rows if row.path not in places]:
            raise FileNotFoundError(
                f"{len(lost):,} of {len(rows):,} images are not in {what} any more, first {lost[0]}"
            )
        if bent := [row.path for row in rows if places[row.path].label != row.label]:
            raise ValueError(f"{len(bent):,} of {len(rows):,} images of {what} have another class now, first {bent[0]}")
        return VerifiedImages([places[row.path][:2] for row in rows], [row.sha256 for row in rows])

    def compare(
        self, rows: Sequence[FileRow], progress: Progress | None = None
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        places, missing, changed = self._places(rows), list[str](), list[str]()
        for done, row in enumerate(rows, start=1):
            place = places.get(row.path)
            if place is None:
                missing.append(row.path)
            elif place.label != row.label or place.part.look(place.position).sha256 != row.sha256:
                changed.append(row.path)
            if progress and (done % EVERY == 0 or done == len(rows)):
                progress(done, len(rows))
        return tuple(missing), tuple(changed)

    def _places(self, rows: Sequence[FileRow]) -> dict[str, Place]:
        """Name → place, in the parts that the rows name."""
        found = dict[str, Place]()
        for part in dict.fromkeys(row.path.partition("/")[0] for row in rows):
            if part in self.part_of.values():
                images, labels = self._images(part), self.part(part).labels.tolist()
                found |= {name: Place(images, i, labels[i]) for i, name in enumerate(images.names)}
        return found

    def _images(self, part: str) -> StoredImages:
        images = self.part(part).pixels
        assert isinstance(images, StoredImages)
        return images


def _splits(name: ReaderName, parts: tuple[str, ...]) -> dict[str, str]:
    """Split → the part that it is; parts of other names are left out, and without a test part val is test."""
    found: dict[str, str] = {}
    for part in parts:
        split = split_of(part)
        if split in found:
            raise ValueError(f"{name} has two parts for the split {split}: {found[split]} and {part}")
        if split is not None:
            found[split] = part
    if "train" not in found:
        raise ValueError(f"{name} has no part 'train' (it has {', '.join(parts) or 'none'})")
    if "test" not in found and "val" in found:
        found["test"] = found.pop("val")
    return {split: found[split] for split in ("train", "val", "calibration", "test") if split in found}


def _class_names(targets: Any) -> tuple[str, ...]:
    """Names of classes that the reader does not name: the numbers or the texts, sorted."""
    if all(_is_number(target) for target in targets):
        return tuple(str(label) for label in sorted({int(target) for target in targets}))
    return tuple(sorted({str(target) for target in targets}))


def _check_targets(name: ReaderName, part: str, found: OpenedPart) -> None:
    """Raise ValueError for an image without a class, with several, or with a label that is refused (`labels`)."""
    if several := next((target for target in found.targets if isinstance(target, list | tuple)), None):
        raise ValueError(f"{name}: images of {part} have several classes each, e.g. {several!r}; one is needed")
    if (bare := next((row for row, target in enumerate(found.targets) if target is None), None)) is not None:
        raise ValueError(f"{name}: {found.images.names[bare]} of {part} has no class; add it, or remove the image")
    odd = wrong_label(found.targets)
    if odd is not None and not (found.class_names and _is_number(found.targets[odd])):  # such as -1: not published
        raise ValueError(f"{name}: {found.images.names[odd]} of {part}: {refused(found.targets[odd])}")


def _labels(name: ReaderName, part: str, found: OpenedPart, names: tuple[str, ...], train: OpenedPart) -> Ints:
    """(n,) labels by the classes of train; ValueError for another class."""
    own = found.class_names
    if own and own != train.class_names:  # numbered for itself
        targets: list[Any] = [own[int(target)] if 0 <= int(target) < len(own) else target for target in found.targets]
    else:
        targets = list(found.targets)
    numbers = {text: number for number, text in enumerate(names)}

    def label(target: Any) -> int:
        if not _is_number(target):
            return numbers.get(str(target), -1)
        return int(target) if train.class_names else numbers.get(str(int(target)), -1)  # the place of a name, or one

    labels = np.asarray([label(target) for target in targets], np.int64)
    bad = np.flatnonzero((labels < 0) | (labels >= len(names)))
    if len(bad):
        first = found.images.names[int(bad[0])]
        hidden = "; its labels are not published" if set(labels.tolist()) == {-1} else ""
        raise ValueError(
            f"{name}: {len(bad):,} images of {part} have a class that train does not have, first "
            f"{targets[int(bad[0])]!r} of {first}{hidden}"
        )
    return labels


def _is_number(target: Any) -> bool:
    return isinstance(target, int | np.integer) and not isinstance(target, bool)
