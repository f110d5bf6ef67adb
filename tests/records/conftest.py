"""The folder of a small record."""

from __future__ import annotations

from pathlib import Path

import pytest
from synthetic import make_record


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_record(8, 3, 5).save(tmp_path / "val")
    return tmp_path / "val"
