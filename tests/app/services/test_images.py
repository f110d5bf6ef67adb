"""Images of a page: order and numbers of rows, uploads that are read or refused."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from dmpo_explore_app.services import images
from image_files import REFUSED, TAKEN, encoded
from PIL import Image
from synthetic import make_record

import dmpo_explore as dx


def test_the_order_is_fixed_and_holds_every_row_once() -> None:
    order = images.shuffled(50)
    assert sorted(order.tolist()) == list(range(50)) and order.tolist() == images.shuffled(50).tolist()
    assert order.tolist() != list(range(50))


def test_the_number_of_an_image_is_its_position_in_the_split() -> None:
    record = make_record(4)
    assert images.number_of(record, 2) == (2 if record.meta.indices is None else record.meta.indices[2])
    demo = dx.load_run("demo").record("test")
    assert images.number_of(demo, 5) == (5 if demo.meta.indices is None else demo.meta.indices[5])


@pytest.mark.parametrize("name", TAKEN)
def test_an_upload_keeps_its_size_and_gets_a_small_preview(name: str) -> None:
    upload = images.read_upload(name, TAKEN[name])
    pixels = dx.data.read_image(TAKEN[name], name)
    assert upload.size == (pixels.shape[1], pixels.shape[0]) and upload.name == name
    assert np.array_equal(upload.preview, pixels)


@pytest.mark.parametrize(("size", "shown"), [((3000, 2000), (1400, 933)), ((10, 200), (10, 50)), ((400, 1), (5, 1))])
def test_a_preview_has_the_aspect_and_of_a_line_the_middle(size: tuple[int, int], shown: tuple[int, int]) -> None:
    upload = images.read_upload("any.png", encoded(Image.new("RGB", size, "red"), "PNG"))
    assert upload.size == size and upload.preview.shape == (*shown[::-1], 3) and (upload.preview == [255, 0, 0]).all()


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_image_is_refused(name: str) -> None:
    data, reason = REFUSED[name]
    with pytest.raises(ValueError, match=reason):
        images.read_upload(name, data)


def test_a_chosen_image_shows_its_upload_and_its_name() -> None:
    run = dx.load_run("demo")
    upload = images.read_upload("colour.png", TAKEN["colour.png"])
    chosen, recorded = images.ChosenImage(run, "test", None, upload), images.ChosenImage(run, "test", 3)
    assert chosen.preview_and_size()[0] is upload.preview and chosen.name(run.record("test")) == "colour.png"
    assert recorded.name(run.record("test")).startswith("test image ") and recorded.pixels().shape == (128, 128, 3)
    assert chosen.key != recorded.key and recorded.key == images.ChosenImage(run, "test", 3).key


def test_a_photograph_of_twelve_megapixels_is_edited(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a PNG file it would be larger than an upload may be."""
    photo = np.random.default_rng(0).integers(0, 256, (3000, 4000, 3), np.uint8)
    monkeypatch.setattr(images.thumbnails, "image_set", lambda run, split: [photo])
    image = images.ChosenImage(dx.load_run("demo"), "test", 0)
    make = inspect.unwrap(images._edited)  # what is kept is a session's
    edited = make((image.key, "rotate", 1.0), image)
    assert (edited.pixels() == photo[::-1, ::-1]).all() and edited.preview_and_size()[1] == (4000, 3000)
    assert edited.row is None and edited.key != image.key != make((image.key, "grey", 1.0), image).key
