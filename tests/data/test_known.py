"""The known data sets: what is read, fetched and verified; those of torchvision by stand-ins, Caltech-101 made up."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torchvision.datasets
from failing import raising
from image_files import fill
from PIL import Image
from plugged import plugged

from dmpo_explore.config import OPTIONS, Config, DataConfig
from dmpo_explore.data import check_data, fetch_data, known, load_images, make_manifest, open_data
from dmpo_explore.data.known import CALTECH_BACKGROUND

PARTS = ("train", "val", "calibration", "test")


@pytest.fixture
def nothing_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache and no Debian package."""
    monkeypatch.setenv("DMPO_EXPLORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("DMPO_EXPLORE_SYSTEM_DATA", str(tmp_path / "datasets"))
    return tmp_path / "cache"


def published() -> dict[str, bytes]:
    """The bundled files of Fashion-MNIST's test images, unpacked."""
    return {path.stem: gzip.decompress(path.read_bytes()) for path in known.BUNDLED.glob("*.gz")}


def written(root: Path, files: dict[str, bytes]) -> Path:
    """Files in torchvision's layout of Fashion-MNIST."""
    folder = root / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize(
    ("name", "kind"), [("fashion-mnist", "FashionMNIST"), ("cifar10", "CIFAR10"), ("flowers102", "Flowers102")]
)
def test_what_is_not_there_says_how_to_get_it(
    name: str, kind: str, nothing_fetched: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FileNotFoundError, match=f"dmpo-explore fetch --data {name}") as error:
        load_images(name, "train")
    assert ("apt-get install dataset-fashion-mnist" in str(error.value)) == (name == "fashion-mnist")
    monkeypatch.setattr(torchvision.datasets, kind, raising(URLError("no network")))
    with pytest.raises(FileNotFoundError, match=f"{name} could not be downloaded into .*no network"):
        fetch_data(name)


def test_a_download_that_brings_other_bytes_is_refused(nothing_fetched: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = dict.fromkeys(known.FASHION_FILES, b"\0\0\x08\x01\0\0\0\0")
    monkeypatch.setattr(torchvision.datasets, "FashionMNIST", lambda root, **options: written(root, other))
    with pytest.raises(ValueError, match="does not hold Fashion-MNIST"):
        fetch_data("fashion-mnist")


def test_what_a_killed_download_had_half_unpacked_is_fetched_again(
    nothing_fetched: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = {
        name.replace("t10k", "train"): content for name, content in published().items()
    }  # the test images' bytes stand in
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in train.items()}
    monkeypatch.setattr(known, "FASHION_FILES", known.FASHION_FILES | sums)
    place = written(nothing_fetched / "data", {name: content[:1000] for name, content in train.items()})
    monkeypatch.setattr(torchvision.datasets, "FashionMNIST", lambda root, **options: written(root, train))
    assert fetch_data("fashion-mnist") == place
    assert {path.name: path.read_bytes() for path in place.iterdir()} == train
    assert [path.name for path in place.parent.parent.iterdir()] == ["FashionMNIST"]


def test_fashion_mnist_from_the_callers_folder(nothing_fetched: Path, tmp_path: Path) -> None:
    """Raw or .gz, in torchvision's layout or flat; damage is named."""
    raw = published()
    assert len(raw) == 2
    nested = written(tmp_path / "root", raw)
    assert len(load_images("fashion-mnist", "test", root=tmp_path / "root")) == 10_000
    labels = nested / "t10k-labels-idx1-ubyte"
    labels.unlink()
    (nested / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(raw[labels.name])[:-100])
    with pytest.raises(ValueError, match=r"t10k-labels-idx1-ubyte\.gz is damaged"):
        load_images("fashion-mnist", "test", root=tmp_path / "root")


def test_cifar_through_torchvision(nothing_fetched: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert train.labels.dtype == np.int64
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


def test_the_digits_are_unpacked_once_and_cannot_be_changed() -> None:
    read = known.DATASETS["digits"].read
    pool = read("train", None)
    assert read("train", None) is pool is not read("test", None)
    with pytest.raises(ValueError, match="read-only"):
        pool.labels[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        pool.pixels[0] = 1  # type: ignore[index]


# -- Caltech-101 --


def test_a_folder_in_its_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "caltech101" / "101_ObjectCategories"
    fill(folder, ("ant", "bass", CALTECH_BACKGROUND), count=20)
    monkeypatch.setenv("DMPO_EXPLORE_DATA", str(tmp_path))
    with pytest.raises(ValueError, match="has 40 images in 2 classes in place of 8,677: it is not whole; delete it"):
        load_images("caltech101", "test")
    monkeypatch.setattr(known, "CALTECH_IMAGES", 40)
    sets = {split: load_images("caltech101", split) for split in PARTS}
    assert {split: np.bincount(images.labels).tolist() for split, images in sets.items()} == {
        "train": [12, 12], "val": [2, 2], "calibration": [2, 2], "test": [4, 4],
    }  # fmt: skip
    assert sets["train"].class_names == ("ant", "bass") and open_data(DataConfig("caltech101")).splits == PARTS
    colours = [tuple(image[0, 0].tolist()) for images in sets.values() for image in images]
    assert len(set(colours)) == 40
    assert fetch_data("caltech101") == folder
    made = make_manifest(DataConfig("caltech101"))
    assert made.data == "caltech101" and "60/10/10/20" in made.rule
    assert made.rows("test")["path"].iloc[0].startswith("caltech101/101_ObjectCategories/ant/")
    monkeypatch.setenv("DMPO_EXPLORE_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match="caltech101 is not in .*DMPO_EXPLORE_DATA or --data-root"):
        load_images("caltech101", "test")


def test_it_is_unpacked_beside_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(name: str, kind: str, root: Path, more: str) -> None:
        fill(root / "caltech101" / "101_ObjectCategories", ("ant",), count=2)
        if stop:
            raise KeyboardInterrupt

    monkeypatch.setattr(known, "download", download)
    stop = True
    with pytest.raises(KeyboardInterrupt):
        fetch_data("caltech101", tmp_path)
    assert not list((tmp_path / "caltech101").iterdir())
    stop = False
    folder = fetch_data("caltech101", tmp_path)
    assert len(list(folder.rglob("*.png"))) == 2 and [*(tmp_path / "caltech101").iterdir()] == [folder]


@pytest.mark.slow
def test_the_real_one() -> None:
    """Without the mark `data`: it is in no registry, so that it may skip in CI."""
    try:
        fetch_data("caltech101")
    except FileNotFoundError as error:
        pytest.skip(f"needs Caltech-101: name its folder in DMPO_EXPLORE_DATA ({error})")
    sets = {split: load_images("caltech101", split) for split in PARTS}
    sizes = {split: len(images) for split, images in sets.items()}
    assert sum(sizes.values()) == 8677 and len(sets["train"].class_names) == 101
    assert abs(sizes["test"] / 8677 - 0.2) < 0.005 and abs(sizes["train"] / 8677 - 0.6) < 0.01
    assert all(np.bincount(images.labels, minlength=101).min() >= 2 for images in sets.values())
    assert sets["test"][0].ndim == 3


# -- of a plug-in --

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
