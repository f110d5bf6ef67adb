"""Files of PyTorch read as tensors only."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from dmpo_explore.utils.torch_tools import load_tensors


class Code:
    """A pickle that makes a folder when it is loaded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def test_an_error_is_one_line_of_ours(tmp_path: Path) -> None:
    """torch's own error advises to load with ``weights_only=False``, which would run the code."""
    path = tmp_path / "bad.pth"
    torch.save({"x": torch.ones(3), "y": Code(tmp_path / "boom")}, path)
    packed = path.read_bytes()
    for content in (
        packed,
        packed[: len(packed) // 2],
        pickle.dumps(Code(tmp_path / "boom")),
        b"",
        b"no file of torch",
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"^bad\.pth cannot be read: truncated, .* which is never run$") as caught:
            load_tensors(path, "bad.pth cannot be read")
        assert "weights_only" not in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "boom").exists()
    with pytest.raises(FileNotFoundError):
        load_tensors(tmp_path / "none.pth", "none.pth cannot be read")
