"""The data check: counts, sizes, formats and findings of the images of a data set, and the plan of a training on them.

In: a `DataConfig`. Out: `DataCheck`: counts by split and class, sizes, formats, findings, all from one frame with a row
an image. Every file is read once. The same check runs before every training (`require`).

Ours: a class counts as much larger than another from ten times as many training images on.
"""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePath
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..config import Config, DataConfig
from ..utils.texts import few
from ..utils.typing import Ints, Progress
from .copies import image_name
from .frame import COPY, ERRORS, NO_SPLIT, Data
from .images import open_data
from .kinds import CLOSED, FORMAT, LINKED, OUTSIDE
from .splits import SPLITS, UNLABELLED

IMBALANCE = 10.0  # largest class / smallest class of train, from which on it is a finding
SKIP = "or leave out what is broken with --skip-broken (skip_broken=True)"


@dataclass(frozen=True)
class Finding:
    """One finding of a data check.

    Args:
        check: a key of `CHECKS`, or another check's name. text: the problem and its remedy, in one line.
        stops: whether a training cannot start. places: the images or classes it is about, all of them.
        error: kind of exception to raise for it.

    Example:
        >>> Finding("imbalance", "class 'cat' has 30 times as many images as 'dog'").stops
        False
    """

    check: str
    text: str
    stops: bool = False
    places: tuple[str, ...] = ()
    error: type[Exception] = field(default=ValueError, repr=False)


class LedgerLine(NamedTuple):
    """Inputs of one place: number found, split → number used, reason → number left out."""

    found: int
    used: dict[str, int]
    left_out: dict[str, int]

    def described(self) -> str:
        """The line in words."""
        used = ", ".join(f"{count:,} {split}" for split, count in self.used.items()) or "none used"
        gone = ", ".join(f"{count:,} {reason}" for reason, count in self.left_out.items())
        return f"{self.found:,} found: {used}" + (f"; left out: {gone}" if gone else "")


class Sizes(NamedTuple):
    """Width and height in pixels: of the smallest and the largest image by area, the medians; and the aspects.

    ``aspect`` is the smallest, the median and the largest of width / height.
    """

    smallest: tuple[int, int]
    median: tuple[int, int]
    largest: tuple[int, int]
    aspect: tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class DataCheck:
    """The result of a check of images.

    Args:
        data: the checked data. findings: those that stop a training first.
        thumbnails: class name → small images uint8 (h, w, 3).
        opened: the data with a look at every image; None where the config itself names none.

    Example:
        >>> found = check_data(DataConfig("digits"))
        >>> found.ready, found.n_images, found.imbalance, found.sizes().median
        (True, 1797, 1.048, (8, 8))
    """

    data: DataConfig
    findings: tuple[Finding, ...]
    thumbnails: dict[str, list[NDArray[np.uint8]]] = field(default_factory=dict, repr=False)
    opened: Data | None = field(default=None, repr=False)

    @property
    def ready(self) -> bool:
        """Whether a training could start on these images."""
        return not any(finding.stops for finding in self.findings)

    @cached_property
    def frame(self) -> pd.DataFrame:
        """Every input, a row each (`Data.frame`)."""
        return pd.DataFrame() if self.opened is None else self.opened.frame

    @property
    def images(self) -> pd.DataFrame:
        """The rows of ``frame`` that are used, or would be if the data could be divided."""
        return self.frame[self.frame["split"] != ""] if len(self.frame) else self.frame

    @property
    def rule(self) -> str:
        """How the images are divided, in words; empty if they cannot be opened."""
        return "" if self.opened is None else self.opened.rule

    @property
    def class_names(self) -> tuple[str, ...]:
        """Label → name: those of train, then others that were found."""
        return () if self.opened is None else (*self.opened.division.classes, *self.opened.division.extra)

    @property
    def counts(self) -> dict[str, Ints]:
        """Split → (C,) images of every class."""
        if self.images.empty:
            return {}
        C, labels = len(self.class_names), self.images.groupby("split")["label"]
        found = {str(split): np.bincount(inside.to_numpy(np.int64), minlength=C) for split, inside in labels}
        return {split: found[split] for split in (*SPLITS, NO_SPLIT) if split in found}

    @property
    def formats(self) -> dict[str, int]:
        """Format → images."""
        return dict(Counter(name or "not readable" for name in self._seen.get("format", ())).most_common())

    @property
    def bytes(self) -> int:
        """Of all images that were looked at."""
        return int(self._seen["bytes"].sum()) if "bytes" in self._seen else 0

    @property
    def _seen(self) -> pd.DataFrame:
        """The rows of ``images`` that were looked at."""
        return self.images[self.images["sha256"].notna()] if "sha256" in self.images else self.images

    @property
    def ledger(self) -> dict[str, LedgerLine]:
        """Place of the data → its inputs: found, used and left out; empty if the data cannot be divided."""
        if self.opened is None or self.opened.division.errors:
            return {}
        more = self.opened.unlabelled
        frames = [self.frame, *([more.frame.assign(place=UNLABELLED)] if more is not None else [])]
        lines = dict[str, LedgerLine]()
        for frame in frames:
            for place in sorted({*frame["place"]}, key=[*SPLITS, *{*frame["place"]}].index):
                inside = frame[frame["place"] == place]
                used = inside["split"][inside["split"] != ""].value_counts()
                gone = inside["why"][inside["split"] == ""].value_counts(sort=False)
                order = {split: int(used[split]) for split in (*SPLITS, UNLABELLED) if split in used}
                lines[place] = LedgerLine(len(inside), order, {str(why): int(count) for why, count in gone.items()})
        return lines

    @property
    def n_images(self) -> int:
        """All images, of all splits."""
        return len(self.images)

    @property
    def n_calibration(self) -> int:
        """Images that thresholds are fitted on."""
        return int(np.sum(self.counts.get("calibration", 0)))

    @property
    def n_unlabelled(self) -> int:
        """Images without labels, which are in no split."""
        more = None if self.opened is None else self.opened.unlabelled
        return 0 if more is None else int((more.frame["split"] == UNLABELLED).sum())

    @property
    def imbalance(self) -> float | None:
        """Training images of the largest class over those of the smallest; infinite if that has none; None without."""
        counts = self.counts.get("train")
        if counts is None or not counts.any():
            return None
        return float(counts.max() / counts.min()) if counts.min() else math.inf

    def sizes(self) -> Sizes | None:
        """Sizes of all images that could be read; None if there are none, or they were only counted."""
        seen = self._seen
        seen = seen[(seen["width"] > 0) & (seen["problem"] == "")] if "width" in seen else seen[:0]
        if seen.empty:
            return None
        widths, heights = (seen[side].to_numpy(np.int64) for side in ("width", "height"))
        area, aspect = widths * heights, widths / heights
        ends = [(int(widths[row]), int(heights[row])) for row in (area.argmin(), area.argmax())]
        middle = int(np.median(widths)), int(np.median(heights))
        return Sizes(ends[0], middle, ends[1], (float(aspect.min()), float(np.median(aspect)), float(aspect.max())))

    def require(self, more: Sequence[Finding] = ()) -> None:
        """Raise one error that lists all findings that stop a training.

        Args:
            more: findings of other checks.

        Raises:
            The finding's own kind of error if there is one, else ValueError.

        Example:
            >>> check_data(DataConfig("digits")).require()
        """
        stopping = [finding for finding in (*more, *self.findings) if finding.stops]
        if not stopping:
            return
        if len(stopping) == 1:
            raise stopping[0].error(stopping[0].text)
        parts = " ".join(f"({i}) {finding.text}." for i, finding in enumerate(stopping, start=1))
        raise ValueError(f"{len(stopping)} findings stop this training: {parts}")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values of everything but thumbnails and hashes."""
        sizes, imbalance = self.sizes(), self.imbalance
        return {
            "data": self.data.name,
            "ready": self.ready,
            "rule": self.rule,
            "class_names": list(self.class_names),
            "counts": {split: counts.tolist() for split, counts in self.counts.items()},
            "ledger": {place: line._asdict() for place, line in self.ledger.items()},
            "formats": self.formats,
            "bytes": self.bytes,
            "sizes": sizes._asdict() if sizes else None,
            "imbalance": None if imbalance is None or math.isinf(imbalance) else imbalance,
            "findings": [
                {"check": f.check, "stops": f.stops, "text": f.text, "places": list(f.places)} for f in self.findings
            ],
        }


def check_data(
    data: DataConfig | Data, progress: Progress | None = None, *, thumbnails: int = 0, quick: bool = False
) -> DataCheck:
    """Check the images of a run before it is trained: every file is hashed and decoded once.

    Problems become findings, not errors.

    Args:
        progress: called with (images seen, images in all).
        thumbnails: number of small images that are kept of every class.
        quick: only count the images of known data sets of arrays, which are verified already.

    Example:
        >>> found = check_data(DataConfig("digits"))
        >>> found.findings, {split: int(counts.sum()) for split, counts in found.counts.items()}
        ((), {'train': 1295, 'val': 143, 'test': 359})
        >>> check_data(DataConfig("no-such-folder")).findings[0].check
        'splits'
    """
    config = data.config if isinstance(data, Data) else data
    try:
        opened, small = open_data(data).looked(progress, thumbnails=thumbnails, quick=quick)
    except ERRORS as error:  # they cannot be opened at all
        return DataCheck(config, (_refused(error),))
    names = (*opened.division.classes, *opened.division.extra)
    shown: dict[str, list[NDArray[np.uint8]]] = {}
    for row, image in small.items():
        shown.setdefault(names[opened.frame["label"][row]], []).append(image)
    findings = [finding for check in CHECKS.values() for finding in check(opened)]
    stopping_first = sorted(findings, key=lambda finding: not finding.stops)
    return DataCheck(opened.config, tuple(stopping_first), shown, opened)


# -- what can stop a training --


def _refused(error: Exception) -> Finding:
    kinds = (FileNotFoundError, OSError, ImportError, ValueError)
    kind = next(kind for kind in kinds if isinstance(error, kind))
    return Finding("splits", " ".join(str(error).split()), stops=True, error=kind)


def _splits(data: Data) -> Iterator[Finding]:
    """What cannot be divided, and splits that are missing."""
    errors, name = data.division.errors, data.config.name
    for error in {str(error): error for error in errors.values()}.values():
        yield _refused(error)
    if "train" not in data.splits:
        has = ", ".join(data.splits)
        yield Finding("splits", f"{name} has no training images (it has {has})", True, error=FileNotFoundError)
    elif "test" not in data.splits:
        has = ", ".join(split for split in data.splits if split not in errors)
        cure = "add some (a folder test, --test-dir), or give only the folder of train, which is then divided 80/10/10"
        yield Finding("splits", f"{name} has no test images (it has {has}); {cure}", True, error=FileNotFoundError)


def _classes(data: Data) -> Iterator[Finding]:
    """Classes without a training image, which cannot be learned; and those that another split lacks."""
    frame, names = data.frame, data.classes
    if "train" not in data.splits or "train" in data.division.errors:
        return
    if len(names) < 2:
        yield Finding("classes", one_class(names[0]), stops=True)
    for split in data.splits:
        if split in data.division.errors:
            continue
        counts = np.bincount(frame["label"][frame["split"] == split].to_numpy(np.int64), minlength=len(names))
        absent = tuple(name for name, count in zip(names, counts, strict=False) if not count)
        if split == "train" and absent and data.own:
            yield Finding("classes", _untrained(absent, data.config.train_size), stops=True)
        if len(absent) == len(names) and split != "train":
            text = f"all images of {split} are copies of images in another split, and left out; add others"
            yield Finding("splits", text, stops=True)
        elif split != "train" and absent:
            several = f"{len(absent):,} classes have" if len(absent) > 1 else "a class has"
            yield Finding("classes", f"{several} no {split} image ({few(absent)})", places=absent)


def one_class(name: str) -> str:
    """Text where there is no other class."""
    return f"there is one class only ({name}); a classifier needs at least 2"


def _untrained(empty: Sequence[str], size: int | None) -> str:
    """Text about classes without a training image, whose outputs would not be trained."""
    named = f"class {empty[0]!r} has" if len(empty) == 1 else f"the classes {few(empty)} have"
    drawn = "" if size is None else f" among the {size:,} drawn ones (train_size)"
    cure = "add some, or remove it" if size is None else "add some, draw more, or remove it"
    return f"{named} no training image{drawn}; {cure}"


def _broken(data: Data) -> Iterator[Finding]:
    """Images that cannot be decoded, or have more pixels than the limit."""
    for part in _parts(data):
        frame = part.frame
        bad = frame[frame["problem"].fillna("").ne("") & (frame["split"] != "")].sort_values("path")
        large = bad["too_large"].eq(True)
        for check, rows, state, cure in (
            ("broken", bad[~large], "cannot be read", "Replace"), ("too large", bad[large], "are too large", "Shrink"),
        ):  # fmt: skip
            if rows.empty:
                continue
            text, places = rows["problem"].iloc[0], tuple(rows["path"])
            if len(rows) > 1:
                text = f"{len(rows):,} images {state}: {text}; also {few(places[1:])}"
            text = f"{text}. {cure} or remove {'them' if len(rows) > 1 else 'it'}, {SKIP}"
            yield Finding(check if part is data else UNLABELLED, text, stops=True, places=places)


def _unlabelled(data: Data) -> Iterator[Finding]:
    """Images without labels: none, or some that lie in the folder of the data too."""
    more = data.unlabelled
    if more is None:
        return
    own = {str(data.folder / path) for path in data.frame["path"]} if data.kind.files else set[str]()
    if both := tuple(path for path in more.frame["path"] if str(more.folder / path) in own):
        text = (
            f"{more.folder} (--unlabelled) lies in the data's folder {data.folder}, or holds it: {len(both):,} of its "
            f"images are the data's too ({few(both)}); move it out"
        )
        yield Finding(UNLABELLED, text, stops=True, places=both)
    elif not (more.frame["split"] == UNLABELLED).any():
        yield Finding(UNLABELLED, f"{more.folder} (--unlabelled) holds no images", stops=True)


# -- notes --


def _left_out(data: Data) -> Iterator[Finding]:
    for part in _parts(data):
        if names := tuple(sorted(part.broken)):
            count = "1 image is" if len(names) == 1 else f"{len(names):,} images are"
            text = f"{count} left out as broken or too large: {few(names)}"
            yield Finding("left out" if part is data else UNLABELLED, text, places=names)


def _copies(data: Data) -> Iterator[Finding]:
    """Images that are equal, or nearly, to images of another split."""
    for part in _parts(data):
        if not part.copies:
            continue
        frame = part.division.frame.loc[[*part.copies]]
        splits = " and ".join(split for split in (*SPLITS, UNLABELLED) if (frame["split"] == split).any())
        both = zip(frame.itertuples(), part.copies.values(), strict=True)
        pairs = tuple(f"{image_name(row)} = {other}" for row, other in both)
        several = (
            f"{len(pairs):,} images of {splits} are copies" if len(pairs) > 1 else f"1 image of {splits} is a copy"
        )
        cure = "left out" if part.own else "kept, as the data set is published so"
        text = f"{several} of images in another split, equal or nearly equal, and {cure} (first {pairs[0]})"
        yield Finding("leakage", text, places=pairs)


def _equal(data: Data) -> Iterator[Finding]:
    """Images of equal bytes: in several classes, or more than once in a class of a split."""
    frame = data.frame
    every = frame[
        (frame["sha256"].fillna("") != "") & frame["split"].where(frame["why"] != COPY, frame["origin"]).ne("")
    ]
    groups = [rows for _, rows in every[every.duplicated("sha256", keep=False)].groupby("sha256", sort=False)]
    mixed = [rows for rows in groups if rows["label"].nunique() > 1]
    twice = [rows for rows in groups if rows["label"].nunique() == 1 and rows["split"].nunique() == 1]
    for check, found, where in (
        ("conflicting labels", mixed, "in more than one class"),
        ("duplicates", twice, "more than once in a class"),
    ):
        if not found:
            continue
        named = tuple(" = ".join(image_name(row) for row in rows.itertuples()) for rows in found)
        several = "1 image is" if len(found) == 1 else f"{len(found):,} images are"
        first = f"first {' = '.join(named[0].split(' = ')[:3])}"
        cure = "; correct the label" if found is mixed else ""
        yield Finding(check, f"{several} {where}, with equal bytes ({first}){cure}", places=named)


def _imbalance(data: Data) -> Iterator[Finding]:
    """Classes of very different size."""
    labels = data.frame["label"][data.frame["split"] == "train"].to_numpy(np.int64)
    counts = np.bincount(labels, minlength=1)
    there = np.flatnonzero(counts)
    if len(there) < 2 or "train" in data.division.errors:
        return
    most, least = there[counts[there].argmax()], there[counts[there].argmin()]
    if counts[most] >= IMBALANCE * counts[least]:
        ratio = f"{counts[most] / counts[least]:.0f} times as many training images as"
        names = data.classes[most], data.classes[least]
        text = f"class {names[0]!r} ({counts[most]:,}) has {ratio} {names[1]!r} ({counts[least]:,})"
        yield Finding("imbalance", text)


def _passed_over(data: Data) -> Iterator[Finding]:
    """Files and folders that no training reads."""
    for check, kind, reasons, why, cure in (
        ("unused", "file", (FORMAT, OUTSIDE), "not used: of an unknown format, or outside the class folders", ""),
        ("linked", "folder", (LINKED, CLOSED), "not read: a link, or one that cannot be listed", "; move the images"),
    ):  # fmt: skip
        if names := tuple(data.frame["path"][data.frame["why"].isin(reasons)]):
            count = f"1 {kind} is" if len(names) == 1 else f"{len(names):,} {kind}s are"
            yield Finding(check, f"{count} {why} ({few(names)}){cure}", places=names)


def _names(data: Data) -> Iterator[Finding]:
    """Names that look alike: they differ in case, Unicode form, blanks or invisible characters alone."""
    if not data.own:
        return
    paths = data.frame["path"]
    groups: dict[str, list[str]] = {}
    for path in sorted({*paths, *(str(PurePath(path).parent) for path in paths), *data.classes} - {"", "."}):
        groups.setdefault(_alike(path), []).append(path)
    if equal := tuple(" = ".join(group) for group in groups.values() if len(group) > 1):
        how = "in case, Unicode form, blanks or invisible characters alone"
        text = f"{len(equal):,} names differ {how}, first {ascii(equal[0])}; some systems keep one"
        yield Finding("names", text, places=equal)


def _alike(path: str) -> str:
    if path.isascii() and path.islower() and " " not in path:
        return path
    visible = (char for char in unicodedata.normalize("NFKC", path) if unicodedata.category(char) != "Cf")
    return "/".join(" ".join(part.split()) for part in "".join(visible).casefold().split("/"))


CHECKS: dict[str, Callable[[Data], Iterator[Finding]]] = {
    "splits": _splits,
    "classes": _classes,
    "broken": _broken,
    UNLABELLED: _unlabelled,
    "left out": _left_out,  # by `skip_broken`
    "copies": _copies,
    "equal": _equal,
    "imbalance": _imbalance,
    "passed over": _passed_over,
    "names": _names,
}


def _parts(data: Data) -> list[Data]:
    return [data, *([data.unlabelled] if data.unlabelled is not None else [])]


def _mean(number: float) -> str:
    """``8.6``, ``500``, ``1,000``."""
    return f"{number:,.1f}".removesuffix(".0")


def training_plan(check: DataCheck, config: Config) -> dict[str, str]:
    """The plan of a training with ``config`` on the checked images, in words: name → text.

    Example:
        >>> plan = training_plan(check_data(DataConfig("digits")), Config(DataConfig("digits")))
        >>> plan["images per epoch"], plan["resizing"]
        ('1,295 in 21 steps of 64', 'from 8 x 8 (median) to 70 x 70 pixels, squashed to a square')
    """
    totals = {split: int(counts.sum()) for split, counts in check.counts.items()}
    train = totals.get("train", 0) + check.n_unlabelled
    batch, side = config.training.batch_size, config.model.image_size
    steps = -(-train // batch)
    held = {
        split: f"{totals[split]:,} ({_mean(totals[split] / len(check.class_names))} a class)"
        for split in ("val", "calibration", "test")
        if totals.get(split)
    }
    sizes = check.sizes()
    before = f"from {sizes.median[0]:,} x {sizes.median[1]:,} (median) " if sizes else ""
    return {
        "split": check.rule or "not divided",
        "classes": f"{len(check.class_names):,}",
        "images per epoch": f"{train:,} in {steps:,} {'step' if steps == 1 else 'steps'} of {batch:,}"
        + (f", {check.n_unlabelled:,} of them unlabelled" if check.n_unlabelled else ""),
        **held,
        "resizing": f"{before}to {side} x {side} pixels, {config.model.resizing}",
    }
