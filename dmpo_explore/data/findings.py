"""Findings of the data check: problems that stop a training, and notes.

In: `Facts`. Out: `Finding`s, by one function for each kind (`CHECKS`). Ours: a class counts as much larger than another
from ten times as many training images on.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import PurePath

import numpy as np

from ..utils.texts import few
from .image_data import disagreements
from .image_facts import NO_SPLIT, Facts, FileLook
from .image_set import ImageSet

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


def find_all(facts: Facts) -> tuple[Finding, ...]:
    """All findings, in the order of `CHECKS`."""
    return tuple(finding for check in CHECKS.values() for finding in check(facts))


# -- what can stop a training --


def _splits(facts: Facts) -> Iterator[Finding]:
    """What cannot be opened or divided, and splits that are missing."""
    for error in facts.errors:
        yield Finding("splits", " ".join(str(error).split()), stops=True, error=_kind(error))
    name = facts.data.config.name
    if not facts.splits:
        return
    if "train" not in facts.splits:
        has = ", ".join(facts.splits)
        yield Finding("splits", f"{name} has no training images (it has {has})", True, error=FileNotFoundError)
    elif "test" not in facts.splits:
        has = ", ".join(split for split in facts.splits if split in facts.sets)
        cure = "add some (a folder test, --test-dir), or give only the folder of train, which is then divided 80/10/10"
        yield Finding("splits", f"{name} has no test images (it has {has}); {cure}", True, error=FileNotFoundError)


def _classes(facts: Facts) -> Iterator[Finding]:
    """Classes without a training image, which cannot be learned; and those that another split lacks."""
    train = facts.sets.get("train")
    if train is None:
        return
    if len(train.class_names) < 2:
        yield Finding("classes", one_class(train.class_names[0]), stops=True)
    if facts.data.own and (text := untrained_classes(train, facts.data.config.train_size)):
        yield Finding("classes", text, stops=True)
    for split, images in facts.sets.items():
        n_images = np.bincount(images.labels, minlength=len(train.class_names))
        absent = tuple(name for name, count in zip(train.class_names, n_images, strict=True) if not count)
        if absent and split != "train":
            several = f"{len(absent):,} classes have" if len(absent) > 1 else "a class has"
            yield Finding("classes", f"{several} no {split} image ({few(absent)})", places=absent)


def one_class(name: str) -> str:
    """Text where there is no other class."""
    return f"there is one class only ({name}); a classifier needs at least 2"


def untrained_classes(train: ImageSet, size: int | None) -> str:
    """Text about the classes without a training image, whose outputs would not be trained; empty if there are none.

    Args:
        size: the number of training images to draw, or None for all.
    """
    n_images = np.bincount(train.labels, minlength=len(train.class_names))
    empty = [name for name, count in zip(train.class_names, n_images, strict=True) if not count]
    if not empty:
        return ""
    named = f"class {empty[0]!r} has" if len(empty) == 1 else f"the classes {few(empty)} have"
    drawn = "" if size is None else f" among the {size:,} drawn ones (train_size)"
    cure = "add some, or remove it" if size is None else "add some, draw more, or remove it"
    return f"{named} no training image{drawn}; {cure}"


def _broken(facts: Facts) -> Iterator[Finding]:
    """Files that cannot be decoded."""
    bad = {path: look for path, look in _looked(facts) if look.problem and not look.too_large}
    return unreadable(facts, "broken", bad, "cannot be read", "Replace")


def _too_large(facts: Facts) -> Iterator[Finding]:
    """Images with more pixels than the limit."""
    large = {path: look for path, look in _looked(facts) if look.too_large}
    return unreadable(facts, "too large", large, "are too large", "Shrink")


def unreadable(facts: Facts, check: str, found: Mapping[str, FileLook], state: str, cure: str) -> Iterator[Finding]:
    """The finding about all images of ``found``, if there are any; the first one's problem in full."""
    if not found:
        return
    first, *others = found
    text = found[first].problem
    if others:
        text = f"{len(found):,} images {state}: {text}; also {few(others)}"
    them = "them" if others else "it"
    skip = f", {SKIP}" if facts.data.skips_broken else ""
    yield Finding(check, f"{text}. {cure} or remove {them}{skip}", stops=True, places=tuple(found))


def _inputs(facts: Facts) -> Iterator[Finding]:
    """Inputs that are neither used nor left out for a reason."""
    for text in disagreements(facts.ledger):
        cure = "repeat, if files have changed meanwhile; otherwise please report it"
        yield Finding("inputs", f"{text}. An input is neither used nor left out: {cure}", stops=True)


# -- notes --


def left_out(check: str, names: tuple[str, ...]) -> Iterator[Finding]:
    """The finding about images that were left out, if there are any."""
    if names:
        count = "1 image is" if len(names) == 1 else f"{len(names):,} images are"
        yield Finding(check, f"{count} left out as broken or too large: {few(names)}", places=names)


def _leakage(facts: Facts) -> Iterator[Finding]:
    """Equal files in two splits: the model is tested on training images."""
    groups = [rows for rows in _same_bytes(facts) if len({facts.split[row] for row in rows} - {NO_SPLIT}) > 1]
    if groups:
        known = [rows for rows in groups if "train" in {facts.split[row] for row in rows}]
        more = f", {len(known):,} of them in train" if known else ""
        text = f"{_images(groups)} in more than one split, with equal bytes{more} ({_first(facts, groups)})"
        yield Finding("leakage", f"{text}; keep one of each", places=_equal(facts, groups))


def _conflicts(facts: Facts) -> Iterator[Finding]:
    """Equal files in two classes: one of the labels is incorrect."""
    groups = [rows for rows in _same_bytes(facts) if len({int(facts.labels[row]) for row in rows}) > 1]
    if groups:
        text = (
            f"{_images(groups)} in more than one class, with equal bytes ({_first(facts, groups)}); correct the label"
        )
        yield Finding("conflicting labels", text, places=_equal(facts, groups))


def _duplicates(facts: Facts) -> Iterator[Finding]:
    """Equal files in one class of one split."""
    groups = [
        rows
        for rows in _same_bytes(facts)
        if len({facts.split[row] for row in rows}) == 1 and len({int(facts.labels[row]) for row in rows}) == 1
    ]
    if groups:
        text = f"{_images(groups)} more than once in a class, with equal bytes ({_first(facts, groups)})"
        yield Finding("duplicates", text, places=_equal(facts, groups))


def _imbalance(facts: Facts) -> Iterator[Finding]:
    """Classes of very different size."""
    counts = facts.counts().get("train", np.zeros(0, np.int64))
    there = np.flatnonzero(counts)
    if len(there) < 2:
        return
    most, least = there[counts[there].argmax()], there[counts[there].argmin()]
    if counts[most] >= IMBALANCE * counts[least]:
        names = facts.class_names[most], facts.class_names[least]
        ratio = f"{counts[most] / counts[least]:.0f} times as many training images as"
        text = f"class {names[0]!r} ({counts[most]:,}) has {ratio} {names[1]!r} ({counts[least]:,})"
        yield Finding("imbalance", text)


def _passed_over(check: str, kind: str, names: tuple[str, ...], why: str, cure: str = "") -> Iterator[Finding]:
    """The finding about files or folders that no training reads, if there are any."""
    if names:
        count = f"1 {kind} is" if len(names) == 1 else f"{len(names):,} {kind}s are"
        yield Finding(check, f"{count} {why} ({few(names)}){cure}", places=names)


def _names(facts: Facts) -> Iterator[Finding]:
    """Names that differ in case or Unicode form alone, which some systems take for one file."""
    groups: dict[str, list[str]] = {}
    paths = {*facts.paths, *(str(PurePath(path).parent) for path in facts.paths)} if facts.data.own else set()
    for path in sorted(paths):
        if not (path.isascii() and path.islower()):
            groups.setdefault(unicodedata.normalize("NFC", path).casefold(), []).append(path)
    for path in paths:
        if path.isascii() and path.islower() and path in groups:
            groups[path].append(path)
    if equal := tuple(" = ".join(group) for group in groups.values() if len(group) > 1):
        text = f"{len(equal):,} names differ in case or Unicode form alone, first {equal[0]}; some systems keep one"
        yield Finding("names", text, places=equal)


CHECKS: dict[str, Callable[[Facts], Iterator[Finding]]] = {
    "splits": _splits,
    "classes": _classes,
    "broken": _broken,
    "too large": _too_large,
    "inputs": _inputs,
    "left out": lambda facts: left_out("left out", tuple(facts.left_out)),  # by `skip_broken`
    "leakage": _leakage,
    "conflicting labels": _conflicts,
    "duplicates": _duplicates,
    "imbalance": _imbalance,
    "unused": lambda facts: _passed_over(  # no images by their suffix, or beside the class folders
        "unused", "file", tuple(facts.unused), "not used: of an unknown format, or outside the class folders"
    ),
    "linked": lambda facts: _passed_over(  # links are not followed
        "linked",
        "folder",
        tuple(facts.linked),
        "not read: a link, or one that cannot be listed",
        "; move the images there",
    ),
    "names": _names,
}


def _looked(facts: Facts) -> list[tuple[str, FileLook]]:
    """Paths with their looks, by path."""
    return sorted(zip(facts.paths, facts.looks, strict=bool(facts.looks)), key=lambda pair: pair[0])


def _same_bytes(facts: Facts) -> list[list[int]]:
    """Rows of images with equal hashes, two or more each."""
    hashes = [look.sha256 for look in facts.looks]
    rows = sorted((row for row, digest in enumerate(hashes) if digest), key=hashes.__getitem__)
    groups = [[*group] for _, group in groupby(rows, hashes.__getitem__)]
    return sorted(group for group in groups if len(group) > 1)


def _images(groups: list[list[int]]) -> str:
    return "1 image is" if len(groups) == 1 else f"{len(groups):,} images are"


def _equal(facts: Facts, groups: list[list[int]]) -> tuple[str, ...]:
    return tuple(" = ".join(_place(facts, row) for row in rows) for rows in groups)


def _first(facts: Facts, groups: list[list[int]]) -> str:
    return f"first {' = '.join(_place(facts, row) for row in groups[0][:3])}"


def _place(facts: Facts, row: int) -> str:
    """An image's name, with its split unless that is in the path."""
    path, split = facts.paths[row], facts.split[row]
    return path if path.lower().startswith(split) else f"{path} [{split}]"


def _kind(error: Exception) -> type[Exception]:
    """The built-in class of an error."""
    kinds = (FileNotFoundError, OSError, ImportError, ValueError)
    return next(kind for kind in kinds if isinstance(error, kind))
