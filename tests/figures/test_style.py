"""Style: exit colours darken, palettes repeat after their end, images become PNG addresses."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from dmpo_explore.figures.style import (
    MODEL_COLOURS,
    dash,
    exit_colours,
    image_address,
    model_colour,
    model_line,
    symbol,
    translucent,
)


@pytest.mark.parametrize("n_exits", [1, 2, 12])
def test_exit_colours_darken(n_exits: int) -> None:
    colours = exit_colours(n_exits)
    light = [np.dot([int(v) for v in re.findall(r"\d+", colour)], [0.2126, 0.7152, 0.0722]) for colour in colours]
    assert len(set(colours)) == n_exits
    assert light == sorted(light, reverse=True)


def test_palettes_repeat_after_their_end() -> None:
    n = len(MODEL_COLOURS)
    assert [model_colour(i) for i in range(n)] == list(MODEL_COLOURS)
    assert (model_colour(n), dash(6), symbol(6)) == (model_colour(0), dash(0), symbol(0))
    looks = {(model_colour(i), dash(i), symbol(i)) for i in range(6 * n)}
    assert len(looks) == 6 * n  # a colour that comes again has another dash
    assert model_line(1, 2) == {"color": MODEL_COLOURS[1], "dash": dash(1), "width": 2}
    assert translucent("#0072B2") == "rgba(0,114,178,0.18)"


def test_an_image_is_enlarged_without_smoothing() -> None:
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    shown = Image.open(io.BytesIO(base64.b64decode(image_address(pixels, 3).split(",")[1])))
    np.testing.assert_array_equal(np.asarray(shown)[::3, ::3], pixels)
    assert shown.size == (6, 6)
