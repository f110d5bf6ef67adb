"""The rule by which the photographs of groceries are grouped and divided, and the files that come out."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

import grocery
from dmpo_explore.data.known import FOLDER, IMAGES, INDEX
from grocery import SHARES, Photograph, deal, difference_hash, grouped, main, make, near_pairs


def heap(seed: int, light: int = 0) -> np.ndarray:
    """A photograph (40, 60, 3) that only its seed makes."""
    coarse = np.random.default_rng(seed).integers(0, 200, (8, 12, 3), np.uint8) + np.uint8(light)
    return np.asarray(Image.fromarray(coarse).resize((60, 40), Image.Resampling.BICUBIC))


@pytest.fixture
def authors(tmp_path: Path) -> Path:
    """A repository in their layout: two classes of 14, 2 and 8 photographs; train's first and last are of one heap."""
    dataset = tmp_path / "repository" / "dataset"
    lines: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for label, name in enumerate(("Red-Beet", "Mango")):
        for part, count in (("train", 14), ("val", 2), ("test", 8)):
            for number in range(1, count + 1):
                file = f"{part}/Kind/{name}/{name}_{number:03d}.jpg"
                (dataset / file).parent.mkdir(parents=True, exist_ok=True)
                again = part == "train" and number == 14
                seed = hash((label, part == "test", part == "val", 1 if again else number)) % 2**32
                Image.fromarray(heap(seed, 5 * again)).save(dataset / file, quality=95)
                lines[part].append(f"{file}, {label}, 0")
    for part, text in lines.items():
        (dataset / f"{part}.txt").write_text("\n".join(text[::-1]) + "\n")
    (dataset / "classes.csv").write_text("Class Name (str),Class ID (int)\nRed-Beet,0\nMango,1\n")
    return dataset.parent


def test_files_of_a_repository(authors: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(authors), "--into", str(tmp_path / "made")]) == 0
    table = [line.split(",") for line in (tmp_path / "made" / INDEX).read_text().splitlines()[1:]]
    assert len(table) == 48 and sum(int(row[2]) for row in table) == (tmp_path / "made" / IMAGES).stat().st_size
    assert [row[:2] for row in table[:2]] == [
        ["Red Beet", f"train/Kind/Red-Beet/Red-Beet_00{number}.jpg"] for number in (1, 2)
    ]
    group = {row[1].rpartition("/")[2]: row[3] for row in table if row[1].startswith("train/")}
    assert group["Mango_001.jpg"] == group["Mango_006.jpg"] == group["Mango_014.jpg"] == group["Mango_013.jpg"]
    assert len({group[f"Mango_{number:03d}.jpg"] for number in (1, 7)} | {group["Red-Beet_001.jpg"]}) == 3
    assert {row[5] for row in table if row[1].startswith("test/")} == {"calibration", "test"}
    printed = capsys.readouterr().out
    assert f"{INDEX}: {(tmp_path / 'made' / INDEX).stat().st_size:,} bytes, SHA-256 " in printed
    make(authors / "dataset", tmp_path / "again")
    for name in (IMAGES, INDEX):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "made" / name).read_bytes()


def test_a_hash_is_near_its_own_photograph_darker_and_smaller_only() -> None:
    one, other = heap(1), heap(2)
    smaller = np.asarray(Image.fromarray(one).resize((45, 30), Image.Resampling.LANCZOS))
    hashes = np.asarray([difference_hash(pixels) for pixels in (one, other, one // 2, smaller)])
    assert hashes.shape == (4, 256) and near_pairs(hashes).tolist() == [[0, 2], [0, 3], [2, 3]]
    flipped = hashes[0].copy()
    flipped[: grocery.NEAR] ^= True
    assert len(near_pairs(np.asarray([hashes[0], flipped]))) == 1
    flipped[grocery.NEAR] ^= True
    assert len(near_pairs(np.asarray([hashes[0], flipped]))) == 0


def test_groups_are_runs_that_pairs_join() -> None:
    photographs = [Photograph(f"{part}/a/a_{i:03d}.jpg", 0) for part in ("train", "val") for i in range(1, 14)]
    assert grouped(photographs, np.zeros((0, 2), np.int64)).tolist() == [
        *[0] * 6, *[1] * 6, 2, *[3] * 6, *[4] * 6, 5
    ]  # fmt: skip
    joined = grouped(photographs, np.asarray([[0, 12], [7, 13], [13, 25]]))
    assert joined.tolist() == [*[0] * 6, *[1] * 6, 0, *[1] * 6, *[2] * 6, 1]


def test_whole_groups_are_dealt_in_the_shares() -> None:
    labels = np.repeat(np.arange(40), 60)
    groups, shops = np.arange(2400) // 6, np.arange(2400) // 30 % 2
    dealt = deal(labels, groups, shops, SHARES)
    assert all(len({*dealt[groups == group]}) == 1 for group in range(400))
    for shop in (0, 1):
        for split, share in SHARES.items():
            assert abs((dealt[shops == shop] == split).mean() - share) < 0.01
    assert all({*dealt[labels == label]} == {*SHARES} for label in range(40))
    few = deal(np.zeros(18, np.int64), np.repeat([0, 1], [6, 12]), np.zeros(18, np.int64), SHARES)
    assert few.tolist() == ["test"] * 6 + ["train"] * 12


@pytest.mark.slow
def test_the_bundled_files_come_out_again(tmp_path: Path) -> None:
    """Needs a copy of the authors' repository at commit fc80ba90, GroceryStoreDataset, in the folder of data."""
    folder = Path(os.environ.get("DMPO_EXPLORE_DATA", "")) / "GroceryStoreDataset"
    if not (folder / "dataset" / "train").is_dir():
        pytest.skip("needs the authors' repository, GroceryStoreDataset, in the folder DMPO_EXPLORE_DATA")
    if not str(features.version("webp")).startswith("1.6."):
        pytest.skip("another libwebp than 1.6 writes other bytes")
    for path in make(folder / "dataset", tmp_path):
        assert path.read_bytes() == (FOLDER / path.name).read_bytes()
