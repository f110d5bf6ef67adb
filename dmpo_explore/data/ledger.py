"""Ledger of inputs: for every place of the data how many inputs were found, how many are used, and why others are not.

In: the data's files as they are walked, and the image sets of a training. Out: place → `LedgerLine`. A place is a split
that the data bring themselves, or ``all`` where they are undivided. What is found is counted apart from what is used,
so that an image which no rule mentions makes the sums differ.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .image_data import ImageData
from .image_set import ImageSet
from .listing import Listing
from .splits import SPLITS

ALL, BESIDE = "all", "beside the splits"
BROKEN, NOT_DRAWN = "broken or too large", "not drawn (train_size)"


@dataclass(frozen=True)
class LedgerLine:
    """Inputs of one place: number found, split → number used, reason → number left out.

    Example:
        >>> line = LedgerLine(12, {"train": 9, "val": 1}, {"of another format": 2})
        >>> line.agrees, line.described()
        (True, '12 found: 9 train, 1 val; left out: 2 of another format')
    """

    found: int
    used: dict[str, int]
    left_out: dict[str, int]

    @property
    def agrees(self) -> bool:
        """Whether every input that was found is used or left out for a reason."""
        return self.found == sum(self.used.values()) + sum(self.left_out.values())

    def described(self) -> str:
        """The line in words."""
        used = ", ".join(f"{count:,} {split}" for split, count in self.used.items()) or "none used"
        gone = ", ".join(f"{count:,} {reason}" for reason, count in self.left_out.items())
        return f"{self.found:,} found: {used}" + (f"; left out: {gone}" if gone else "")


Ledger = dict[str, LedgerLine]


def take_ledger(
    data: ImageData, sets: Mapping[str, ImageSet], listing: Listing, broken: Collection[Path] = ()
) -> Ledger:
    """The ledger of the images that a training would use.

    Args:
        data: without the files that ``skip_broken`` leaves out, which are ``broken``. sets: split → its images.
        listing: of the files.

    Example:
        >>> from dmpo_explore import DataConfig
        >>> from dmpo_explore.data import open_data
        >>> data = open_data(DataConfig("digits", train_size=40))
        >>> sets = {split: data.images(split) for split in ("train", "val", "test")}
        >>> take_ledger(data, sets, data.listing())["train"].described()
        '1,438 found: 40 train, 143 val; left out: 1,255 not drawn (train_size)'
    """
    found = Counter(data.inputs(listing))
    divided = ALL not in found

    def place(split: str) -> str:
        return split if split in found else "train" if divided and split else BESIDE if divided else ALL

    used = {name: dict[str, int]() for name in found}
    for split in SPLITS:
        if split in sets:
            used.setdefault(place(split), {})[split] = len(sets[split])
    left_out = {name: Counter[str]() for name in used}
    for split, _, reason in listing.left_out:
        left_out.setdefault(place(split), Counter())[reason] += 1
    where = {image.path: image.split for image in listing.images} if broken else {}
    for path in where.keys() & {*broken}:
        left_out[place(where[path])][BROKEN] += 1
    if data.config.train_size is not None and "train" in sets:
        left_out[place("train")][NOT_DRAWN] += len(data.undrawn().images("train")) - len(sets["train"])
    names = [*found, *(name for name in left_out if name not in found)]
    return {name: LedgerLine(found[name], used.get(name, {}), dict(+left_out.get(name, Counter()))) for name in names}


def disagreements(ledger: Ledger) -> list[str]:
    """What does not add up, a sentence for every such place."""
    return [
        f"{place}: {line.described()}; these do not add up to what was found"
        for place, line in ledger.items()
        if not line.agrees
    ]


def used_by_split(ledger: Ledger) -> dict[str, int]:
    """Split → number of images used, over all places."""
    total = Counter[str]()
    for line in ledger.values():
        total.update(line.used)
    return dict(total)


def ledger_values(ledger: Ledger) -> dict[str, Any]:
    """A ledger as plain JSON values."""
    return {place: asdict(line) for place, line in ledger.items()}


def read_ledger(values: Any, counts: Mapping[str, int]) -> Ledger:
    """A ledger from JSON values; ValueError for another thing, and where it differs from the manifest's counts.

    Example:
        >>> read_ledger({"all": {"found": 3, "used": {"train": 2}, "left_out": {}}}, {"train": 2})
        Traceback (most recent call last):
        ValueError: its ledger does not add up: all: 3 found: 2 train; these do not add up to what was found
    """
    if not isinstance(values, dict) or not all(
        isinstance(line, dict)
        and line.keys() == {"found", "used", "left_out"}
        and isinstance(line["used"], dict) and isinstance(line["left_out"], dict)
        and _whole([line["found"], *line["used"].values(), *line["left_out"].values()]) for line in values.values()
    ):  # fmt: skip
        raise ValueError("ledger must be an object of places with found, used and left_out")
    ledger = {place: LedgerLine(**line) for place, line in values.items()}
    if wrong := disagreements(ledger):
        raise ValueError(f"its ledger does not add up: {wrong[0]}")
    used = used_by_split(ledger)  # of known arrays also test, which a manifest does not list
    if ledger and any(used.get(split) != count for split, count in counts.items()):
        raise ValueError(f"its ledger counts {used}, its first line {dict(counts)}")
    return ledger


def _whole(numbers: Iterable[Any]) -> bool:
    return all(isinstance(number, int) and not isinstance(number, bool) and number >= 0 for number in numbers)
