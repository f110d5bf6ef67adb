"""Any picture file becomes upright uint8 RGB, whoever sent it; what is none is one line. And ZIP files of images."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from failing import raising
from hypothesis import given
from hypothesis import strategies as st
from image_files import REFUSED, TAKEN, encoded
from picture_kinds import PICTURES, RGB, STRANGE, UNKNOWN
from PIL import Image, features

from _faults import hostile_images
from dmpo_explore.config import DataConfig
from dmpo_explore.data.folders import FolderKind
from dmpo_explore.data.image_files import (
    BAND,
    decode_image,
    find_images,
    image_suffixes,
    open_image,
    read_image,
    to_rgb,
    unpack_images,
)
from dmpo_explore.data.looks import look_at


@pytest.mark.parametrize(("name", "picture", "expected", "near"), PICTURES, ids=[row[0] for row in PICTURES])
@pytest.mark.parametrize("band", [1, 12, BAND])
def test_a_picture_becomes_upright_colours(
    name: str, picture: bytes | Image.Image, expected: Any, near: float, band: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dmpo_explore.data.image_files.BAND", band)
    found = decode_image(picture, name) if isinstance(picture, bytes) else to_rgb(picture)
    assert found.dtype == np.uint8 and found.flags.c_contiguous and found.shape == np.shape(expected)
    assert np.abs(found - np.asarray(expected, float)).max() <= near
    if isinstance(picture, bytes) and name.endswith((".png", ".jpg", ".webp", ".bmp")):
        assert np.array_equal(found, read_image(picture, name))


# -- what is no image, or made to harm: one line; it is refused by its header if it is too large --

LIMITS = "at most 25 megapixels and 20,000 pixels a side are taken, so make it smaller"
HARMFUL = {
    "promised.png": f"has 900,000,000 pixels; {LIMITS}",
    "promised-wide.png": f"has 2,147,483,647 pixels; {LIMITS}",
    "promised-over.png": f"has 5,000 x 5,001 pixels; {LIMITS}",
    "promised-side.png": f"has 1 x 20,001 pixels; {LIMITS}",
    "promised.jpg": f"has 4,290,250,000 pixels; {LIMITS}",
    "promised.ppm": f"has 4,294,836,225 pixels; {LIMITS}",
    "promised.webp": f"has 268,435,456 pixels; {LIMITS}",
    "scans.jpg": "is a progressive JPEG of 305 scans; at most 200 are taken",
    "tiles.tif": f"has tiles of 20,000 x 20,000 pixels; {LIMITS}",
    "program.png": UNKNOWN,  # Pillow would start Ghostscript on it
    "counts.tif": "cannot be read as an image: ",
    "cut.png": "cannot be read as an image: ",
}
DAMAGED = {  # a block of facts that ends early; a decoder that fails in its own way
    **{f"short.{kind}": encoded(RGB, kind, exif=b"Exif\0\0II*\0", dpi=(72, 72)) for kind in ("png", "jpeg", "webp")},
    **({"half.avif": encoded(RGB.resize((32, 32)), "AVIF")[:280] + bytes(900)} if features.check("avif") else {}),
}
UNREADABLE = [
    *((name, hostile_images.QUICK[name](), words) for name, words in HARMFUL.items()),
    *((name, data, "cannot be read as an image: ") for name, data in DAMAGED.items()),
    *((name, data, UNKNOWN) for name, data in {"text.png": b"hello", "empty.png": b""}.items()),
    *STRANGE,
]


@pytest.mark.parametrize(("name", "data", "words"), UNREADABLE, ids=[row[0] for row in UNREADABLE])
def test_what_is_not_read_is_one_line(name: str, data: bytes, words: str, tmp_path: Path) -> None:
    (path := tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=f"^{re.escape(f'{path} {words}')}.*$"):
        open_image(path)
    look = look_at(FolderKind(DataConfig(str(tmp_path))), name)
    assert look.too_large == (LIMITS in words or "scans" in words) and (words in look.problem or look.too_large)
    sent = f"{name} {words}" if words.startswith("has") and path.suffix in (".png", ".jpg") else f"{name} "
    with pytest.raises(ValueError, match=f"^{re.escape(sent)}.*$"):
        read_image(data, name)


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_taken_is_refused_with_the_reason(name: str) -> None:
    data, why = REFUSED[name]
    with pytest.raises(ValueError, match=rf"^{name} .*{why}"):
        read_image(data, name)


@pytest.mark.parametrize(("name", "words"), [("none.png", "no file .*none.png"), (".", "is a folder, not a file")])
def test_what_is_no_file_is_said_to_be_none(name: str, words: str, tmp_path: Path) -> None:
    with pytest.raises((FileNotFoundError, ValueError), match=words):
        open_image(tmp_path / name)


def test_a_warning_of_pillow_names_the_file(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010E], exif[0x0112] = "a description of some length", 6
    content = bytearray(encoded(Image.new("RGB", (4, 2)), "JPEG", exif=exif))
    content[content.index(b"Exif") + 20] = 0xFF  # the description is longer than the file now
    (path := tmp_path / "photo.jpg").write_bytes(content)
    with pytest.warns(UserWarning, match=r"photo\.jpg: (Tag data larger|Truncated File)") as seen:
        shape = open_image(path).shape
    assert len(seen) == 1 and shape in ((4, 2, 3), (2, 4, 3))  # Pillow before 12 drops the orientation, too
    assert read_image(bytes(content), "photo.jpg").shape == shape  # of unknown origin: silent


@given(cut=st.integers(0, 400), at=st.integers(0, 400), byte=st.integers(0, 255), name=st.sampled_from(sorted(TAKEN)))
@pytest.mark.filterwarnings("ignore")  # of Pillow's
def test_damaged_bytes_are_a_picture_or_one_line(cut: int, at: int, byte: int, name: str) -> None:
    data = bytearray(TAKEN[name][: max(1, len(TAKEN[name]) - cut)])
    data[at % len(data)] = byte
    assert hostile_images.run({name: lambda: data})["failed"] == 0


def test_a_hostile_file_becomes_an_image_or_one_line_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = hostile_images.run(hostile_images.QUICK)
    assert counts["decoded"] + counts["refused"] == 2 * len(hostile_images.QUICK) and counts["seconds"] < 2
    monkeypatch.setattr(hostile_images, "open_image", raising(MemoryError))  # anything else is a failure
    assert hostile_images.run({"cut.png": hostile_images.QUICK["cut.png"]})["failed"] == 1


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process's memory is read from /proc")
def test_no_file_takes_more_than_about_300_megabytes(tmp_path: Path) -> None:
    """In a process that only reads: memory that others hold, or that making the files took, would hide what is used.

    `ru_maxrss` would not do: a process inherits the peak of the one that started it. In another order of the files some
    more may be counted, as Pillow keeps blocks of the last one.
    """
    for name, make in (hostile_images.QUICK | hostile_images.SLOW).items():
        (tmp_path / name).write_bytes(make())
    code = """import json, pathlib, sys
from _faults import hostile_images
peak = lambda: int(pathlib.Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024
hostile_images.run({})  # imports what reading needs
before = peak()
counts = hostile_images.run({path.name: path.read_bytes for path in sorted(pathlib.Path(sys.argv[1]).iterdir())})
print(json.dumps(counts | {"peak_mb": peak() - before}))"""
    command = [sys.executable, "-c", code, tmp_path]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2] / "benchmarks", capture_output=True, text=True, check=True
    )
    counts = json.loads(done.stdout)
    assert (
        counts["decoded"] >= 15 and counts["refused"] >= 40 and counts["failed"] == 0 and 100 < counts["peak_mb"] < 320
    )


# -- folders, and ZIP files: unpacked whole or not at all, inside their folder, once --


def test_folders_are_searched_and_files_taken_as_they_are(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpg", "sub/c.webp", "sub/.d.png", ".hidden/e.png", "notes.txt", "folder.png/notes.txt"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).touch()
    found = find_images([tmp_path / "x.txt", tmp_path / "in", str(tmp_path / "x.txt")])
    expected = ["x.txt", "in/a.jpg", "in/b.PNG", "in/sub/c.webp", "x.txt"]
    assert [path.relative_to(tmp_path).as_posix() for path in found] == expected and find_images(found) == found
    with pytest.raises(ValueError, match=r"folder\.png holds no images.*\.png"):
        find_images([tmp_path / "in" / "folder.png"])
    assert image_suffixes() >= {".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm"}
    assert not {".h5", ".mpg", ".eps", ".pdf", ".txt", ".ico", ".dds", ".jp2", ".tga", ""} & image_suffixes()
    assert (".avif" in image_suffixes()) == ("avif" in features.get_supported())


def zipped(*names: str) -> bytes:
    with zipfile.ZipFile(file := io.BytesIO(), "w") as packed:
        for name in names:
            packed.writestr(name, b"an image")
    return file.getvalue()


@pytest.mark.parametrize(
    ("names", "inside"),
    [
        (["../../a/1.png", "/b/2.png", "__MACOSX/c/3.png"], ["a/1.png", "b/2.png"]),
        (["photos/a/1.png", "photos/b/2.png"], ["a/1.png", "b/2.png"]),
        (["photos/1.png", ".DS_Store", "Thumbs.db", "README.txt", ".hidden/x"], ["1.png"]),
        (["a/1.png", "2.png"], ["2.png", "a/1.png"]),
    ],
)
def test_the_folder_around_everything_is_found_and_no_file_leaves_it(
    names: list[str], inside: list[str], cache: Path
) -> None:
    folder = unpack_images(packed := zipped(*names))  # which has the time in it
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png")) == inside
    assert folder.is_relative_to(cache) and not [*cache.parent.glob("*.png")] and unpack_images(packed) == folder


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"no archive", "this is not a ZIP file that can be read"),
        (zipped("a/1.png", "b/2.png")[:-30], "this is not a ZIP file that can be read"),
        (zipped("__MACOSX/1.png"), "this ZIP file is empty"),
        (zipped("a/1.png", "b/2.png"), "this ZIP file unpacks to 0.0 GiB; unpack it yourself"),
    ],
)
def test_what_cannot_be_unpacked_leaves_nothing(
    data: bytes, words: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dmpo_explore.data.image_files.MOST_UNPACKED", 10)
    with pytest.raises(ValueError, match=words):
        unpack_images(data)
    assert not [*cache.rglob("*.png")]
