"""`torch_state` reads tensors only, from every kind of weights file, and names what is broken."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from dmpo_explore.pretrained.weights import SUFFIXES, WeightsFile

TENSORS = {"a.weight": torch.arange(6.0).view(2, 3), "a.bias": torch.ones(2)}


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt", ".bin"])
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
def test_reading_gives_the_tensors(tmp_path: Path, suffix: str, wrapper: str | None) -> None:
    path = tmp_path / f"w{suffix}"
    if suffix == ".safetensors":
        save_file(TENSORS, path)
    else:
        torch.save({wrapper: OrderedDict(TENSORS), "epoch": 3} if wrapper else TENSORS, path)
    read = WeightsFile(path, "test").read()
    assert read.keys() == TENSORS.keys()
    assert all(torch.equal(read[key], TENSORS[key]) for key in TENSORS)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_truncated_files_are_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"w{suffix}"
    save_file(TENSORS, path) if suffix == ".safetensors" else torch.save(TENSORS, path)
    whole = path.read_bytes()
    for keep in (0, 5, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:keep])
        with pytest.raises(ValueError, match="truncated"):
            WeightsFile(path, "test").read()


class Bomb:
    """Runs code where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise SystemExit('the pickle ran')",))


def test_a_pickle_in_disguise_does_not_run(tmp_path: Path) -> None:
    for suffix in SUFFIXES:
        path = tmp_path / f"bomb{suffix}"
        path.write_bytes(pickle.dumps({"a": Bomb()}))
        with pytest.raises(ValueError, match=f"bomb{suffix}"):
            WeightsFile(path, "test").read()
    torch.save({"state_dict": Bomb()}, tmp_path / "zip.pth")
    with pytest.raises(ValueError, match="a pickle with code in it"):
        WeightsFile(tmp_path / "zip.pth", "test").read()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.ones(1)], "no tensors by name but list"),
        ({}, "no tensors by name"),
        ({"w": torch.ones(1), "epoch": 3}, "something else than tensors under 'epoch'"),
        ({1: torch.ones(1)}, "something else than tensors under 1"),
    ],
)
def test_files_without_a_state_dict(tmp_path: Path, content: Any, message: str) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=message):
        WeightsFile(tmp_path / "w.pth", "test").read()


def test_other_suffixes_and_no_file(tmp_path: Path) -> None:
    (tmp_path / "w.onnx").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"must end in one of \.safetensors, \.pth"):
        WeightsFile(tmp_path / "w.onnx", "test").read()
    with pytest.raises(FileNotFoundError, match=r"no weights file .*none\.pth"):
        WeightsFile(tmp_path / "none.pth", "test").read()
