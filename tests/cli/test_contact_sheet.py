"""Contact sheets: a block for every class, whatever the shape of its images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from image_files import draw
from PIL import Image

from dmpo_explore.cli.contact_sheet import contact_sheet, write_contact_sheet
from dmpo_explore.config import DataConfig
from dmpo_explore.data.check import check_data


def test_a_sheet_shows_every_class_in_its_colours(tmp_path: Path) -> None:
    for name, colour in (("red", (200, 0, 0)), ("long name of a class " * 9, (0, 0, 200)), ("猫", (0, 200, 0))):
        for i in range(5):
            draw(path := tmp_path / "own" / name / f"{i}.png", 300 + i, 40)
            Image.new("RGB", (300 + i, 40), colour).save(path)
    found = check_data(DataConfig(str(tmp_path / "own")), thumbnails=4)
    sheet = contact_sheet(found)
    assert sheet.shape == (122, 3 * 404, 3)
    for colour in ((200, 0, 0), (0, 0, 200), (0, 200, 0)):  # 4 images of 96 x 13
        assert abs(int((sheet == colour).all(axis=2).sum()) - 4 * 96 * 13) < 400
    write_contact_sheet(tmp_path / "sheet.png", found)
    with Image.open(tmp_path / "sheet.png") as written:
        assert np.array_equal(np.asarray(written), sheet)
    with pytest.raises(ValueError, match="no images for a contact sheet"):
        contact_sheet(check_data(DataConfig("digits"), quick=True))
