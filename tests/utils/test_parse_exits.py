"""Exits from text: a number, blocks, or one clear error."""

from __future__ import annotations

import pytest

from dmpo_explore.utils.parse_exits import parse_exits


def test_exits_are_read_from_text() -> None:
    assert (parse_exits("4"), parse_exits("3,6, 9"), parse_exits("12,")) == (4, [3, 6, 9], [12])
    for text in ("four", "3;6", "3,x", ""):
        with pytest.raises(ValueError, match="neither a number nor blocks"):
            parse_exits(text)
