"""Data sets that timm opens as a `Source`: parts become splits, targets become labels; nothing is loaded before use.

In: a `ReaderName`. Out: a `Source`, whose images are `StoredImages`. A part is a split by its name (`split_of`); a data
set with nothing but a train part is divided as an undivided folder is. Ours: where there are train and val and no test,
as in ImageNet, that val is test, and val is cut from train. The classes are those of train.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ..config import DataConfig
from ..utils.typing import Ints
from .labels import refused, wrong_label
from .opened_part import Keys, OpenedPart
from .reader_names import READERS, ReaderName, reader_name
from .source import Pool, Source, data_dir
from .splits import divide, split_of
from .stored_images import ChosenImages, StoredImages


def reader_source(
    name: ReaderName,
    seed: int = 0,
    *,
    root: Path | None = None,
    calibration: bool = False,
    image_key: str | None = None,
    label_key: str | None = None,
) -> Source:
    """A data set that timm opens, as a `Source`.

    Args:
        root: folder of published data sets; default: `data_dir`. seed, calibration: of a data set without splits.
        image_key, label_key: names of the fields of image and class, if the reader cannot infer them.

    Raises:
        FileNotFoundError, ValueError: there is no such data set, or two parts are the same split.
        ImportError: a package is missing; the message has the command that installs it.
    """
    from . import torch_readers

    place = data_dir(root) if name.reader == "torch" else root  # the others have a cache of their own
    keys = Keys(image_key, label_key)
    parts = torch_readers.part_names(name, place)
    part_of = _splits(name, parts)

    @cache
    def opened(part: str) -> OpenedPart:
        found = torch_readers.open_part(name, part, place, keys)
        _check_targets(name, part, found)
        return found

    @cache
    def stored(part: str) -> Pool:
        first, found = opened(part_of["train"]), opened(part)
        names = first.class_names or _class_names(first.targets)
        return Pool(found.images, _labels(name, part, found, names, first), names)

    undivided = len(part_of) == 1

    @cache
    def divided() -> dict[str, Ints]:
        pool = stored(part_of["train"])
        return divide(pool.labels, seed=seed, calibration=calibration, class_names=pool.class_names)

    own = tuple(part_of) if not undivided else ("train", "val", *(["calibration"] if calibration else []), "test")

    def read(split: str, _: Path | None) -> Pool:
        if split not in own:
            raise FileNotFoundError(f"{name} has no {split!r} (it has {', '.join(parts)})")
        pool = stored(part_of["train" if undivided else split])
        rows = divided()[split] if undivided else np.arange(len(pool.labels))
        assert isinstance(pool.pixels, StoredImages)
        return Pool(ChosenImages(pool.pixels, rows), pool.labels[rows], pool.class_names)

    rule = _rule(part_of, own, seed, calibration=calibration)
    title = f"{name} ({READERS[name.reader]})"
    return Source(title, "its authors'", read, lambda _: fetch_named(name, root), None, own, rule,
                  parts=tuple(part_of.values()), stored=stored)  # fmt: skip


def fetch_named(name: ReaderName, root: Path | None = None) -> Path:
    """Download a data set, unless it is here, and return its folder; raises as `torch_readers.download`."""
    from . import torch_readers

    torch_readers.download(name, data_dir(root) if name.reader == "torch" else root)
    return name.folder or data_dir(root)


def fetch_missing(data: DataConfig) -> None:
    """Download the data set of Hugging Face's hub that a new run names, unless it is here; raises as `fetch_named`.

    Example:
        >>> fetch_missing(DataConfig("digits"))
    """
    name, root = reader_name(data.name), Path(data.root).expanduser() if data.root is not None else None
    if name is None or name.reader != "hfds" or name.folder is not None:
        return
    try:
        reader_source(name, root=root)
    except FileNotFoundError:
        fetch_named(name, root)


def _rule(part_of: dict[str, str], own: tuple[str, ...], seed: int, *, calibration: bool) -> str:
    if len(part_of) > 1:
        return ", ".join(f"{split} is its {part}" for split, part in part_of.items())
    shares = "60/10/10/20" if calibration else "80/10/10"
    return f"{shares} % of every class into {', '.join(own)}, with seed {seed}"


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
