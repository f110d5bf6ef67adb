"""Where pictures come from: known data sets and image folders, as arrays, verified.

In: train, val or test, and the folder that holds the data. Out: a `Pool` of all the pictures of that split as the
source has them; `images.py` cuts ours from it. No torch at import; torchvision only downloads, and reads CIFAR.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ..utils.files import cache_dir
from ..utils.typing import Ints
from .image_files import SUFFIXES, open_image

BUNDLED = Path(__file__).parents[1] / "assets" / "fashion-mnist"
DEBIAN = Path("/usr/share/datasets/fashion-mnist")


class Pixels(Protocol):
    """Anything that gives one picture by its position: uint8 (H, W) or (H, W, 3)."""

    def __getitem__(self, index: int, /) -> Any: ...


class Pool(NamedTuple):
    """All pictures of one split as the source has them, before ours are cut."""

    pixels: Pixels
    labels: Ints
    class_names: tuple[str, ...]


@dataclass(frozen=True)
class Source:
    """A known data set.

    Args:
        title, licence: in words.
        read: (train, val or test; root or None) → `Pool`. Asked for ``val`` only where ``has_val``.
        fetch: root or None → the folder that holds the data afterwards.
        val_size: pictures cut from train; None means 10 %.
    """

    title: str
    licence: str
    read: Callable[[str, Path | None], Pool]
    fetch: Callable[[Path | None], Path]
    val_size: int | None = None
    has_val: bool = False


def stratified_rows(
    labels: Ints, size: int, *, seed: int = 0, least: int = 0, class_names: tuple[str, ...] | None = None
) -> Ints:
    """``size`` rows, sorted, drawn from every class in proportion (largest remainder), at least ``least`` of each.

    One seed gives the same rows everywhere.

    Raises:
        ValueError: more than there are, fewer than 1, or a class that would have none left after giving ``least``.
    """
    if not 1 <= size <= len(labels) and not least:
        raise ValueError(f"cannot draw {size} pictures: there are {len(labels)}")
    classes, counts = np.unique(labels, return_counts=True)
    if least and counts.size and counts.min() <= least:
        label = int(classes[counts.argmin()])
        named = class_names[label] if class_names else label
        raise ValueError(f"class {named!r} has {counts.min()} pictures; it needs at least {least + 1} to be divided")
    exact = size * counts / max(len(labels), 1)
    taken = np.maximum(np.floor(exact).astype(np.int64), least)
    short = max(size - int(taken.sum()), 0)
    taken[np.argsort(-(exact - np.floor(exact)), kind="stable")[:short]] += 1
    order = np.random.RandomState(seed).permutation(len(labels))  # legacy on purpose: its stream never changes
    rows = [order[labels[order] == label][:n] for label, n in zip(classes, taken, strict=True)]
    return np.sort(np.concatenate(rows)) if rows else np.zeros(0, dtype=np.int64)


def _data_dir(root: Path | None) -> Path:
    return root if root is not None else cache_dir() / "data"


def _missing(name: str, where: str, more: str = "") -> FileNotFoundError:
    return FileNotFoundError(f"{name} is not in {where}. Run `dmpo-explore fetch --data {name}`{more}")


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
        raise _missing("fashion-mnist", str(_data_dir(root) / "FashionMNIST" / "raw"), FASHION_ELSE)
    return Pool(_read_idx(paths[0]), _read_idx(paths[1]).astype(np.int64), FASHION_NAMES)


def _find_fashion(name: str, root: Path | None) -> Path | None:
    """The first of: the caller's folder, the bundled test split, the cache, Debian's package; raw before .gz."""
    folders = [root / "FashionMNIST" / "raw", root] if root is not None else []
    folders += [BUNDLED, cache_dir() / "data" / "FashionMNIST" / "raw", DEBIAN]
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
        _download("fashion-mnist", "FashionMNIST", root, FASHION_ELSE, train=True)
        _read_fashion("train", root)
    path = _find_fashion("train-images-idx3-ubyte", root)
    return path.parent if path is not None else _data_dir(root)


# -- sets that torchvision downloads --


def _download(name: str, kind: str, root: Path | None, more: str = "", **options: Any) -> Any:
    from torchvision import datasets

    folder = _data_dir(root)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return getattr(datasets, kind)(folder, download=True, **options)
    except (OSError, RuntimeError) as error:
        advice = more or "; copy the files torchvision would download into that folder"
        raise FileNotFoundError(f"{name} could not be downloaded into {folder} ({error}). Try again{advice}") from None


def _cifar(kind: str) -> Source:
    name = kind.lower()

    @lru_cache(maxsize=2)
    def read(split: str, folder: Path) -> Pool:
        from torchvision import datasets  # checks the MD5 of each file before it unpickles it

        try:
            data = getattr(datasets, kind)(folder, train=split == "train", download=False)
        except RuntimeError:
            raise _missing(name, str(folder)) from None
        return Pool(data.data, np.asarray(data.targets, dtype=np.int64), tuple(data.classes))

    def fetch(root: Path | None) -> Path:
        _download(name, kind, root, train=True)
        return _data_dir(root)

    title = f"{kind[:5]}-{kind[5:]}: 50,000 + 10,000 colour pictures of 32x32, {kind[5:]} classes"
    return Source(title, "not stated by its authors", lambda s, root: read(s, _data_dir(root)), fetch, val_size=5000)


def _read_flowers(split: str, root: Path | None) -> Pool:
    """The published splits (1,020 / 1,020 / 6,149) from the files that torchvision unpacks."""
    folder = _data_dir(root) / "flowers-102"
    if not all((folder / file).exists() for file in ("imagelabels.mat", "setid.mat", "jpg")):
        raise _missing("flowers102", str(folder))
    from scipy.io import loadmat
    from torchvision.datasets import Flowers102

    key = {"train": "trnid", "val": "valid", "test": "tstid"}[split]
    numbers = loadmat(folder / "setid.mat")[key].ravel()  # counted from 1
    labels = loadmat(folder / "imagelabels.mat")["labels"].ravel().astype(np.int64) - 1
    files = [folder / "jpg" / f"image_{number:05d}.jpg" for number in numbers]
    return Pool(_Files(files), labels[numbers.astype(np.int64) - 1], tuple(Flowers102.classes))


def _fetch_flowers(root: Path | None) -> Path:
    _download("flowers102", "Flowers102", root)
    return _data_dir(root) / "flowers-102"


# -- scikit-learn's digits --


def _read_digits(split: str, root: Path | None) -> Pool:
    """1,797 grey pictures of 8x8 with 16 levels; a fixed fifth is ``test``. Positions count in each part."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    labels = bunch.target.astype(np.int64)
    pixels = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    test = stratified_rows(labels, len(labels) // 5)
    rows = test if split == "test" else np.setdiff1d(np.arange(len(labels)), test)
    return Pool(pixels[rows], labels[rows], tuple(str(name) for name in bunch.target_names))


def _fetch_digits(root: Path | None) -> Path:
    import sklearn.datasets

    return Path(sklearn.datasets.__file__).parent / "data"


# -- image folders --


class _Files:
    """Pictures in files, read one at a time."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths

    def __getitem__(self, index: int, /) -> NDArray[np.uint8]:
        return open_image(self.paths[index])


def folder_source(folder: Path, seed: int) -> Source:
    """Pictures by class: {train,val,test}/class/x.png, or class/x.png, which ``seed`` divides into 80/10/10.

    Reading raises FileNotFoundError for a split without a folder, ValueError for no classes, no pictures, or a class
    that train does not have.
    """
    has = {split: (folder / split).is_dir() for split in ("train", "val", "test")}

    def read(split: str, root: Path | None) -> Pool:
        if not any(has.values()):
            return _divide(_read_classes(folder, _class_names(folder)), split, seed)
        if not has[split]:
            raise FileNotFoundError(f"{folder} has no folder {split!r} (it has {', '.join(s for s in has if has[s])})")
        return _read_classes(folder / split, _class_names(folder / ("train" if has["train"] else split)))

    own = has["val"] or not any(has.values())
    return Source(f"pictures in {folder}", "yours", read, lambda root: folder, has_val=own)


def _class_names(folder: Path) -> tuple[str, ...]:
    names = tuple(sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")))
    if not names:
        raise ValueError(f"{folder} holds no class folders; expected {folder}/CLASS/picture.png")
    return names


def _read_classes(folder: Path, class_names: tuple[str, ...]) -> Pool:
    extra = set(_class_names(folder)) - set(class_names)
    if extra:
        raise ValueError(f"{folder / min(extra)} is a class that train does not have ({', '.join(class_names)})")
    files, labels = [], []
    for label, name in enumerate(class_names):
        inside = sorted(
            p for p in (folder / name).rglob("*") if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")
        )
        files += inside
        labels += [label] * len(inside)
    if not files:
        raise ValueError(f"{folder} holds no pictures ({', '.join(SUFFIXES)})")
    return Pool(_Files(files), np.asarray(labels, dtype=np.int64), class_names)


def _divide(pool: Pool, split: str, seed: int) -> Pool:
    """An undivided folder: about 80/10/10 of every class, at least 2 of each for val and for test.

    Positions count in each part.
    """
    held = stratified_rows(pool.labels, 2 * (len(pool.labels) // 10), seed=seed, least=4, class_names=pool.class_names)
    test = held[stratified_rows(pool.labels[held], len(held) // 2, seed=seed, least=2)]
    train = np.setdiff1d(np.arange(len(pool.labels)), held)
    rows = {"train": train, "val": np.setdiff1d(held, test), "test": test}[split]
    paths = pool.pixels.paths if isinstance(pool.pixels, _Files) else []
    return Pool(_Files([paths[row] for row in rows]), pool.labels[rows], pool.class_names)


DATASETS: dict[str, Source] = {
    "fashion-mnist": Source(
        "Fashion-MNIST: 60,000 + 10,000 grey pictures of 28x28, 10 classes", "MIT", _read_fashion, _fetch_fashion, 5000
    ),
    "cifar10": _cifar("CIFAR10"),
    "cifar100": _cifar("CIFAR100"),
    "flowers102": Source(
        "Oxford Flowers-102: colour photographs, 102 classes",
        "not stated by its authors",
        _read_flowers,
        _fetch_flowers,
        has_val=True,
    ),
    "digits": Source(
        "scikit-learn's digits: 1,797 grey pictures of 8x8, 10 classes", "CC BY 4.0", _read_digits, _fetch_digits
    ),
}
