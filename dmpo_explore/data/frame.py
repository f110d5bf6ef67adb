"""Data of a run, opened once: one frame, a row an input, from which splits, findings and manifest are made.

In: a `Kind`, chosen by `images.open_data`. Out: `Data`, which is handed on to the check, the manifest, the training and
all that reads the images later. Nothing is read before it is asked for.

Ours: ``val`` is taken from the training split by a fixed rule and never depends on ``train_size``: 5,000 images for
Fashion-MNIST and CIFAR, 10 % elsewhere, equally from every class. So is ``calibration``, of the same size, from what
is left (`splits.cuts_calibration`). Data without splits are divided 80/10/10 into train, val and test, or 60/10/10/20
with a calibration split. A run without one can get one afterwards: of the images that its ``train_size`` left unused.
An image's position is that in the split it was taken from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..config import DataConfig
from ..utils.files import expanded
from ..utils.registry import unknown
from ..utils.texts import few
from ..utils.typing import Array, Ints, Progress
from .copies import find_copies
from .folders import UnlabelledKind
from .image_files import image_suffixes
from .image_set import ImageSet
from .kinds import Inputs, Kind
from .labels import MISSING, read_class_names, renamed
from .looks import THREADS, ImageLook, look_at_all, look_at_array, of_each, require_files
from .splits import SPLITS, UNLABELLED, cuts_calibration, divide, held_out_rows, stratified_rows

ALL, BESIDE, NO_SPLIT = "all", "beside the splits", "undivided"
BROKEN, NOT_DRAWN = "broken or too large", "not drawn (train_size)"
COPY = "copies of images in another split"
ERRORS = (OSError, ValueError, ImportError)


class Division(NamedTuple):
    """The inputs of some data, divided.

    Args:
        frame: `kinds.Inputs.frame` with ``place``, the split that the data say; ``origin`` and ``position``, where an
            image is found; ``label``, its number; and ``split``, empty where it is not used.
        given: splits of the data themselves. cut: those taken from train.
        classes: label → name. extra: names of classes that train does not have, numbered after these.
        rule: of the given ones, in words. errors: split → why it cannot be used.
    """

    frame: pd.DataFrame
    given: tuple[str, ...]
    cut: tuple[str, ...]
    classes: tuple[str, ...]
    extra: tuple[str, ...]
    rule: str
    errors: dict[str, Exception]


class Data:
    """Images of a run's data: their splits, the rule of these, and every split's images.

    Args:
        kind: what they are, with the config.
        inputs: of the kind; None: read when they are needed.
        broken: name → why, of images that are left out.
        looks: a row an image that was looked at (`looked`), by its row in ``frame``.

    Attributes:
        unlabelled: the images without labels beside them; None without any.
        copies: row of ``frame`` → the held-out image that it equals, or nearly; the user's are left out (`copies`).

    Example:
        >>> from dmpo_explore.data import open_data
        >>> data = open_data(DataConfig("digits", train_size=40))
        >>> data.splits, len(data.images("train")), data.own
        (('train', 'val', 'test'), 40, False)
        >>> data.rule
        'a fixed fifth of every class is test; val is 10 % of train, ...; 40 training images drawn with seed 0'
    """

    def __init__(
        self, kind: Kind, inputs: Inputs | None = None, broken: Mapping[str, str] | None = None,
        looks: pd.DataFrame | None = None,
    ) -> None:  # fmt: skip
        self.kind, self.config, self.own = kind, kind.config, kind.own
        self.broken, self.looks, self.copies = broken or {}, looks, dict[int, str]()
        more = self.config.unlabelled is not None and not isinstance(kind, UnlabelledKind)
        self.unlabelled = Data(UnlabelledKind(self.config)) if more else None
        if inputs is not None:
            self.inputs = inputs

    @property
    def folder(self) -> Path:
        """Folder that the paths of a manifest are relative to."""
        return self.kind.folder

    @cached_property
    def inputs(self) -> Inputs:
        """Everything that lies in the data; raises as `Kind.inputs`."""
        return self.kind.inputs()

    @cached_property
    def division(self) -> Division:
        """The inputs, divided; raises as ``inputs``."""
        return _divided(self.kind, self.inputs, self.broken)

    @property
    def frame(self) -> pd.DataFrame:
        """Every input, a row each; with the looks, where the images have been looked at; raises as ``inputs``."""
        frame = self.division.frame
        if self.looks is None:
            return frame
        copy = frame.index.isin([*self.copies]) & self.own
        return frame.assign(why=frame["why"].mask(copy, COPY), split=frame["split"].mask(copy, "")).join(self.looks)

    @property
    def splits(self) -> tuple[str, ...]:
        """All splits, those taken from train included; raises as ``inputs``."""
        return tuple(split for split in SPLITS if split in self.division.given or split in self.division.cut)

    @property
    def classes(self) -> tuple[str, ...]:
        """Label → name; raises as ``inputs``."""
        return self.division.classes

    @property
    def grouped(self) -> bool:
        """Whether images have groups that must not be divided."""
        return "group" in self.inputs.frame

    @property
    def listed(self) -> bool:
        """Whether a manifest lists the images one by one; arrays of known data sets verify themselves."""
        return self.own or self.kind.files

    @property
    def rule(self) -> str:
        """The rule by which the images are divided into splits, in words."""
        size = f"{self.kind.val_size:,} images" if self.kind.val_size else "10 %"
        kept = ", whole groups" if self.grouped else ", equally from every class"
        rules = [self.division.rule, *(f"{split} is {size} of train{kept}" for split in self.division.cut)]
        if self.config.train_size is not None:
            rules.append(f"{self.config.train_size:,} training images drawn with seed {self.config.seed}")
        return "; ".join(rules)

    def origin(self, split: str) -> str:
        """The split of the data themselves that the images of ``split`` are in; their positions are those in it."""
        return split if split in self.division.given else "train"

    def rows(self, split: str) -> pd.DataFrame:
        """The rows of ``frame`` that are the images of a split; raises as `images`."""
        if split not in (*SPLITS, *self.division.given):
            raise ValueError(unknown("split", split, SPLITS))
        frame, errors = self.frame, self.division.errors
        if error := errors.get(split):
            raise error
        rows = frame[frame["split"] == split]
        if split not in (*self.division.given, *self.division.cut):
            if split != "calibration" or "train" not in self.splits:
                raise FileNotFoundError(f"{self.config.name} has no {split!r} (it has {', '.join(self.splits)})")
            rows = self._spare()
        if rows.empty:
            raise ValueError(f"{self.config.name} {split} holds no images")
        return rows

    def images(self, split: str) -> ImageSet:
        """The images of one split. Where they have been looked at, their bytes are compared whenever one is read.

        Raises:
            ValueError: an unknown or empty split, a class too small to be divided, or damaged files.
            FileNotFoundError: the data are missing; the message names the remedy.
        """
        if self.looks is None and (found := self.kind.image_set(split)) is not None:
            return replace(found, class_names=_readable(self.config, found.class_names))
        rows, name = self.rows(split), self.config.name
        labels = rows["label"].to_numpy(np.int64, copy=True)  # pandas' own cannot be written to, which torch wants
        if self.looks is not None and self.listed:
            pixels = self.kind.pixels(split, rows["path"].tolist(), rows["sha256"].tolist())
            return ImageSet(name, split, labels, self.classes, np.arange(len(rows)), pixels)
        if self.own and self.kind.files:
            require_files(rows, self.kind, split)
        origin = self.origin(split)
        whole = self.frame.loc[self.frame["origin"] == origin, "path"].tolist()
        pixels = self.kind.pixels(origin, whole)
        return ImageSet(name, split, labels, self.classes, rows["position"].to_numpy(np.int64), pixels)

    def _spare(self) -> pd.DataFrame:
        """A calibration split made afterwards, of images that the training did not use."""
        none = f"{self.config.name} has no calibration split: it was trained without one, and "
        cure = "train with --calibration (calibration=True)"
        if self.grouped:
            raise ValueError(f"{none}its groups, which must stay together, would be divided; {cure}")
        unused = self.frame[self.frame["why"] == NOT_DRAWN]
        size = self.kind.val_size or int((self.frame["origin"] == "train").sum()) // 10
        if len(unused) < size:
            raise ValueError(f"{none}{len(unused):,} images that it did not use are fewer than {size:,}; {cure}")
        labels = unused["label"].to_numpy(np.int64)
        return unused.iloc[held_out_rows(labels, size, seed=1, class_names=self.classes)]

    def looked(
        self, progress: Progress | None = None, *, thumbnails: int = 0, quick: bool = False
    ) -> tuple[Data, dict[int, NDArray[np.uint8]]]:
        """The same data with a look at every image: hashed and decoded once; and thumbnails, by row of ``frame``.

        Broken images are left out first where the config says so (``skip_broken``). Then of equal images in several
        splits the user's are left out (`copies`), but for that in test, or else in calibration, val or train.

        Args:
            progress: called with (images read, images in all).
            thumbnails: number per class.
            quick: arrays of known data sets are looked at only to compare them with unlabelled images.
        """
        skip, frame = self.config.skip_broken, self.division.frame
        rows = frame[frame["why"].isin(["", NOT_DRAWN] if skip else [""])]
        small = _spread(rows, thumbnails)
        if self.listed:
            looks = look_at_all(self.kind, rows["path"].tolist(), progress, {rows["path"][row] for row in small})
        else:
            rows = rows[:0] if quick and self.unlabelled is None else rows
            places = [*zip(rows["origin"], rows["position"], rows.index.isin(small), strict=True)]
            looks = of_each(self._look_at_array, places, progress, THREADS)
        table = pd.DataFrame([look[:-1] for look in looks], rows.index, ImageLook._fields[:-1])
        broken = dict(zip(rows["path"], table["problem"], strict=True)) if skip else {}
        data = Data(self.kind, self.inputs, {name: why for name, why in broken.items() if why}, table)
        if not data.broken:
            data.division = self.division
        if self.unlabelled is not None:
            data.unlabelled = self.unlabelled.looked(progress)[0]
        parts = [data] if data.unlabelled is None else [data, data.unlabelled]
        if self.listed or (data.unlabelled is not None and looks):
            for part, copies in zip(parts, find_copies([part.frame for part in parts]), strict=True):
                part.copies = copies
        shown = dict(zip(rows.index, looks, strict=True))
        return data, {row: image for row in small if row in shown and (image := shown[row].thumbnail) is not None}

    def _look_at_array(self, place: tuple[str, int, bool]) -> ImageLook:
        split, position, thumbnail = place
        return look_at_array(self.kind.pixels(split, ())[position], thumbnail)

    # -- where they are, and whether they are what they were --

    def stamp(self) -> str:
        """SHA-256 of names, sizes and times of change of all files: equal while no file changes.

        Empty for known data sets of arrays, which are verified whenever they are read, without unlabelled images.
        """
        digest, names = hashlib.sha256(), list[str]()
        try:
            found = self.inputs
            names = found.frame["path"].tolist() if self.kind.files else []
            digest.update(f"{found.classes}".encode(errors="surrogateescape"))
        except ERRORS as error:
            digest.update(f"{error}".encode(errors="surrogateescape"))
        if not self.listed and self.unlabelled is None:
            return ""
        more = [expanded(text) for text in (self.config.name, self.config.class_names) if text]
        for path in (*more, *self.kind.sources(), *(self.folder / name for name in names)):
            try:
                status = path.stat()
            except OSError:
                digest.update(f"{path} is not there\n".encode(errors="surrogateescape"))
            else:
                digest.update(f"{path} {status.st_size} {status.st_mtime_ns}\n".encode(errors="surrogateescape"))
        digest.update(b"" if self.unlabelled is None else self.unlabelled.stamp().encode())
        return digest.hexdigest()


def _divided(kind: Kind, inputs: Inputs, broken: Mapping[str, str]) -> Division:
    config, errors, frame = kind.config, dict(inputs.errors), inputs.frame.copy()
    frame["why"] = frame["why"].mask(frame["path"].isin([*broken]), BROKEN)
    image, place = (frame["why"] == "").to_numpy(), frame["split"]
    given = inputs.given or tuple(split for split in SPLITS if (place[image] == split).any())
    frame["place"] = place.where(place != "", BESIDE if given else ALL)
    classes, extra, labels = _numbered(inputs, frame, image, given)
    groups = frame["group"].to_numpy() if "group" in frame else None
    names = _readable(config, classes)
    rule, split = inputs.rule, place.where(image, "").to_numpy(object, copy=True)

    def refused(error: ValueError, *splits: str) -> None:
        errors.update({split: error for split in splits if split not in errors})

    if not given:
        rows = np.flatnonzero(image)
        part = None if groups is None else groups[rows]
        calibrated = cuts_calibration(config.calibration, len(rows) // 10, labels[rows], part)
        given = tuple(name for name in SPLITS if calibrated or name != "calibration")
        whole = "" if groups is None else ", whole groups"
        shares = "60/10/10/20" if calibrated else "80/10/10"
        rule = f"{shares} % of every class into {', '.join(given)}{whole}, with seed {config.seed}"
        split[rows] = NO_SPLIT
        try:
            if not len(rows):
                raise ValueError(_no_images(kind))
            how: dict[str, Any] = {"seed": config.seed, "calibration": calibrated, "class_names": names, "groups": part}
            for name, inside in divide(labels[rows], **how).items():
                split[rows[inside]] = name
        except ValueError as error:
            rule = ""
            refused(error, *given)
    elif groups is not None and kind.own:
        spread = pd.Series(split[image]).groupby(groups[image]).agg(["nunique", "first", "last"])
        for group, (number, first, last) in spread.iterrows():
            if number > 1:
                raise ValueError(
                    f"{config.name}: group {group!s} is in {first} and in {last}; a group must be in one split"
                )
    for name in (name for name in given if name not in errors and not (split == name).any()):
        refused(ValueError(_no_images(kind) if name == "train" else f"{config.name} {name} holds no images"), name)
    for where, others in frame[image & (labels >= len(classes))].groupby("split"):
        refused(_other_classes(kind, str(where), others, classes), str(where))
    frame["origin"], frame["label"] = split, labels
    frame["position"] = frame.groupby("origin").cumcount()
    cut = _cut(kind, given, labels, groups, split == "train") if "train" in given else ()
    if cut or config.train_size is not None:
        if "train" in errors:
            errors |= dict.fromkeys(cut, errors["train"])
        else:
            try:
                _take_from_train(kind, cut, labels, groups, split, names)
            except ValueError as error:
                refused(error, "train", *cut)
    frame["why"] = frame["why"].mask((frame["origin"] == "train") & (split == ""), NOT_DRAWN)
    frame["split"] = split
    return Division(frame, given, cut, names, extra, rule, errors)


def _numbered(
    inputs: Inputs, frame: pd.DataFrame, image: NDArray[np.bool_], given: tuple[str, ...]
) -> tuple[tuple[str, ...], tuple[str, ...], Ints]:
    """Names of the classes, of others that train does not have, and the label of every input."""
    if given == (UNLABELLED,):
        return (), (), np.full(len(frame), MISSING)
    if pd.api.types.is_integer_dtype(frame["label"]):
        return inputs.classes, (), frame["label"].to_numpy(np.int64)
    names = frame["label"].where(image, "")
    of_train = image & (frame["split"] == "train") if "train" in given else image
    classes = inputs.classes or _in_order(names[of_train])
    extra = _in_order({*names[image]} - {*classes})
    number = {name: label for label, name in enumerate((*classes, *extra))}
    return classes, extra, np.asarray(names.map(number).fillna(MISSING), np.int64)


def _in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Sorted, without doubles; numbers as numbers."""
    found = {*names}
    return tuple(sorted(found, key=int) if all(name.isdecimal() for name in found) else sorted(found))


def _readable(config: DataConfig, classes: tuple[str, ...]) -> tuple[str, ...]:
    """The classes with the readable names of ``class_names``."""
    path = config.class_names
    return classes if path is None or not classes else renamed(classes, read_class_names(path), path)


def _no_images(kind: Kind) -> str:
    suffixes = f" ({', '.join(sorted(image_suffixes()))})" if kind.files else ""
    return f"{kind.folder} holds no images{suffixes}"


def _other_classes(kind: Kind, split: str, inside: pd.DataFrame, classes: tuple[str, ...]) -> ValueError:
    """The error of images of a split whose classes train does not have."""
    first, label = inside["path"].iloc[0], inside["label"].iloc[0]
    hidden = "; its labels are not published" if {*inside["label"]} == {"-1"} else ""
    several, them = f"{len(inside):,} images of {split} have", "them"
    if len(inside) == 1:
        several, them = f"1 image of {split} has", "it"
    return ValueError(
        f"{kind.config.name}: {several} a class that train does not have "
        f"({few(classes)}), first {label!r} of {first}{hidden}; add it to train, or remove {them}"
    )


def _cut(
    kind: Kind, given: tuple[str, ...], labels: Ints, groups: Array | None, train: NDArray[np.bool_]
) -> tuple[str, ...]:
    """The splits that are taken from train before training images are drawn, in this order."""
    cut, wanted, size = ["val"] * ("val" not in given), kind.config.calibration, kind.val_size
    if "calibration" not in given and wanted is not False:
        part = None if groups is None else groups[train]
        if wanted or size is not None or cuts_calibration(None, int(train.sum()) // 10, labels[train], part):
            cut.append("calibration")
    return tuple(cut)


def _take_from_train(
    kind: Kind, cut: tuple[str, ...], labels: Ints, groups: Array | None, split: NDArray[Any], names: tuple[str, ...]
) -> None:
    """Set the splits that are taken from train, and draw the training images."""
    rows, config = np.flatnonzero(split == "train"), kind.config
    size, wanted = kind.val_size or len(rows) // 10, config.train_size
    for number, name in enumerate(cut):
        part = None if groups is None else groups[rows]
        held = rows[held_out_rows(labels[rows], size, seed=number, class_names=names, groups=part)]
        split[held] = name
        rows = np.setdiff1d(rows, held)
    if wanted is None:
        return
    if not 1 <= wanted <= len(rows):
        raise ValueError(
            f"train_size={wanted}: {config.name} has 1 to {len(rows)} training images "
            f"({' and '.join(cut) or 'nothing'} {'are' if len(cut) > 1 else 'is'} cut off)"
        )
    split[np.delete(rows, stratified_rows(labels[rows], wanted, seed=config.seed))] = ""


def _spread(rows: pd.DataFrame, count: int) -> list[int]:
    """Rows of ``count`` images of every class, evenly spread over its images."""
    parts = (part.index for _, part in rows.groupby("label")) if count else ()
    return [
        int(row) for part in parts for row in part[np.linspace(0, len(part) - 1, min(count, len(part))).astype(int)]
    ]
