"""The door to images: `DataConfig` → `Data`, opened once and handed on; and images by name and split.

No torch at import.
"""

from __future__ import annotations

from pathlib import Path

from ..config import DataConfig
from ..joints import DATA_KINDS
from ..utils.files import expanded
from .folders import FolderKind
from .frame import Data
from .hugging_face import HuggingFaceKind
from .image_set import ImageSet
from .known import DATASETS, KnownKind
from .splits import SPLITS
from .tables import TableKind, refuse_table_options

__all__ = [
    "DATASETS", "DATA_KINDS", "SPLITS", "ImageSet", "data_stamp", "fetch_data", "images_of", "load_images", "open_data",
]  # fmt: skip


DATA_KINDS.fill(
    {
        "folder": FolderKind,
        "table": TableKind,
        "known": KnownKind,
        "hugging face": HuggingFaceKind,
    }
)


def open_data(data: DataConfig | Data) -> Data:
    """The data that a config names, of whatever kind; opened data are returned as they are.

    Nothing is read yet, so that the data of a run can be named where its images are not.

    Raises:
        ValueError: a name that is timm's and a folder's, folders of splits beside a name, or an option of tables beside
            other data.

    Example:
        >>> data = open_data(DataConfig("digits"))
        >>> data.splits, len(data.images("test"))
        (('train', 'val', 'test'), 359)
    """
    if isinstance(data, Data):
        return data
    kind = next((kind for kind in DATA_KINDS.values() if kind.takes(data)), FolderKind)
    if kind is not TableKind:
        refuse_table_options(data)
    return Data(kind(data))


def load_images(
    name: str,
    split: str,
    *,
    root: str | Path | None = None,
    train_size: int | None = None,
    seed: int = 0,
    calibration: bool | None = None,
) -> ImageSet:
    """The images of one split. Downloads nothing (see `fetch_data`).

    Args:
        name: a key of `DATASETS`, or the path of an image folder (root/{train,val,test}/class/x.png or
            root/class/x.png) or of a table (CSV or Parquet with columns path, label, optionally split, group), or
            timm's name of a data set (``hfds/``, ``wds/``).
        split: train, val, test, or calibration where the data have one.
        root: folder of a known data set; default: ``DMPO_EXPLORE_DATA`` or the cache.
        train_size: number of images to draw from ``train``, the same share of every class. Other splits do not depend
            on it.
        seed: of that draw, and of the division of images that have no splits.
        calibration: make a calibration split or none; None: if there are enough images, as `train` does, so that the
            splits are those of a run.

    Raises:
        ValueError: unknown name or split, an empty split, a class too small to be divided, or damaged files.
        FileNotFoundError: the data are missing; the message names the remedy.

    Example:
        >>> digits = load_images("digits", "train", train_size=40)
        >>> len(digits), digits[0].shape, digits.class_names[:3]
        (40, (8, 8, 3), ('0', '1', '2'))
    """
    where = None if root is None else str(expanded(root))
    return images_of(DataConfig(name, where, train_size, seed, calibration=calibration), split)


def images_of(data: DataConfig, split: str) -> ImageSet:
    """The images of one split of a run's data; raises as `load_images`.

    Example:
        >>> len(images_of(DataConfig("digits", train_size=40), "train"))
        40
    """
    return open_data(data).images(split)


def data_stamp(data: DataConfig) -> str:
    """`Data.stamp` of a run's data.

    Example:
        >>> data_stamp(DataConfig("digits"))
        ''
    """
    return open_data(data).stamp()


def fetch_data(name: str, root: str | Path | None = None) -> Path:
    """Download a data set's training images unless they are present, and return the folder that holds them.

    Raises:
        ValueError: unknown name.
        FileNotFoundError: it cannot be downloaded; the message names the alternatives.

    Example:
        >>> fetch_data("digits").is_dir()  # a part of scikit-learn: nothing is downloaded
        True
    """
    return open_data(DataConfig(name, None if root is None else str(root))).kind.fetch()
