"""Any picture file becomes upright uint8 RGB, whoever sent it; what is none is one line. And ZIP files of images."""

from __future__ import annotations

import io
import json
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
from image_files import PIXELS, REFUSED, TAKEN
from PIL import Image, ImageOps, features

from _faults import hostile_images
from _faults.hostile_images import QUICK, SLOW
from dmpo_explore.data import image_files
from dmpo_explore.data.image_facts import look_at
from dmpo_explore.data.image_files import (
    SENT_FORMATS,
    find_images,
    image_suffixes,
    open_image,
    read_image,
    to_rgb,
    unpack_images,
)

ROOT = Path(__file__).parents[2]
COLOURS = np.random.default_rng(0).integers(0, 256, (7, 5, 3), dtype=np.uint8)
RED, WHITE = [255, 0, 0], [255, 255, 255]
TURNED = Image.Exif()
TURNED[image_files.ORIENTATION] = 6  # by 90 degrees


def greys(*values: int) -> Any:
    return np.repeat(np.array([values], np.uint8)[..., None], 3, axis=2)


def palette() -> Image.Image:
    image = Image.fromarray(np.array([[0, 1]], np.uint8)).convert("P")
    image.putpalette([*RED, 0, 0, 0])
    return image


@pytest.mark.parametrize(
    ("name", "image", "options", "expected"),
    [
        ("rgb.png", Image.fromarray(COLOURS), {}, COLOURS),
        ("grey.png", Image.fromarray(COLOURS[:, :, 0]), {}, np.repeat(COLOURS[:, :, :1], 3, axis=2)),
        ("bits.png", Image.fromarray(np.array([[True, False]])), {}, greys(255, 0)),
        *(
            (
                f"deep.{suffix}",
                Image.fromarray(np.array([[0, 257, 32896, 65535]], np.uint16)),
                {},
                greys(0, 1, 128, 255),
            )
            for suffix in ("png", "tif")
        ),
        ("unit.tif", Image.fromarray(np.array([[0.0, 0.5, 1.0]], np.float32)), {}, greys(0, 128, 255)),
        ("bytes.tif", Image.fromarray(np.array([[0.0, 100.0, 300.0]], np.float32)), {}, greys(0, 100, 255)),
        ("rgba.png", Image.fromarray(np.array([[[*RED, 255], [0] * 4]], np.uint8)), {}, [[RED, WHITE]]),
        ("palette.png", palette(), {"transparency": 1}, [[RED, WHITE]]),
        ("la.png", Image.fromarray(np.array([[[9, 255], [9, 0]]], np.uint8)), {}, greys(9, 255)),
        ("turned.png", Image.fromarray(COLOURS), {"exif": TURNED}, np.rot90(COLOURS, -1)),
        (
            "moving.gif",
            Image.new("RGB", (2, 1), "red"),
            {"save_all": True, "append_images": [Image.new("RGB", (2, 1), "blue")]},
            [[RED, RED]],
        ),
    ],
)
def test_a_file_becomes_upright_colours(
    tmp_path: Path, name: str, image: Image.Image, options: dict[str, Any], expected: Any
) -> None:
    image.save(tmp_path / name, **options)
    found = open_image(str(tmp_path / name))
    assert found.dtype == np.uint8 and np.array_equal(found, expected)


def test_inks_are_colours(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "print.jpg", quality=95)
    assert np.abs(open_image(tmp_path / "print.jpg").astype(int) - RED).max() < 12


@pytest.fixture(params=[1, 12, image_files.BAND])
def _bands(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_files, "BAND", request.param)


@pytest.mark.usefixtures("_bands")
@pytest.mark.parametrize("orientation", [None, *range(10)])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_every_orientation_is_the_one_that_pillow_applies(orientation: int | None, kind: str) -> None:
    exif, file = Image.Exif(), io.BytesIO()
    if orientation is not None:
        exif[image_files.ORIENTATION] = orientation
    Image.fromarray(COLOURS).save(file, kind, exif=exif)
    with Image.open(file) as image, Image.open(io.BytesIO(file.getvalue())) as again:
        found, expected = to_rgb(image), np.asarray(ImageOps.exif_transpose(again))
    assert np.array_equal(found, expected) and found.flags.c_contiguous


@pytest.mark.usefixtures("_bands")
@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr", "LAB", "HSV"])
def test_colours_are_those_of_pillow(mode: str) -> None:
    image = Image.fromarray(COLOURS)
    image = image.convert("L").convert("F").convert("L") if mode == "L" else image
    image = Image.merge(mode, image.split()) if mode in ("LAB", "HSV") else image.convert(mode)
    assert np.array_equal(to_rgb(image), np.asarray(image.convert("RGB")))


@pytest.mark.usefixtures("_bands")
@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "RGBa"])
def test_transparent_areas_become_white(mode: str) -> None:
    alpha = np.arange(35, dtype=np.uint8).reshape(7, 5)[..., None] * 7
    image = Image.fromarray(np.concatenate([COLOURS, alpha], 2))
    image = image.convert("LA").convert("PA") if mode == "PA" else image.convert(mode)
    colours = image.convert("RGBA")
    expected = Image.alpha_composite(Image.new("RGBA", colours.size, "white"), colours).convert("RGB")
    assert np.array_equal(to_rgb(image), np.asarray(expected))


@pytest.mark.usefixtures("_bands")
def test_the_scale_of_floats_is_that_of_the_whole_image() -> None:
    unit = np.zeros((7, 5), np.float32)
    unit[6, 4] = 1.0
    assert to_rgb(Image.fromarray(unit)).max() == 255
    unit[6, 3] = 100.0  # only the last band says that these are values from 0 to 255
    assert to_rgb(Image.fromarray(unit))[6].tolist() == [[0] * 3] * 3 + [[100] * 3, [1] * 3]


def test_folders_are_searched_and_files_taken_as_they_are(tmp_path: Path) -> None:
    names = ["b.PNG", "a.jpg", "sub/c.webp", "sub/.d.png", ".hidden/e.png", "notes.txt"]
    for name in names:
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).touch()
    (tmp_path / "in" / "folder.png").mkdir()
    found = find_images([tmp_path / "x.txt", tmp_path / "in", str(tmp_path / "x.txt")])
    expected = ["x.txt", "in/a.jpg", "in/b.PNG", "in/sub/c.webp", "x.txt"]
    assert [path.relative_to(tmp_path).as_posix() for path in found] == expected
    assert find_images(found) == found
    with pytest.raises(ValueError, match=r"folder\.png holds no images.*\.png"):
        find_images([tmp_path / "in" / "folder.png"])
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in image_suffixes())


def test_every_suffix_is_one_that_pillow_reads() -> None:
    assert {".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm"} <= image_suffixes()
    assert not {".h5", ".mpg", ".eps", ".pdf", ".txt", ""} & image_suffixes()
    assert (".avif" in image_suffixes()) == ("avif" in features.get_supported())


# -- what is no image --


@pytest.mark.parametrize(
    ("name", "content", "error", "words"),
    [
        ("cut.png", QUICK["cut.png"](), ValueError, r"cut\.png cannot be read as an image: \S"),
        ("text.png", b"hello", ValueError, r"text\.png cannot be read as an image: \S"),
        ("empty.png", b"", ValueError, r"empty\.png cannot be read as an image: \S"),
        ("none.png", None, FileNotFoundError, "no file .*none.png"),
        (".", None, ValueError, "is a folder, not a file"),
    ],
)
def test_what_is_no_picture_is_named(
    tmp_path: Path, name: str, content: bytes | None, error: type[Exception], words: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=words):
        open_image(tmp_path / name)


def test_a_warning_of_pillow_names_the_file(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010E], exif[0x0112] = "a description of some length", 6
    path = tmp_path / "photo.jpg"
    Image.new("RGB", (4, 2)).save(path, exif=exif)
    content = bytearray(path.read_bytes())
    content[content.index(b"Exif") + 20] = 0xFF  # the description is longer than the file now
    path.write_bytes(content)
    with pytest.warns(UserWarning, match=r"photo\.jpg: (Tag data larger|Truncated File)") as seen:
        shape = open_image(path).shape
    assert len(seen) == 1
    assert shape in ((4, 2, 3), (2, 4, 3))  # Pillow before 12 drops the orientation with the description
    assert read_image(path.read_bytes(), "photo.jpg").shape == shape  # of unknown origin: silent


def test_an_image_whose_decoder_fails_in_its_own_way_is_named(tmp_path: Path) -> None:
    if not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)).save(stream, "AVIF")
    data = stream.getvalue()
    (tmp_path / "a.avif").write_bytes(data[:280] + bytes(len(data) - 280))
    with pytest.raises(ValueError, match=r"a\.avif cannot be read as an image"):
        open_image(tmp_path / "a.avif")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_short_block_of_facts_about_a_picture_is_one_error(tmp_path: Path, kind: str) -> None:
    options = {"dpi": (72, 72)} if kind == "JPEG" else {}
    Image.new("RGB", (4, 4)).save(tmp_path / f"a.{kind.lower()}", kind, exif=b"Exif\0\0II*\0", **options)
    with pytest.raises(ValueError, match=f"a.{kind.lower()} cannot be read as an image"):
        open_image(tmp_path / f"a.{kind.lower()}")
    assert look_at(tmp_path / f"a.{kind.lower()}").problem


# -- bytes that were sent --


@pytest.mark.parametrize("name", TAKEN)
def test_what_is_sent_becomes_what_its_file_is(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(TAKEN[name])
    picture = read_image(TAKEN[name], name)
    assert picture.dtype == np.uint8 and np.array_equal(picture, open_image(tmp_path / name))
    assert picture.shape == (9, 12, 3)
    grey = np.repeat(PIXELS[..., :1], 3, axis=2)
    exact = {"colour.png": PIXELS, "web.webp": PIXELS, "old.bmp": PIXELS, "deep.png": grey}
    exact["alpha.png"] = 255 - (255 - PIXELS) / 2
    assert np.abs(picture.astype(float) - exact.get(name, picture)).max() <= 1
    assert any(name.endswith(suffix) for suffixes in SENT_FORMATS.values() for suffix in suffixes)


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_taken_is_refused_with_the_reason(name: str) -> None:
    data, why = REFUSED[name]
    with pytest.raises(ValueError, match=rf"^{name} ") as error:
        read_image(data, name)
    assert why in str(error.value)


@given(cut=st.integers(0, 400), at=st.integers(0, 400), byte=st.integers(0, 255), name=st.sampled_from(sorted(TAKEN)))
def test_damaged_bytes_are_a_picture_or_a_value_error(cut: int, at: int, byte: int, name: str) -> None:
    data = bytearray(TAKEN[name][: max(1, len(TAKEN[name]) - cut)])
    data[at % len(data)] = byte
    try:
        picture = read_image(bytes(data), name)
    except ValueError as error:
        assert str(error).startswith(name)
    else:
        assert picture.ndim == 3 and picture.dtype == np.uint8


# -- files that are made to harm: refused by their header, within about 300 MB --

LIMITS = "at most 25 megapixels and 20,000 pixels a side are taken, so make it smaller"
REASONS = {
    "promised.png": f"has 900,000,000 pixels; {LIMITS}",
    "promised-wide.png": f"has 2,147,483,647 pixels; {LIMITS}",
    "promised-over.png": f"has 5,000 x 5,001 pixels; {LIMITS}",
    "promised-side.png": f"has 1 x 20,001 pixels; {LIMITS}",
    "promised.jpg": f"has 4,290,250,000 pixels; {LIMITS}",
    "promised.ppm": f"has 4,294,836,225 pixels; {LIMITS}",
    "promised.webp": "268,435,456 pixels",
    "scans.jpg": "is a progressive JPEG of 305 scans; at most 200 are taken",
    "tiles.tif": f"has tiles of 20,000 x 20,000 pixels; {LIMITS}",
    "program.png": "cannot be read as an image: not an image",
    "counts.tif": "cannot be read as an image: ",
    "cut.png": "cannot be read as an image: ",
}


@pytest.mark.parametrize("name", QUICK)
def test_a_file_becomes_an_image_or_one_line(name: str) -> None:
    counts = hostile_images.run({name: QUICK[name]})
    assert counts["trials"] == counts["decoded"] + counts["refused"] == 2 and not counts["failed"]
    assert counts["seconds"] < 2


@pytest.mark.parametrize("name", REASONS)
def test_the_line_gives_what_was_found_and_the_limit(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(QUICK[name]())
    with pytest.raises(ValueError, match=rf"^{path} ") as error:
        open_image(path)
    assert REASONS[name] in str(error.value)
    if name.endswith(("png", "jpg")) and "has" in REASONS[name]:
        with pytest.raises(ValueError, match=rf"^{name} ") as error:
            read_image(path.read_bytes(), name)
        assert REASONS[name] in str(error.value)


def test_postscript_starts_no_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def popen(*args: object, **options: object) -> None:
        pytest.fail(f"{args} was started")

    monkeypatch.setattr(subprocess, "Popen", popen)
    monkeypatch.setattr(subprocess, "check_call", popen)
    (tmp_path / "photo.jpg").write_bytes(QUICK["program.png"]())
    with pytest.raises(ValueError, match="not an image"):
        open_image(tmp_path / "photo.jpg")


def test_anything_but_an_image_or_one_line_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hostile_images, "open_image", raising(MemoryError))
    assert hostile_images.run({"cut.png": QUICK["cut.png"]})["failed"] == 1


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process's memory is read from /proc")
def test_no_file_takes_more_than_about_300_megabytes(tmp_path: Path) -> None:
    """In a process that only reads: memory that others hold, or that making the files took, would hide what is used.

    `ru_maxrss` would not do: a process inherits the peak of the one that started it.
    """
    for name, make in (QUICK | SLOW).items():
        (tmp_path / name).write_bytes(make())
    code = """import json, pathlib, sys
from _faults import hostile_images
peak = lambda: int(pathlib.Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024
hostile_images.run({})  # imports what reading needs
before = peak()
counts = hostile_images.run({path.name: path.read_bytes for path in pathlib.Path(sys.argv[1]).iterdir()})
print(json.dumps(counts | {"peak_mb": peak() - before}))"""
    command = [sys.executable, "-c", code, tmp_path]
    done = subprocess.run(command, cwd=ROOT / "benchmarks", capture_output=True, text=True, check=True)
    counts = json.loads(done.stdout)
    assert counts["trials"] == 2 * len(QUICK | SLOW) and counts["failed"] == 0
    assert counts["decoded"] >= 15 and counts["refused"] >= 40
    assert 100 < counts["peak_mb"] < 320


# -- ZIP files: unpacked whole or not at all, inside their folder, once --


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


@pytest.mark.usefixtures("cache")
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
    monkeypatch.setattr(image_files, "MOST_UNPACKED", 10)
    with pytest.raises(ValueError, match="unpack it yourself"):
        unpack_images(zipped("a/1.png", "b/2.png"))
    assert not [*cache.rglob("*.png")]
