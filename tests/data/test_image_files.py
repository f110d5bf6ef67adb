"""Any picture file becomes upright uint8 RGB; what is none is named."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from image_files import PIXELS, REFUSED, TAKEN
from PIL import Image, features

from dmpo_explore.data.image_facts import look_at
from dmpo_explore.data.image_files import SENT_FORMATS, find_images, image_suffixes, open_image, read_image

RED, WHITE = [255, 0, 0], [255, 255, 255]


def test_colours_and_greys_come_back(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(256, size=(5, 7, 3), dtype=np.uint8)
    Image.fromarray(colours).save(tmp_path / "rgb.png")
    Image.fromarray(colours[:, :, 0]).save(tmp_path / "grey.png")
    Image.fromarray(colours[:, :, 0] > 127).save(tmp_path / "bits.png")
    picture = open_image(tmp_path / "rgb.png")
    assert picture.dtype == np.uint8 and np.array_equal(picture, colours)
    assert np.array_equal(open_image(str(tmp_path / "grey.png")), np.repeat(colours[:, :, :1], 3, axis=2))
    assert np.array_equal(open_image(tmp_path / "bits.png")[:, :, 1], (colours[:, :, 0] > 127) * np.uint8(255))


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path: Path, suffix: str) -> None:
    values = np.array([[0, 257, 32896, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / f"deep.{suffix}")
    assert open_image(tmp_path / f"deep.{suffix}")[0, :, 0].tolist() == [0, 1, 128, 255]


def test_floats_are_scaled(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0.0, 0.5, 1.0]], np.float32)).save(tmp_path / "unit.tif")
    Image.fromarray(np.array([[0.0, 100.0, 300.0]], np.float32)).save(tmp_path / "bytes.tif")
    assert open_image(tmp_path / "unit.tif")[0, :, 2].tolist() == [0, 128, 255]
    assert open_image(tmp_path / "bytes.tif")[0, :, 2].tolist() == [0, 100, 255]


def test_what_is_transparent_lies_on_white(tmp_path: Path) -> None:
    Image.fromarray(np.array([[[255, 0, 0, 255], [0, 0, 0, 0]]], np.uint8)).save(tmp_path / "rgba.png")
    Image.fromarray(np.array([[[9, 255], [9, 0]]], np.uint8)).save(tmp_path / "la.png")
    palette = Image.fromarray(np.array([[0, 1]], np.uint8)).convert("P")
    palette.putpalette([255, 0, 0, 0, 0, 0])
    palette.save(tmp_path / "palette.png", transparency=1)
    assert open_image(tmp_path / "rgba.png")[0].tolist() == [RED, WHITE]
    assert open_image(tmp_path / "palette.png")[0].tolist() == [RED, WHITE]
    assert open_image(tmp_path / "la.png")[0].tolist() == [[9, 9, 9], WHITE]


def test_cmyk_and_animations(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "print.jpg", quality=95)
    assert np.abs(open_image(tmp_path / "print.jpg").astype(int) - RED).max() < 12
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    assert open_image(tmp_path / "moving.gif")[0, 0].tolist() == RED


def test_the_camera_orientation_is_applied(tmp_path: Path) -> None:
    pixels = np.zeros((2, 3, 3), np.uint8)
    pixels[0, 0] = RED
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(open_image(tmp_path / "turned.png"), np.rot90(pixels, -1))


def test_what_is_no_picture_is_named(tmp_path: Path) -> None:
    whole = tmp_path / "whole.png"
    Image.fromarray(np.random.default_rng(0).integers(256, size=(40, 40, 3), dtype=np.uint8)).save(whole)
    (tmp_path / "cut.png").write_bytes(whole.read_bytes()[:200])
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "empty.png").write_bytes(b"")
    for name in ("cut", "text", "empty"):
        with pytest.raises(ValueError, match=rf"{name}\.png cannot be read as an image: \S"):
            open_image(tmp_path / f"{name}.png")
    with pytest.raises(FileNotFoundError, match="no file .*none.png"):
        open_image(tmp_path / "none.png")
    with pytest.raises(ValueError, match=f"{tmp_path} is a folder, not a file"):
        open_image(tmp_path)


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
