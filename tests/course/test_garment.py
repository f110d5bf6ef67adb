"""Photographs in the looks of Fashion-MNIST: light on black, cut to the piece, whatever the background's brightness."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

import dmpo_explore as dx
from dmpo_explore.course.garment import drawn, like_fashion_mnist, uploaded


def test_a_dark_piece_on_white_becomes_light_on_black_and_fills_the_image() -> None:
    small = like_fashion_mnist(drawn("T-shirt"))
    assert small.shape == (28, 28, 3) and small.dtype == np.uint8
    assert small.max() > 200 and small[0, 0, 0] == small[-1, 0, 0] == 0
    assert (small > 100).any(axis=(1, 2)).sum() >= 24  # from top to bottom
    assert np.array_equal(small[..., 0], small[..., 2])


def test_both_backgrounds_give_the_same_image() -> None:
    photo = drawn("T-shirt")
    np.testing.assert_allclose(like_fashion_mnist(photo).astype(int), like_fashion_mnist(255 - photo), atol=2)


def test_where_the_piece_lies_and_how_large_it_is_does_not_matter() -> None:
    photo = drawn("wheel")
    moved = np.pad(photo, ((200, 10), (90, 40), (0, 0)), constant_values=255)
    assert np.abs(like_fashion_mnist(photo).astype(int) - like_fashion_mnist(moved)).mean() < 8


def test_an_even_image_is_black_and_another_shape_is_refused() -> None:
    assert not like_fashion_mnist(np.full((9, 5, 3), 90, np.uint8)).any()
    with pytest.raises(ValueError, match=r"an image is \(H, W, 3\), not \(9, 5\)"):
        like_fashion_mnist(np.zeros((9, 5), np.uint8))


def test_an_enlarged_image_of_the_data_set_stays_like_itself() -> None:
    images = dx.load_run("fashion").image_set("test")
    first = np.stack([images[i] for i in range(100)]).reshape(100, -1)
    for i in (0, 2, 3):
        small = like_fashion_mnist(np.asarray(Image.fromarray(images[i]).resize((280, 280))))
        likeness = np.corrcoef(small.ravel(), first)[0, 1:]
        assert likeness[i] > 0.7 and likeness[i] > np.quantile(likeness, 0.9)


def test_an_uploaded_file_is_read_upright_and_nothing_is_the_drawing() -> None:
    out, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    Image.new("RGB", (4, 2), "red").save(out, "JPEG", exif=exif)
    assert uploaded([{"content": memoryview(out.getvalue())}], "wheel").shape == (4, 2, 3)
    assert np.array_equal(uploaded([], "wheel"), drawn("wheel"))
    with pytest.raises(ValueError, match="no drawing of 'cat'"):
        drawn("cat")
