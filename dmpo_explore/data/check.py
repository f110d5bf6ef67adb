"""The data check: counts, sizes, formats and findings of the images of a data set, and the plan of a training on them.

In: a `DataConfig`. Out: `DataCheck`: counts by split and class, sizes, formats, findings. Every file is read once.
The same check runs before every training (`require`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..config import Config, DataConfig
from ..utils.typing import Ints, Progress
from .findings import Finding, find_all
from .image_data import ImageData, Ledger, ledger_values, used_by_split
from .image_facts import gather_facts
from .images import open_data
from .unlabelled import UNLABELLED, check_unlabelled


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
        data: the checked data. rule: how they are divided, in words; empty if they cannot be opened.
        class_names: label → name. counts: split → (C,) images of every class.
        findings: those that stop a training first.
        formats: format → files. bytes: of all files. widths, heights: (n,) of all images that could be read.
        hashes: file → SHA-256. left_out: broken files that ``skip_broken`` leaves out → why.
        ledger: place → inputs found, used and left out (`LedgerLine`).
        thumbnails: class name → small images uint8 (h, w, 3).

    Example:
        >>> found = check_data(DataConfig("digits"))
        >>> found.ready, found.n_images, found.imbalance, found.sizes().median
        (True, 1797, 1.048, (8, 8))
    """

    data: DataConfig
    rule: str
    class_names: tuple[str, ...]
    counts: dict[str, Ints]
    findings: tuple[Finding, ...]
    formats: dict[str, int] = field(default_factory=dict)
    bytes: int = 0
    widths: Ints = field(default_factory=lambda: np.zeros(0, np.int64), repr=False)
    heights: Ints = field(default_factory=lambda: np.zeros(0, np.int64), repr=False)
    hashes: dict[str, str] = field(default_factory=dict, repr=False)
    left_out: dict[str, str] = field(default_factory=dict, repr=False)
    ledger: Ledger = field(default_factory=dict, repr=False)
    thumbnails: dict[str, list[NDArray[np.uint8]]] = field(default_factory=dict, repr=False)

    @property
    def ready(self) -> bool:
        """Whether a training could start on these images."""
        return not any(finding.stops for finding in self.findings)

    @property
    def n_images(self) -> int:
        """All images, of all splits."""
        return sum(int(counts.sum()) for counts in self.counts.values())

    @property
    def n_calibration(self) -> int:
        """Images that thresholds are fitted on."""
        return int(np.sum(self.counts.get("calibration", 0)))

    @property
    def n_unlabelled(self) -> int:
        """Images without labels, which are in no split."""
        return used_by_split(self.ledger).get(UNLABELLED, 0)

    @property
    def imbalance(self) -> float | None:
        """Training images of the largest class over those of the smallest; infinite if that has none; None without."""
        counts = self.counts.get("train")
        if counts is None or not counts.any():
            return None
        return float(counts.max() / counts.min()) if counts.min() else math.inf

    def sizes(self) -> Sizes | None:
        """Sizes of all images that could be read; None if there are none, or they were only counted."""
        if not len(self.widths):
            return None
        area, aspect = self.widths * self.heights, self.widths / self.heights
        ends = [(int(self.widths[row]), int(self.heights[row])) for row in (area.argmin(), area.argmax())]
        middle = int(np.median(self.widths)), int(np.median(self.heights))
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
            "ledger": ledger_values(self.ledger),
            "formats": self.formats,
            "bytes": self.bytes,
            "sizes": sizes._asdict() if sizes else None,
            "imbalance": None if imbalance is None or math.isinf(imbalance) else imbalance,
            "findings": [
                {"check": f.check, "stops": f.stops, "text": f.text, "places": list(f.places)} for f in self.findings
            ],
        }


def check_data(
    data: DataConfig | ImageData, progress: Progress | None = None, *, thumbnails: int = 0, quick: bool = False
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
    try:
        facts = gather_facts(open_data(data), progress, thumbnails=thumbnails, quick=quick)
    except ValueError as error:  # the config itself names no data, or an option that they cannot have
        config = data.config if isinstance(data, ImageData) else data
        return DataCheck(config, "", (), {}, (Finding("splits", str(error), stops=True),))
    more = check_unlabelled(facts, progress)
    findings = (*more.findings, *find_all(facts))
    seen = [look for look in facts.looks if look.width and not look.problem]
    small: dict[str, list[NDArray[np.uint8]]] = {}
    for row, image in facts.thumbnails.items():
        small.setdefault(facts.class_names[facts.labels[row]], []).append(image)
    return DataCheck(
        data=facts.data.config,
        rule=facts.rule,
        class_names=facts.class_names,
        counts=facts.counts(),
        findings=tuple(sorted(findings, key=lambda finding: not finding.stops)),  # those that stop a training first
        formats=dict(Counter(look.format or "not readable" for look in facts.looks).most_common()),
        bytes=sum(look.bytes for look in facts.looks),
        widths=np.asarray([look.width for look in seen], np.int64),
        heights=np.asarray([look.height for look in seen], np.int64),
        hashes={path: look.sha256 for path, look in zip(facts.paths, facts.looks, strict=bool(facts.looks))}
        | dict(more.hashes),
        left_out={path: look.problem for path, look in facts.left_out.items()} | dict(more.left_out),
        ledger=facts.ledger | more.ledger,
        thumbnails=small,
    )


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
