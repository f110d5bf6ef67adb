"""ZIP files of images: unpacked whole or not at all, inside their folder, once."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

from dmpo_explore.data import image_files as archive
from dmpo_explore.data.image_files import unpack_images

pytestmark = pytest.mark.usefixtures("cache")


def zipped(*names: str) -> bytes:
    with zipfile.ZipFile(file := io.BytesIO(), "w") as packed:
        for name in names:
            packed.writestr(name, b"an image")
    return file.getvalue()


def test_no_file_leaves_its_folder(cache: Path) -> None:
    packed = zipped("../../a/1.png", "/b/2.png", "__MACOSX/c/3.png")  # which has the time in it
    folder = unpack_images(packed)
    assert sorted(path.name for path in folder.rglob("*.png")) == ["1.png", "2.png"]
    assert folder.is_relative_to(cache) and not [*cache.parent.glob("*.png")]
    assert unpack_images(packed) == folder


def test_a_folder_around_everything_is_skipped_and_one_beside_images_is_not() -> None:
    assert unpack_images(zipped("photos/a/1.png", "photos/b/2.png")).name == "photos"
    stray = ".DS_Store", "Thumbs.db", "README.txt", ".hidden/x"
    assert unpack_images(zipped("photos/a/1.png", "photos/b/2.png", *stray)).name == "photos"
    for names in (("a/1.png", "b/2.png"), ("a/1.png", "2.png")):
        assert (unpack_images(zipped(*names)) / "a" / "1.png").is_file()


@pytest.mark.parametrize("damage", [b"no archive", zipped(), zipped("a/1.png", "b/2.png")[:-30]])
def test_what_cannot_be_unpacked_leaves_nothing(cache: Path, damage: bytes) -> None:
    with pytest.raises(ValueError, match="ZIP file"):
        unpack_images(damage)
    assert not [*cache.rglob("*.png")]


def test_a_large_one_is_refused_before_it_is_unpacked(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MOST_UNPACKED", 10)
    with pytest.raises(ValueError, match="unpack it yourself"):
        unpack_images(zipped("a/1.png", "b/2.png"))
    assert not [*cache.rglob("*.png")]
