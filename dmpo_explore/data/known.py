"""Known data sets, by name: bundled photographs of groceries, and public sets of others.

In: a name and a folder of data sets. Out: a `Source` each. The groceries lie in the package, with a split of ours, with
that of their authors, and of the first shops alone: the Grocery Store Dataset by Marcus Klasson, Cheng Zhang and Hedvig
Kjellström (WACV 2019), MIT: 5,421 photographs of fruit, vegetables and cartons in shops, 81 classes. Here the shorter
side of each has 128 pixels. One file holds them one behind the other, as WebP; a table has the class, the authors'
file, the number of bytes, the group and the splits of each. `scripts/bench grocery` at commit 6a6e907c made both.

The authors' train and val lists are of other shops and days than their test list, and in each several photographs of
one heap or carton follow one another. Ours: the groups. A group is a run of six consecutive files of one class and
list; groups with two images whose difference hashes differ in at most 72 of 256 bits are one. No group is divided.

Ours: `grocery` pools the lists, and 52/12/12/24 % of the images are train, val, calibration and test, the shops mixed
alike in all four, and every class in each of them if it has four groups. In `grocery-shops` train and val are the
authors', calibration is a third of their test list, and test the rest of it. `grocery-same-shops` has the photographs
of their train and val lists alone, in the shares of `grocery`: a run that is trained on it can be recorded on held-out
images of the same shops, and on calibration and test of `grocery-shops`, which are of others.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, cached_property, lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame, concat, factorize, read_csv

from .. import joints
from ..config import DataConfig
from ..utils.files import cache_dir, expanded, staged
from ..utils.registry import Joint
from ..utils.typing import Array, Ints
from .folders import class_files
from .image_set import ImageFiles, ImageSet, Pixels, Pool, StoredImages
from .kinds import Inputs, Kind, absolute, frame_of, relative_path
from .names import Source, data_dir, download, missing
from .splits import SPLITS, divide, stratified_rows

FOLDER = Path(__file__).parent / "bundled" / "grocery"
IMAGES, INDEX = "images.bin", "index.csv"
SHA256 = {
    IMAGES: "fd569679460862351bcac86bee1941deeb90e9786b296fffcfed26ba967b10b6",
    INDEX: "56cabea9fe1900c13c1d2611d462b8d2dc56c731e226ca5a15547324372fb85c",
}
NAMES = ("grocery", "grocery-shops", "grocery-same-shops")
COLUMNS = ("class", "file", "bytes", "group", *NAMES)  # the last ones: the split there, empty where it has none


class Photographs(NamedTuple):
    """All photographs, their SHA-256, labels and groups; and data set → split of each."""

    images: StoredImages
    hashes: list[str]
    class_names: tuple[str, ...]
    labels: Ints
    groups: Ints
    splits: dict[str, Array]


@cache
def photographs() -> Photographs:
    """The bundled photographs, verified once a process; ValueError where a file is damaged or missing."""
    content = _verified(IMAGES)
    rows = read_csv(io.BytesIO(_verified(INDEX)), keep_default_na=False)
    labels, names = factorize(rows["class"])
    ends = np.cumsum(rows["bytes"]).tolist()
    places = dict(zip(rows["file"], zip([0, *ends], ends, strict=False), strict=True))
    hashes = [hashlib.sha256(content[start:end]).hexdigest() for start, end in places.values()]
    images = StoredImages([*places], partial(_photograph, places))
    splits = {name: rows[name].to_numpy(str) for name in NAMES}
    return Photographs(images, hashes, tuple(names), labels, rows["group"].to_numpy(np.int64), splits)


def _photograph(places: Mapping[str, tuple[int, int]], name: str) -> bytes:
    """The bytes of a photograph, from one place to another."""
    start, end = places[name]
    with (FOLDER / IMAGES).open("rb") as stream:
        stream.seek(start)
        return stream.read(end - start)


def _verified(name: str) -> bytes:
    path = FOLDER / name
    content = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(content).hexdigest() != SHA256[name]:
        raise ValueError(f"{path} is damaged or missing (its SHA-256 differs); install dmpo-explore again")
    return content


def _source(name: str, title: str, rule: str) -> Source:
    def read(split: str, root: Path | None) -> Pool:
        every = photographs()
        rows = np.flatnonzero(every.splits[name] == split)
        names, hashes = ([values[row] for row in rows.tolist()] for values in (every.images.names, every.hashes))
        pixels = StoredImages(names, every.images.content, hashes)
        return Pool(pixels, every.labels[rows], every.class_names, every.groups[rows])

    return Source(title, "MIT", read, lambda root: FOLDER, splits=SPLITS, rule=rule, grouped=True)


GROCERIES = {
    "grocery": _source(
        "grocery",
        "Groceries: 5,421 colour photographs, 81 classes",
        "52/12/12/24 % into train, val, calibration and test, photographs that follow one another together",
    ),
    "grocery-shops": _source(
        "grocery-shops",
        "Groceries, tested in other shops: 5,421 colour photographs, 81 classes",
        "train and val are the published ones; calibration is a third of the published test, which is of other shops, "
        "photographs that follow one another together",
    ),
    "grocery-same-shops": _source(
        "grocery-same-shops",
        "Groceries of the first shops: 2,936 colour photographs, 81 classes",
        "52/12/12/24 % of the published train and val into train, val, calibration and test, photographs that follow "
        "one another together",
    ),
}


# Known data sets: Fashion-MNIST, CIFAR, Flowers-102, Caltech-101, groceries and scikit-learn's digits.
#
# In: a split, and the folder that holds the data. Out: a `Pool` of all images of that split as the source has them;
# `ImageData` cuts the project's own splits from it. Arrays and the groceries are verified when they are read; of
# Flowers-102 and Caltech-101 only the download is, and a run's manifest has the SHA-256 of their files.
#
# Caltech 101 by Fei-Fei Li, Marco Andreeto, Marc'Aurelio Ranzato and Pietro Perona (CaltechDATA, 2022), CC BY 4.0,
# without its background class: 8,677 photographs of 101 object classes. Ours: its split, 60/10/10/20 into train, val,
# calibration and test, seeded and stratified; the authors publish none.


class KnownKind(Kind):
    """A known data set as the data of a run."""

    own = False

    def __init__(self, config: DataConfig) -> None:
        super().__init__(config)
        self.source = DATASETS[config.name]
        self.root = expanded(config.root) if config.root is not None else None
        self.val_size = self.source.val_size

    @classmethod
    def takes(cls, config: DataConfig) -> bool:
        return config.name in DATASETS

    @property
    def folder(self) -> Path:
        return data_dir(self.root)

    @cached_property
    def _pools(self) -> dict[str, Pool | Exception]:
        """Split → its images, or why they cannot be read."""
        found = dict[str, Pool | Exception]()
        for split in self.source.splits:
            try:
                found[split] = self.source.read(split, self.root)
            except (OSError, ValueError, ImportError) as error:
                found[split] = error
        return found

    @property
    def files(self) -> bool:  # type: ignore[override]
        return any(isinstance(pool, Pool) and isinstance(pool.pixels, ImageFiles) for pool in self._pools.values())

    def inputs(self) -> Inputs:
        frames, classes = list[DataFrame](), tuple[str, ...]()
        errors = {split: pool for split, pool in self._pools.items() if isinstance(pool, Exception)}
        for split, pool in self._pools.items():
            if isinstance(pool, Pool):
                classes = classes or pool.class_names
                rows = {"path": self._names(pool), "split": split, "label": pool.labels, "why": ""}
                frames.append(DataFrame(rows | ({} if pool.groups is None else {"group": pool.groups})))
        every = concat(frames, ignore_index=True) if frames else frame_of([])
        return Inputs(every, classes, self.source.rule, self.source.splits, errors)

    def _names(self, pool: Pool) -> list[str]:
        """Names of the images of a pool; empty for arrays."""
        if isinstance(pool.pixels, ImageFiles):
            return [relative_path(path, self.folder) for path in pool.pixels.paths]
        return list(getattr(pool.pixels, "names", [""] * len(pool.labels)))

    def pixels(self, split: str, names: Sequence[str], hashes: Sequence[str] | None = None) -> Pixels:
        if hashes is not None:  # of a manifest, which lists files alone
            return ImageFiles([self.folder / name for name in names], hashes)
        pool = self._pools[split]
        assert isinstance(pool, Pool)  # else there were no row of it
        return pool.pixels

    def image_set(self, split: str) -> ImageSet | None:
        if split == "train" or split not in self.source.splits:
            return None
        pool = self.source.read(split, self.root)
        rows = np.arange(len(pool.labels), dtype=np.int64)
        return ImageSet(self.config.name, split, pool.labels, pool.class_names, rows, pool.pixels)

    def fetch(self) -> Path:
        return self.source.fetch(self.root)

    def moved(self, place: str | Path) -> DataConfig:
        new = absolute(place)
        if not new.exists():
            raise FileNotFoundError(f"no folder {new}")
        if str(place) in DATASETS or not new.is_dir():
            raise ValueError(f"the run was trained on {self.config.name}; give the folder that holds that data set")
        return replace(self.config, root=str(new))


# -- Fashion-MNIST --

BUNDLED = Path(__file__).parent / "bundled" / "fashion-mnist"
SYSTEM_DATA = Path("/usr/share/datasets")  # where Debian's packages put data sets
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


def system_data() -> Path:
    """Folder of the data sets that the system's packages install: ``DMPO_EXPLORE_SYSTEM_DATA`` where it is set."""
    own = os.environ.get("DMPO_EXPLORE_SYSTEM_DATA", "").strip()
    return expanded(own).absolute() if own else SYSTEM_DATA


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
    except (FileNotFoundError, ValueError):  # also what a killed download had half unpacked
        folder = data_dir(root) / "FashionMNIST"
        with _downloaded("fashion-mnist", "FashionMNIST", folder, root, FASHION_ELSE, train=True) as made:
            (folder / "raw").mkdir(parents=True, exist_ok=True)
            for file in (made / "FashionMNIST" / "raw").iterdir():
                os.replace(file, folder / "raw" / file.name)
        _read_fashion("train", root)
    path = _find_fashion("train-images-idx3-ubyte", root)
    return path.parent if path is not None else data_dir(root)


# -- sets that torchvision downloads --


def _cifar(kind: str, n_bytes: int) -> Source:
    name = kind.lower()

    @lru_cache(maxsize=2)
    def read(split: str, folder: Path) -> Pool:
        from torchvision import datasets

        try:  # torchvision checks the MD5 of each file before it unpickles it
            found = getattr(datasets, kind)(folder, train=split == "train", download=False)
        except RuntimeError:
            raise missing(name, str(folder)) from None
        return Pool(found.data, np.asarray(found.targets, np.int64), tuple(found.classes))

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
    from torchvision import datasets

    key = {"train": "trnid", "val": "valid", "test": "tstid"}[split]
    numbers = _whole_numbers(folder / "setid.mat", key)  # counted from 1, as the labels are
    labels = _whole_numbers(folder / "imagelabels.mat", "labels") - 1
    files = [folder / "jpg" / f"image_{number:05d}.jpg" for number in numbers]
    return Pool(ImageFiles(files), labels[numbers - 1], tuple(datasets.Flowers102.classes))


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


@lru_cache(maxsize=2)
def _digits(part: str) -> Pool:
    """A part of 1,797 grey images of 8x8 with 16 levels: a fixed fifth is ``test``. Positions count in each part.

    Unpacked once a process, since a training uses it 25 times; read-only.
    """
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


# -- Caltech-101 --

CALTECH_BACKGROUND = "BACKGROUND_Google"
CALTECH_SEED = 0
CALTECH_IMAGES = 8677  # without the background


def _caltech_folder(root: Path | None) -> Path:
    return data_dir(root) / "caltech101" / "101_ObjectCategories"


def _read_caltech(split: str, root: Path | None) -> Pool:
    folder = _caltech_folder(root)
    if not folder.is_dir():
        raise missing(
            "caltech101",
            str(folder),
            ", or name the folder that holds caltech101/ with DMPO_EXPLORE_DATA or --data-root",
        )
    names = tuple(sorted(path.name for path in folder.iterdir() if path.is_dir() and path.name != CALTECH_BACKGROUND))
    files, labels = class_files(folder, names)
    if len(files) != CALTECH_IMAGES:
        raise ValueError(
            f"{folder} has {len(files):,} images in {len(names)} classes in place of {CALTECH_IMAGES:,}: it is not "
            "whole; delete it and run `dmpo-explore fetch --data caltech101`"
        )
    rows = divide(labels, seed=CALTECH_SEED, calibration=True, class_names=names)[split]
    return Pool(ImageFiles([files[row] for row in rows]), labels[rows], names)


def _fetch_caltech(root: Path | None) -> Path:
    folder = _caltech_folder(root)
    if not folder.is_dir():
        with _downloaded("caltech101", "Caltech101", folder, root) as made:
            os.replace(_caltech_folder(made), folder)
    return folder


@contextmanager
def _downloaded(
    name: str, kind: str, place: Path, root: Path | None, more: str = "", **options: bool
) -> Iterator[Path]:
    """Context of a data set downloaded and unpacked beside its ``place``, so that what is moved there is whole."""
    with staged(place) as made:
        try:
            download(name, kind, made, more, **options)
        except FileNotFoundError as error:
            raise FileNotFoundError(str(error).replace(str(made), str(data_dir(root)))) from None
        yield made


DATASETS: Joint[Source] = joints.DATASETS.fill(
    {
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
            lambda split, root: _digits("test" if split == "test" else "train"),
            _fetch_digits,
            rule="a fixed fifth of every class is test",
        ),
        "caltech101": Source(
            "Caltech-101: 8,677 colour photographs, 101 classes",
            "CC BY 4.0",
            _read_caltech,
            _fetch_caltech,
            splits=("train", "val", "calibration", "test"),
            rule=f"60/10/10/20 % of every class into train, val, calibration and test, with seed {CALTECH_SEED}",
            download_bytes=137_414_764,
        ),
        **GROCERIES,
    }
)
