"""A contact sheet: a few small images of every class on one sheet, with the class's name above them.

In: a `DataCheck` with thumbnails. Out: uint8 (H, W, 3), or a PNG file.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..data.check import DataCheck
from ..data.image_facts import THUMBNAIL
from ..utils.files import atomic_file
from ..utils.texts import abbreviated

GAP, LINE, WIDTH, CHARACTER = 4, 18, 1600, 7  # pixels: between images, of a line, of the sheet at most, of a letter


def contact_sheet(check: DataCheck) -> NDArray[np.uint8]:
    """All thumbnails of a check, a block for each class: uint8 (H, W, 3).

    Raises:
        ValueError: there are no thumbnails.
    """
    from PIL import Image, ImageDraw, ImageFont

    blocks = {name: check.thumbnails[name] for name in check.class_names if check.thumbnails.get(name)}
    if not blocks:
        raise ValueError(
            "there are no images for a contact sheet; check with thumbnails=4, or replace the broken images"
        )
    cell = THUMBNAIL + GAP
    wide = max(map(len, blocks.values())) * cell + GAP
    columns = min(len(blocks), max(1, WIDTH // wide))
    high = LINE + cell + GAP
    rows = -(-len(blocks) // columns)
    sheet = Image.new("RGB", (columns * wide, rows * high), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for place, (name, images) in enumerate(blocks.items()):
        left, top = place % columns * wide + GAP, place // columns * high
        pen.text((left, top + 2), abbreviated(name, wide // CHARACTER), "black", font)
        for i, image in enumerate(images):
            drawn = Image.fromarray(image)
            across, down = ((THUMBNAIL - side) // 2 for side in drawn.size)
            sheet.paste(drawn, (left + i * cell + across, top + LINE + down))
    return np.asarray(sheet, np.uint8)


def write_contact_sheet(path: Path, check: DataCheck) -> None:
    """Write `contact_sheet` as a PNG file, whole or not at all; raises as that does, and OSError."""
    from PIL import Image

    drawn = Image.fromarray(contact_sheet(check))
    with atomic_file(path) as temporary:
        drawn.save(temporary, "PNG")
