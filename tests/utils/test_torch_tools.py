"""Tools for torch: files read as tensors only, seeds that nobody outside notices, one thread."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from dmpo_explore.utils.torch_tools import load_tensors, one_thread, seeded


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


@pytest.mark.parametrize("gpus", [True, False])
def test_the_same_inside_and_nothing_outside(gpus: bool) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    with seeded(1):
        first = torch.rand(3)
    with pytest.raises(RuntimeError, match="stop"), seeded(1, gpus=gpus):
        assert torch.equal(torch.rand(3), first)
        raise RuntimeError("stop")
    with seeded(2, gpus=gpus):
        assert not torch.equal(torch.rand(3), first)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(("used", "kept"), [(True, [0, 1]), (False, [])])
def test_gpus_in_use_are_kept(monkeypatch: pytest.MonkeyPatch, used: bool, kept: list[int]) -> None:
    asked: list[list[int]] = []
    fork = torch.random.fork_rng

    def noted(devices: list[int]) -> object:
        asked.append(devices)
        return fork(devices=[])

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: used)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.random, "fork_rng", noted)
    monkeypatch.setattr(torch, "manual_seed", lambda seed: None)
    with seeded(1):
        pass
    with seeded(1, gpus=False):
        pass
    assert asked == [kept, []]


@pytest.mark.cuda
def test_a_gpu_goes_on_as_before() -> None:
    torch.cuda.manual_seed_all(7)
    expected = torch.rand(3, device="cuda")
    torch.cuda.manual_seed_all(7)
    with seeded(1):
        torch.rand(3, device="cuda")
    assert torch.equal(torch.rand(3, device="cuda"), expected)


def test_the_number_of_threads_is_given_back_after_an_error() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(KeyError), one_thread():
            assert torch.get_num_threads() == 1
            raise KeyError
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
