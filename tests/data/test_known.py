from __future__ import annotations

import gzip
import hashlib
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from plugged import plugged

from dmpo_explore.config import OPTIONS, Config, DataConfig
from dmpo_explore.data import known
from dmpo_explore.data.check import check_data
from dmpo_explore.data.images import fetch_data, load_images
from dmpo_explore.data.splits import stratified_rows


@given(
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=60).map(lambda values: np.array(values, dtype=np.int64)),
    share=st.floats(0, 1),
    seed=st.integers(0, 2**32 - 1),
)
def test_stratified_rows_are_distinct_sorted_and_in_proportion(labels: Any, share: float, seed: int) -> None:
    size = max(1, round(share * len(labels)))
    rows = stratified_rows(labels, size, seed=seed)
    assert len(rows) == size
    assert (np.diff(rows) > 0).all()
    exact = np.bincount(labels, minlength=5) * size / len(labels)
    assert (np.abs(np.bincount(labels[rows], minlength=5) - exact) < 1).all()
    assert np.array_equal(rows, stratified_rows(labels, size, seed=seed))


def test_stratified_rows_never_change_and_give_the_least() -> None:
    labels = np.repeat(np.arange(3), [20, 10, 3])
    assert stratified_rows(labels, 6).tolist() == stratified_rows(labels, 6, seed=0).tolist()
    assert np.bincount(labels[stratified_rows(labels, 3, least=2)]).tolist() == [2, 2, 2]
    assert np.bincount(labels[stratified_rows(labels, 12, least=2)]).tolist() == [7, 3, 2]
    with pytest.raises(ValueError, match="class 'rare' has 3 images; it needs at least 4"):
        stratified_rows(labels, 12, least=3, class_names=("a", "b", "rare"))
    for size in (0, -1, 34):
        with pytest.raises(ValueError, match=f"cannot draw {size} images: there are 33"):
            stratified_rows(labels, size)


@pytest.fixture
def nothing_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache and no Debian package."""
    monkeypatch.setenv("DMPO_EXPLORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("DMPO_EXPLORE_SYSTEM_DATA", str(tmp_path / "datasets"))
    return tmp_path / "cache"


def _no_network(*arguments: Any, **options: Any) -> None:
    raise URLError("no network")


@pytest.mark.parametrize(
    ("name", "kind"), [("fashion-mnist", "FashionMNIST"), ("cifar10", "CIFAR10"), ("flowers102", "Flowers102")]
)
def test_what_is_not_there_says_how_to_get_it(
    name: str, kind: str, nothing_fetched: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torchvision.datasets

    with pytest.raises(FileNotFoundError, match=f"dmpo-explore fetch --data {name}") as error:
        load_images(name, "train")
    assert ("apt-get install dataset-fashion-mnist" in str(error.value)) == (name == "fashion-mnist")
    monkeypatch.setattr(torchvision.datasets, kind, _no_network)
    with pytest.raises(FileNotFoundError, match=f"{name} could not be downloaded into .*no network"):
        fetch_data(name)


def test_a_download_that_brings_other_bytes_is_refused(nothing_fetched: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision.datasets

    def download(root: Path, **options: Any) -> None:
        folder = root / "FashionMNIST" / "raw"
        folder.mkdir(parents=True)
        for name in known.FASHION_FILES:
            (folder / name).write_bytes(b"\0\0\x08\x01\0\0\0\0")

    monkeypatch.setattr(torchvision.datasets, "FashionMNIST", download)
    with pytest.raises(ValueError, match="does not hold Fashion-MNIST"):
        fetch_data("fashion-mnist")


def test_what_a_killed_download_had_half_unpacked_is_fetched_again(
    nothing_fetched: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torchvision.datasets

    raw = {path.stem: gzip.decompress(path.read_bytes()) for path in known.BUNDLED.glob("*.gz")}
    train = {name.replace("t10k", "train"): content for name, content in raw.items()}  # the test images' bytes stand in
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in train.items()}
    monkeypatch.setattr(known, "FASHION_FILES", known.FASHION_FILES | sums)
    place = nothing_fetched / "data" / "FashionMNIST" / "raw"
    place.mkdir(parents=True)
    for name, content in train.items():
        (place / name).write_bytes(content[:1000])

    def download(root: Path, **options: Any) -> None:
        folder = root / "FashionMNIST" / "raw"
        folder.mkdir(parents=True)
        for name, content in train.items():
            (folder / name).write_bytes(content)

    monkeypatch.setattr(torchvision.datasets, "FashionMNIST", download)
    assert fetch_data("fashion-mnist") == place
    assert {path.name: path.read_bytes() for path in place.iterdir()} == train
    assert [path.name for path in place.parent.parent.iterdir()] == ["FashionMNIST"]


def test_fashion_mnist_from_the_callers_folder(nothing_fetched: Path, tmp_path: Path) -> None:
    """Raw or .gz, in torchvision's layout or flat; damage is named."""
    raw = {path.stem: gzip.decompress(path.read_bytes()) for path in known.BUNDLED.glob("*.gz")}
    assert len(raw) == 2
    nested = tmp_path / "root" / "FashionMNIST" / "raw"
    nested.mkdir(parents=True)
    for name, content in raw.items():
        (nested / name).write_bytes(content)
    assert len(load_images("fashion-mnist", "test", root=tmp_path / "root")) == 10_000
    labels = nested / "t10k-labels-idx1-ubyte"
    labels.unlink()
    (nested / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(raw[labels.name])[:-100])
    with pytest.raises(ValueError, match=r"t10k-labels-idx1-ubyte\.gz is damaged"):
        load_images("fashion-mnist", "test", root=tmp_path / "root")


def test_cifar_through_torchvision(nothing_fetched: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision.datasets

    class Fake:
        classes = ("plane", "car")

        def __init__(self, root: Path, train: bool, download: bool) -> None:
            assert root == nothing_fetched / "data"
            self.data = np.full((12_000 if train else 8, 2, 2, 3), int(train), dtype=np.uint8)
            self.targets = [0, 1] * (len(self.data) // 2)

    monkeypatch.setattr(torchvision.datasets, "CIFAR100", Fake)
    train, val, test = (load_images("cifar100", split) for split in ("train", "val", "test"))
    assert (len(train), len(val), len(test)) == (2000, 5000, 8)
    assert np.bincount(val.labels).tolist() == [2500, 2500]
    assert test.class_names == ("plane", "car")
    assert (train[0].max(), test[0].max()) == (1, 0)
    assert fetch_data("cifar100") == nothing_fetched / "data"


def test_flowers_keeps_its_published_splits(tmp_path: Path) -> None:
    from scipy.io import savemat

    folder = tmp_path / "flowers-102"
    (folder / "jpg").mkdir(parents=True)
    savemat(folder / "imagelabels.mat", {"labels": np.array([[5, 1, 102, 5]], dtype=np.uint8)})
    numbers = {"trnid": [[4, 2]], "valid": [[1]], "tstid": [[3]]}
    savemat(folder / "setid.mat", {key: np.array(value, dtype=np.uint16) for key, value in numbers.items()})
    for number in range(1, 5):
        Image.new("RGB", (5, 3), (number * 10, 0, 0)).save(folder / "jpg" / f"image_{number:05d}.jpg", quality=100)
    parts = {split: load_images("flowers102", split, root=tmp_path) for split in ("train", "val", "test")}
    assert {name: part.labels.tolist() for name, part in parts.items()} == {"train": [4, 0], "val": [4], "test": [101]}
    assert abs(int(parts["train"][0][0, 0, 0]) - 40) <= 2
    assert len(parts["val"].class_names) == 102
    assert parts["val"].class_names[0] == "pink primrose"
    whole = (folder / "setid.mat").read_bytes()
    for size in (0, 100, len(whole) - 20):
        (folder / "setid.mat").write_bytes(whole[:size])
        with pytest.raises(ValueError, match="setid.mat is damaged .*; delete it and fetch it again"):
            load_images("flowers102", "train", root=tmp_path)


def test_a_small_folder_says_which_class_is_too_small(tmp_path: Path) -> None:
    for label, count in (("many", 20), ("few", 4)):
        (tmp_path / label).mkdir()
        for i in range(count):
            Image.new("L", (2, 2)).save(tmp_path / label / f"{i}.png")
    with pytest.raises(ValueError, match="class 'few' has 4 images; it needs at least 5 to be divided"):
        load_images(str(tmp_path), "test")


def test_the_digits_are_unpacked_once_and_cannot_be_changed() -> None:
    read = known.DATASETS["digits"].read
    pool = read("train", None)
    assert read("train", None) is pool is not read("test", None)
    with pytest.raises(ValueError, match="read-only"):
        pool.labels[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        pool.pixels[0] = 1  # type: ignore[index]


PLUGIN = """
import numpy as np

from dmpo_explore.data import DATASETS, Pool, Source


def read(split, root):
    labels = np.arange(40 if split == "train" else 8) % 2
    pixels = np.repeat(labels * 255, 64).reshape(-1, 8, 8).astype(np.uint8)
    return Pool(pixels, labels, ("dark", "light"))


DATASETS["shades"] = Source("Shades: 48 images, 2 classes", "CC0", read, lambda root: root)
"""


def test_a_plug_in_brings_a_data_set(tmp_path: Path) -> None:
    (tmp_path / "shades_data.py").write_text(PLUGIN)
    data = DataConfig("shades")
    with plugged(tmp_path / "shades_data.py"):
        assert [len(load_images("shades", split)) for split in ("train", "val", "test")] == [36, 4, 8]
        assert check_data(data).ready and "shades" in OPTIONS["data.name"].names
        assert [need.name for need in Config(data).with_plugins().plugins] == ["shades_data"]
    assert "unknown data 'shades'" in check_data(data).findings[0].text
