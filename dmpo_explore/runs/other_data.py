"""Records of other images than a run's own, of the same classes: the same goods in other shops.

In: the data set, or a folder. Out: the name of their record in the run's folder, ``DATA-SPLIT``, and the images again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePath

from ..config import DataConfig
from ..data.image_set import ImageSet
from ..data.images import open_data
from ..data.known import DATASETS
from ..records.record import RecordMeta

LONGEST = 60  # letters of a data set's name in other names


def record_name(data: str, split: str) -> str:
    """The name of the record of other data: that of the data set or of the folder, and the split.

    Example:
        >>> record_name("grocery-shops", "test"), record_name("/home/me/hospital B", "calibration")
        ('grocery-shops-test', 'hospital-B-calibration')
    """
    return f"{short_name(data)}-{split}"


def short_name(data: str) -> str:
    """The name of a data set, or of a folder without what lies above it, as a part of names of files.

    Example:
        >>> short_name("/photos/My holiday (2024).csv")
        'My-holiday-2024'
    """
    return re.sub(r"[^A-Za-z0-9_]+", "-", PurePath(data).stem)[:LONGEST].strip("-") or "images"


def recorded_elsewhere(splits: Sequence[str]) -> list[str]:
    """Short names of the other data of which both calibration and test are among these records of a run.

    Example:
        >>> recorded_elsewhere(["calibration", "test", "shop-B-calibration", "shop-B-test", "shop-C-test"])
        ['shop-B']
    """
    tested = (split.removesuffix("-test") for split in splits if split.endswith("-test"))
    return [name for name in tested if f"{name}-calibration" in splits]


def images_again(meta: RecordMeta, root: str | None) -> ImageSet:
    """The images of a record of a known data set, classes as recorded; ``root``: folder of known data sets.

    Raises:
        FileNotFoundError: images of a folder, which a record alone does not find again, or that have to be fetched.
    """
    if meta.data not in DATASETS:
        raise FileNotFoundError(f"images of {meta.data} are not opened from their record, which does not list them")
    return open_data(DataConfig(meta.data, root)).images(meta.split).in_order(meta.class_names)
