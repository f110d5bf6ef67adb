"""Tar shards read by position: samples as timm streams them, and what is wrong with a shard."""

from __future__ import annotations

import gc
import json
import tarfile
import warnings
from pathlib import Path

import numpy as np
import pytest
from image_files import add, coloured_file, shard, split_shards, two_shards
from timm.data import create_dataset

from dmpo_explore.data.image_set import decode_image
from dmpo_explore.data.readers.tar_shards import read_samples, shards_of


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


def test_parts_by_name_by_folder_and_by_info(tmp_path: Path) -> None:
    split_shards(tmp_path / "names")
    assert [*shards_of(tmp_path / "names")] == ["test", "train", "val"]
    shard(tmp_path / "folders" / "train" / "0.tar", 0, 2)
    shard(tmp_path / "folders" / "valid" / "0.tar", 2, 2)
    assert shards_of(tmp_path / "folders") == {"train": ["train/0.tar"], "valid": ["valid/0.tar"]}
    two_shards(tmp_path / "info", 2)
    about = {"splits": {"train": {"filenames": ["images-1.tar"], "shard_lengths": [2], "num_samples": 2, "name": "t"}}}
    (tmp_path / "info" / "_info.json").write_text(json.dumps(about))
    assert shards_of(tmp_path / "info") == {"train": ["images-1.tar"]}
    (tmp_path / "info" / "_info.json").write_text("[]")
    with pytest.raises(ValueError, match="_info.json does not list splits"):
        shards_of(tmp_path / "info")
    shard(tmp_path / "names" / "more-0.tar", 90, 1)
    shard(tmp_path / "two" / "training-data-val-0.tar", 0, 2)
    with pytest.raises(ValueError, match="training-data-val-0.tar names the splits training and val; rename it"):
        shards_of(tmp_path / "two")
    with pytest.raises(ValueError, match="more-0.tar names no split, test-0000.tar does"):
        shards_of(tmp_path / "names")
    with pytest.raises(FileNotFoundError, match="no folder .*nowhere of tar shards"):
        shards_of(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="holds no tar shards"):
        shards_of(tmp_path / "empty")


def test_classes_in_json_and_named_images(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        add(archive, "x/1.left.png", coloured_file(1))
        add(archive, "x/1.json", b'{"kind": 3}')
        add(archive, "x/.hidden", b"")
    (sample,) = read_samples(tmp_path, ["a.tar"], image_key="left.png", label_key="kind")
    assert sample.label == 3 and sample.image.name == "x/1.left.png"
    with pytest.raises(ValueError, match=r"a.tar: sample 'x/1' has no image \(jpg, png, webp\), only left.png, json"):
        read_samples(tmp_path, ["a.tar"])
    with pytest.raises(ValueError, match=r"has no .cls with its class, only left.png, json; see --label-key"):
        read_samples(tmp_path, ["a.tar"], image_key="left.png")
    with pytest.raises(ValueError, match=r"its .json gives no class as a whole number \(KeyError\('sort'\)\)"):
        read_samples(tmp_path, ["a.tar"], image_key="left.png", label_key="sort")


def test_a_broken_shard_is_named(tmp_path: Path) -> None:
    path = shard(tmp_path / "a.tar", 0, 3)
    samples = read_samples(tmp_path, ["a.tar"])
    whole = path.read_bytes()
    path.write_bytes(whole[: samples[1].image.offset + 5])
    with pytest.raises(ValueError, match=r"a.tar is cut short in 0001.png"):
        samples[1].image.read()
    path.write_bytes(b"no tar" * 200)
    with pytest.raises(ValueError, match=r"a.tar is not an uncompressed tar file"):
        read_samples(tmp_path, ["a.tar"])
    with pytest.raises(FileNotFoundError, match=r"no file .*b.tar"):
        read_samples(tmp_path, ["b.tar"])


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
