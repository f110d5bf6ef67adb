"""Tar shards read by position: samples as timm streams them, and what is wrong with a shard."""

from __future__ import annotations

import gc
import json
import tarfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dmpo_explore.data.readers.tar_shards import read_samples, shards_of
from image_files import add, coloured_file, shard, split_shards, two_shards
from timm.data import create_dataset

from dmpo_explore.data.image_set import decode_image


def test_samples_are_those_that_timm_streams(tmp_path: Path) -> None:
    two_shards(tmp_path, 5)
    shards = shards_of(tmp_path)
    assert shards == {"train": ["images-0.tar", "images-1.tar"]}
    samples = read_samples(tmp_path, shards["train"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # webdataset leaves closing the shards to the collector
        streamed = list(create_dataset(f"wds/{tmp_path}", root=str(tmp_path), split="images-0.tar::images-1.tar|10"))
        gc.collect()
    assert len(samples) == len(streamed) == 10
    for sample, (image, target) in zip(samples, streamed, strict=True):
        assert sample.label == target
        assert np.array_equal(decode_image(sample.image.read(), "x"), np.asarray(image))


def info(folder: Path, **about: Any) -> Path:
    """`folder` with a list of its shards."""
    folder.mkdir(exist_ok=True)
    (folder / "_info.json").write_text(json.dumps({"splits": {"train": about}}))
    return folder


def test_parts_by_name_by_folder_and_by_info(tmp_path: Path) -> None:
    assert [*shards_of(split_shards(tmp_path / "names"))] == ["test", "train", "val"]
    shard(tmp_path / "folders" / "train" / "0.tar", 0, 2)
    shard(tmp_path / "folders" / "valid" / "0.tar", 2, 2)
    assert shards_of(tmp_path / "folders") == {"train": ["train/0.tar"], "valid": ["valid/0.tar"]}
    about = {"filenames": ["images-1.tar"], "shard_lengths": [2], "num_samples": 2, "name": "t"}
    assert shards_of(info(two_shards(tmp_path / "info", 2), **about)) == {"train": ["images-1.tar"]}


def named(root: Path, *names: str) -> None:
    for name in names:
        shard(root / name, 0, 2)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda root: (root / "_info.json").write_text("[]"), ValueError, "_info.json does not list splits"),
        (
            lambda root: named(root, "training-data-val-0.tar"),
            ValueError,
            "names the splits training and val; rename",
        ),
        (
            lambda root: named(root, "test-0.tar", "more-0.tar"),
            ValueError,
            "more-0.tar names no split, test-0",
        ),
        (lambda root: None, FileNotFoundError, "holds no tar shards"),
        (Path.rmdir, FileNotFoundError, "no folder .* of tar shards"),
    ],
)
def test_shards_without_clear_parts_are_named(
    tmp_path: Path, make: Callable[[Path], object], error: type[Exception], words: str
) -> None:
    (tmp_path / "shards").mkdir()
    make(tmp_path / "shards")
    with pytest.raises(error, match=words):
        shards_of(tmp_path / "shards")


def described(root: Path) -> None:
    """A sample with an image of a name of its own, and its class in a JSON file."""
    with tarfile.open(root / "a.tar", "w") as archive:
        add(archive, "x/1.left.png", coloured_file(1))
        add(archive, "x/1.json", b'{"kind": 3}')
        add(archive, "x/.hidden", b"")


def test_classes_in_json_and_named_images(tmp_path: Path) -> None:
    described(tmp_path)
    (sample,) = read_samples(tmp_path, ["a.tar"], image_key="left.png", label_key="kind")
    assert sample.label == 3 and sample.image.name == "x/1.left.png"


def twice(order: tuple[int, ...]) -> Callable[[Path], None]:
    """Two samples of one key, one behind the other or not."""

    def make(root: Path) -> None:
        with tarfile.open(root / "a.tar", "w") as archive:
            for i in order:
                add(archive, f"{i:04d}.png", coloured_file(i))
                add(archive, f"{i:04d}.cls", b"0")

    return make


KEY_ERROR = r"its .json gives no class as a whole number \(KeyError\('sort'\)\)"


@pytest.mark.parametrize(
    ("make", "keys", "error", "words"),
    [
        (described, {}, ValueError, r"a.tar: sample 'x/1' has no image \(jpg, png, webp\), only left.png, json"),
        (described, {"image_key": "left.png"}, ValueError, r"no .cls with its class, only left.png, json; see --label"),
        (described, {"image_key": "left.png", "label_key": "sort"}, ValueError, KEY_ERROR),
        (twice((0, 0, 1)), {}, ValueError, r"a\.tar holds two samples of the key '0000'; rename one"),
        (twice((0, 1, 0)), {}, ValueError, r"a\.tar holds two samples of the key '0000'; rename one"),
        (lambda root: (root / "a.tar").write_bytes(b"no tar" * 200), {}, ValueError, "is not an uncompressed tar file"),
        (lambda root: None, {}, FileNotFoundError, r"no file .*a.tar"),
    ],
)
def test_a_bad_shard_is_named(
    tmp_path: Path, make: Callable[[Path], object], keys: dict[str, str], error: type[Exception], words: str
) -> None:
    make(tmp_path)
    with pytest.raises(error, match=words):
        read_samples(tmp_path, ["a.tar"], **keys)


def test_a_shard_that_was_cut_since_is_named(tmp_path: Path) -> None:
    path = shard(tmp_path / "a.tar", 0, 3)
    samples = read_samples(tmp_path, ["a.tar"])
    path.write_bytes(path.read_bytes()[: samples[1].image.offset + 5])
    with pytest.raises(ValueError, match=r"a.tar is cut short in 0001.png"):
        samples[1].image.read()


def test_a_shard_that_ends_early_is_not_a_smaller_one(tmp_path: Path) -> None:
    """tarfile takes a damaged header, and an end between two files, for the end of the archive."""
    path = shard(tmp_path / "a.tar", 0, 3)
    samples, whole = read_samples(tmp_path, ["a.tar"]), path.read_bytes()
    header = samples[1].image.offset - tarfile.BLOCKSIZE
    damaged = whole[:header] + bytes([whole[header] ^ 1]) + whole[header + 1 :]
    for content in (damaged, whole[:header], whole[: header + 100]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"a.tar is (damaged or cut short behind|not an uncompressed)"):
            read_samples(tmp_path, ["a.tar"])
