"""Known data sets as arrays, verified: Fashion-MNIST, CIFAR, Flowers-102, Caltech-101 and scikit-learn's digits.

In: a split, and the folder that holds the data. Out: a `Pool` of all images of that split as the source has
them; `images.py` cuts the project's own splits from it.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..utils.files import cache_dir
from ..utils.typing import Ints
from .caltech101 import CALTECH101
from .source import ImageFiles, Pool, Source, data_dir, download, missing
from .splits import stratified_rows

BUNDLED = Path(__file__).parent / "bundled" / "fashion-mnist"
SYSTEM_DATA = Path("/usr/share/datasets")  # where Debian's packages put data sets


def system_data() -> Path:
    """Folder of the data sets that the system's packages install: ``DMPO_EXPLORE_SYSTEM_DATA`` where it is set.

    Example:
        >>> system_data().is_absolute()
        True
    """
    own = os.environ.get("DMPO_EXPLORE_SYSTEM_DATA", "").strip()
    return Path(own).expanduser().absolute() if own else SYSTEM_DATA


# -- Fashion-MNIST --

FASHION_NAMES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
FASHION_FILES = {  # SHA-256 of the raw files; .gz files differ between distributors
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
FASHION_ELSE = " or `apt-get install dataset-fashion-mnist`, or put the four files into that folder"


def _read_fashion(split: str, root: Path | None) -> Pool:
    part = "t10k" if split == "test" else "train"
    paths = [_find_fashion(f"{part}-{kind}", root) for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")]
    if paths[0] is None or paths[1] is None:
        raise missing("fashion-mnist", str(data_dir(root) / "FashionMNIST" / "raw"), FASHION_ELSE)
    return Pool(_read_idx(paths[0]), _read_idx(paths[1]).astype(np.int64), FASHION_NAMES)


def _find_fashion(name: str, root: Path | None) -> Path | None:
    """The first of: the caller's or the environment's folder, the bundled one, the cache, Debian's; raw first."""
    folders = [data_dir(root) / "FashionMNIST" / "raw", data_dir(root)]
    folders += [BUNDLED, cache_dir() / "data" / "FashionMNIST" / "raw", system_data() / "fashion-mnist"]
    candidates = (folder / file for folder in folders for file in (name, f"{name}.gz"))
    return next((path for path in candidates if path.is_file()), None)


@lru_cache(maxsize=4)
def _read_idx(path: Path) -> NDArray[np.uint8]:
    """An IDX file of bytes, raw or .gz, verified: (n, 28, 28) or (n,); read-only."""
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path} is damaged ({error}); delete it and fetch it again") from None
    if hashlib.sha256(raw).hexdigest() != FASHION_FILES[path.name.removesuffix(".gz")]:
        raise ValueError(f"{path} does not hold Fashion-MNIST (its SHA-256 differs); delete it and fetch it again")
    shape = np.frombuffer(raw, dtype=">i4", count=raw[3], offset=4)  # byte 3 of the header: number of axes
    return np.frombuffer(raw, dtype=np.uint8, offset=4 + 4 * raw[3]).reshape([int(n) for n in shape])


def _fetch_fashion(root: Path | None) -> Path:
    try:
        _read_fashion("train", root)
    except FileNotFoundError:
        download("fashion-mnist", "FashionMNIST", root, FASHION_ELSE, train=True)
        _read_fashion("train", root)
    path = _find_fashion("train-images-idx3-ubyte", root)
    return path.parent if path is not None else data_dir(root)


# -- sets that torchvision downloads --


def _cifar(kind: str, n_bytes: int) -> Source:
    name = kind.lower()

    @lru_cache(maxsize=2)
    def read(split: str, folder: Path) -> Pool:
        from .torch_sources import read_cifar

        try:
            return Pool(*read_cifar(kind, folder, train=split == "train"))
        except RuntimeError:
            raise missing(name, str(folder)) from None

    def fetch(root: Path | None) -> Path:
        download(name, kind, root, train=True)
        return data_dir(root)

    title = f"{kind[:5]}-{kind[5:]}: 50,000 + 10,000 colour images of 32x32, {kind[5:]} classes"
    return Source(title, "not stated by its authors", lambda s, root: read(s, data_dir(root)), fetch, val_size=5000,
                  download_bytes=n_bytes)  # fmt: skip


def _read_flowers(split: str, root: Path | None) -> Pool:
    """The published splits (1,020 / 1,020 / 6,149) from the files that torchvision unpacks."""
    folder = data_dir(root) / "flowers-102"
    if not all((folder / file).exists() for file in ("imagelabels.mat", "setid.mat", "jpg")):
        raise missing("flowers102", str(folder))
    from .torch_sources import flower_names

    key = {"train": "trnid", "val": "valid", "test": "tstid"}[split]
    numbers = _whole_numbers(folder / "setid.mat", key)  # counted from 1, as the labels are
    labels = _whole_numbers(folder / "imagelabels.mat", "labels") - 1
    files = [folder / "jpg" / f"image_{number:05d}.jpg" for number in numbers]
    return Pool(ImageFiles(files), labels[numbers - 1], flower_names())


def _whole_numbers(file: Path, key: str) -> Ints:
    """An array of a MATLAB file."""
    from scipy.io import loadmat

    try:
        return np.asarray(loadmat(file)[key].ravel().astype(np.int64))
    except Exception as error:  # scipy's errors are of many kinds
        raise ValueError(f"{file} is damaged ({error}); delete it and fetch it again") from None


def _fetch_flowers(root: Path | None) -> Path:
    download("flowers102", "Flowers102", root)
    return data_dir(root) / "flowers-102"


# -- scikit-learn's digits --


def _read_digits(split: str, root: Path | None) -> Pool:
    """1,797 grey images of 8x8 with 16 levels; a fixed fifth is ``test``. Positions count in each part."""
    return _digits("test" if split == "test" else "train")


@lru_cache(maxsize=2)
def _digits(part: str) -> Pool:
    """A part of the digits, unpacked once a process, since a training uses it 25 times; read-only."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    labels = bunch.target.astype(np.int64)
    pixels = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    test = stratified_rows(labels, len(labels) // 5)
    rows = test if part == "test" else np.setdiff1d(np.arange(len(labels)), test)
    pixels, labels = pixels[rows], labels[rows]
    pixels.flags.writeable = labels.flags.writeable = False
    return Pool(pixels, labels, tuple(str(name) for name in bunch.target_names))


def _fetch_digits(root: Path | None) -> Path:
    import sklearn.datasets

    return Path(sklearn.datasets.__file__).parent / "data"


DATASETS: dict[str, Source] = {
    "fashion-mnist": Source(
        "Fashion-MNIST: 60,000 + 10,000 grey images of 28x28, 10 classes",
        "MIT",
        _read_fashion,
        _fetch_fashion,
        5000,
        download_bytes=30_878_645,
    ),
    "cifar10": _cifar("CIFAR10", 170_498_071),
    "cifar100": _cifar("CIFAR100", 169_001_437),
    "flowers102": Source(
        "Oxford Flowers-102: colour photographs, 102 classes",
        "not stated by its authors",
        _read_flowers,
        _fetch_flowers,
        splits=("train", "val", "test"),
        rule="train, val and test are the published ones",
        download_bytes=344_878_000,
    ),
    "digits": Source(
        "scikit-learn's digits: 1,797 grey images of 8x8, 10 classes",
        "CC BY 4.0",
        _read_digits,
        _fetch_digits,
        rule="a fixed fifth of every class is test",
    ),
    "caltech101": CALTECH101,
}
