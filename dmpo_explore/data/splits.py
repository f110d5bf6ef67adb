"""Splits: their names, and the rules by which images are divided into them.

In: labels and, where there are any, groups. Out: rows. All rules are seeded and stratified: every class is divided in
the same proportion. Images of one group (one patient, one video …) are never in two splits.
"""

from __future__ import annotations

import warnings

import numpy as np

from ..utils.typing import Array, Ints

SPLITS = ("train", "val", "calibration", "test")
UNLABELLED = "unlabelled"  # of images without labels, which are in no split
ALIASES = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
    "calibration": "calibration", "test": "test", "testing": "test",
}  # fmt: skip
SHARES = {"train": 8, "val": 1, "test": 1}  # tenths of an undivided data set
SHARES_CALIBRATED = {"train": 6, "val": 1, "calibration": 1, "test": 2}
LEAST_CALIBRATION = 200  # images that a calibration split has by default, or there is none: with as many, the standard
# error of an accuracy of 90 % is two points
LEAST_OF_A_CLASS = 7  # images of every class, so that each split gets some


def split_of(name: str) -> str | None:
    """The split that a folder or an entry of a table names, in any case; None for another word."""
    return ALIASES.get(name.strip().lower())


def cuts_calibration(wanted: bool | None, size: int, labels: Ints, groups: Array | None = None) -> bool:
    """Whether a calibration split is made: as ``wanted``; if that is None, whether the data are large enough.

    They are large enough if the split gets at least 200 images (``size``, without groups), every class has 7 images,
    and there are ten groups where images have groups.

    Args:
        size: images that the split would get. labels: (n,) int64, of the images that it is taken from. groups: (n,).
    """
    if wanted is not None or not len(labels):
        return bool(wanted)
    enough_groups = groups is None or len(np.unique(groups)) >= 10
    counts = np.bincount(labels)
    return size >= LEAST_CALIBRATION and int(counts[counts > 0].min()) >= LEAST_OF_A_CLASS and enough_groups


def stratified_rows(
    labels: Ints, size: int, *, seed: int = 0, least: int = 0, class_names: tuple[str, ...] | None = None
) -> Ints:
    """Stratified sample: ``size`` rows, sorted, from every class in proportion (largest remainder).

    The same seed gives the same rows on every machine.

    Args:
        labels: (n,) int64.
        least: rows of every class at least.

    Raises:
        ValueError: more than there are, fewer than 1, or a class that would have none left after ``least`` are taken.
    """
    if not 1 <= size <= len(labels) and not least:
        raise ValueError(f"cannot draw {size} images: there are {len(labels)}")
    classes, counts = np.unique(labels, return_counts=True)
    if least:
        _require_images(classes, counts, least + 1, class_names)
    exact = size * counts / max(len(labels), 1)
    taken = np.maximum(np.floor(exact).astype(np.int64), least)
    short = max(size - int(taken.sum()), 0)
    taken[np.argsort(-(exact - taken), kind="stable")[:short]] += 1  # a class that ``least`` raised comes last
    order = np.random.RandomState(seed).permutation(len(labels))  # legacy on purpose: its stream never changes
    rows = [order[labels[order] == label][:n] for label, n in zip(classes, taken, strict=True)]
    return np.sort(np.concatenate(rows)) if rows else np.zeros(0, dtype=np.int64)


def divide(
    labels: Ints, *, seed: int, calibration: bool = False, class_names: tuple[str, ...] | None = None,
    groups: Array | None = None,
) -> dict[str, Ints]:  # fmt: skip
    """Rows of each split of an undivided data set: 80/10/10, or 60/10/10/20 with a calibration split.

    Each held-out split gets images of every class, unless there are groups.

    Args:
        labels: (n,) int64. groups: (n,), None without groups.

    Raises:
        ValueError: a class that is too small, or too few groups.
    """
    shares = SHARES_CALIBRATED if calibration else SHARES
    if groups is not None:
        return _divide_groups(labels, groups, shares, seed)
    if calibration:
        _require_images(*np.unique(labels, return_counts=True), LEAST_OF_A_CLASS, class_names)
        tenth = len(labels) // 10
        test = stratified_rows(labels, 2 * tenth, seed=seed, least=2, class_names=class_names)
        rest = np.setdiff1d(np.arange(len(labels)), test)
        held = rest[stratified_rows(labels[rest], 2 * tenth, seed=seed, least=4, class_names=class_names)]
        half = stratified_rows(labels[held], len(held) // 2, seed=seed, least=2, class_names=class_names)
        second = {"calibration": held[half]}
    else:
        rest = np.arange(len(labels))
        held = stratified_rows(labels, 2 * (len(labels) // 10), seed=seed, least=4, class_names=class_names)
        test = held[stratified_rows(labels[held], len(held) // 2, seed=seed, least=2, class_names=class_names)]
        second = {}
    out = np.concatenate([test, *second.values()])
    return {"train": np.setdiff1d(rest, held), "val": np.setdiff1d(held, out), **second, "test": test}


def held_out_rows(
    labels: Ints, size: int, *, seed: int = 0, class_names: tuple[str, ...] | None = None, groups: Array | None = None
) -> Ints:
    """Rows that are taken from a training split: about ``size``, at least 2 of every class; whole groups where given.

    Raises:
        ValueError: a class that is too small, or a single group.
    """
    if groups is None:
        return stratified_rows(labels, size, seed=seed, least=2, class_names=class_names)
    folds = _folds(labels, groups, min(10, max(2, round(len(labels) / max(size, 1)))), 2, seed)
    return np.flatnonzero(folds == 0)


def _divide_groups(labels: Ints, groups: Array, shares: dict[str, int], seed: int) -> dict[str, Ints]:
    """Whole folds of whole groups: of ten folds as many as each split's share, of fewer groups one at least."""
    folds = _folds(labels, groups, 10, len(shares), seed)
    n_folds, parts, first = int(folds.max()) + 1, dict[str, Ints](), 0
    for split in reversed(shares):
        count = max(1, round(shares[split] * n_folds / 10)) if split != "train" else n_folds - first
        parts[split] = np.flatnonzero((folds >= first) & (folds < first + count))
        first += count
    return {split: parts[split] for split in shares}


def _folds(labels: Ints, groups: Array, n_folds: int, least: int, seed: int) -> Ints:
    """(n,) fold of every row, by scikit-learn's StratifiedGroupKFold; a group is in one fold."""
    from sklearn.model_selection import StratifiedGroupKFold

    n_groups = len(np.unique(groups))
    if n_groups < least:
        raise ValueError(f"there are {n_groups} groups; at least {least} are needed, as no group may be in two splits")
    folds = np.zeros(len(labels), dtype=np.int64)
    n_folds = min(n_folds, n_groups)
    most = int(np.bincount(labels).max())
    if most < n_folds:
        raise ValueError(f"the largest class has {most} images; at least {n_folds} are needed to divide by groups")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of classes with fewer images than folds
        cut = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed).split(labels, labels, groups)
        for fold, (_, rows) in enumerate(cut):
            folds[rows] = fold
    return folds


def _require_images(classes: Ints, counts: Ints, least: int, class_names: tuple[str, ...] | None) -> None:
    if counts.size and counts.min() < least:
        label = int(classes[counts.argmin()])
        named, has = class_names[label] if class_names else label, int(counts.min())
        others = int((counts < least).sum()) - 1
        raise ValueError(
            f"class {named!r} has {has} image{'s' * (has != 1)}; it needs at least {least} to be divided"
            + (f", and so do {others} other classes" if others > 1 else ", and so does another class" * others)
        )
