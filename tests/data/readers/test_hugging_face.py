"""Contents of a data set by position: what a row of a table holds."""

from __future__ import annotations

from pathlib import Path

import pytest
from dmpo_explore.data.readers.hugging_face import TableContent


def test_a_row_without_an_image_is_named() -> None:
    rows = [{"image": {"bytes": b"x"}}, {"image": None}, {"image": {"bytes": None, "path": None}}]
    content = TableContent(rows, "image", ())
    assert content(0) == b"x"
    for row in (1, 2):
        with pytest.raises(ValueError, match=rf"row {row} \(counted from 0\) has no image"):
            content(row)


def test_a_row_reads_files_of_its_data_set_alone(tmp_path: Path) -> None:
    for place in ("own", "far"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "a.png").write_bytes(place.encode())
    (tmp_path / "own" / "link.png").symlink_to(tmp_path / "far" / "a.png")
    rows = [{"image": {"path": str(tmp_path / name)}} for name in ("own/a.png", "own/../far/a.png", "own/link.png")]
    content = TableContent(rows, "image", (tmp_path / "own",))
    assert content(0) == b"own"
    for row in (1, 2):
        with pytest.raises(ValueError, match=rf"row {row} \(counted from 0\) names a file outside its data set"):
            content(row)
