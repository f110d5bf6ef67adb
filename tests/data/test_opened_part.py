"""Contents of a data set by position: what a row of a table holds."""

from __future__ import annotations

import pytest

from dmpo_explore.data.opened_part import TableContent


def test_a_row_without_an_image_is_named() -> None:
    rows = [{"image": {"bytes": b"x"}}, {"image": None}, {"image": {"bytes": None, "path": None}}]
    content = TableContent(rows, "image")
    assert content(0) == b"x"
    for row in (1, 2):
        with pytest.raises(ValueError, match=rf"row {row} \(counted from 0\) has no image"):
            content(row)
