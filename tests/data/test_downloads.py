"""What is read through torchvision, with stand-ins for its data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision.datasets

from dmpo_explore.data.known import DATASETS
from dmpo_explore.data.names import download


def test_cifar_as_arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Fake:
        classes = ("plane", "car")

        def __init__(self, root: Path, train: bool, download: bool) -> None:
            assert root == tmp_path and not download
            self.data = np.full((4, 2, 2, 3), int(train), dtype=np.uint8)
            self.targets = [0, 1, 1, 0]

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", Fake)
    pixels, labels, names, _ = DATASETS["cifar10"].read("train", tmp_path)
    assert np.asarray(pixels).max() == 1 and labels.tolist() == [0, 1, 1, 0] and labels.dtype == np.int64
    assert names == ("plane", "car")


def test_a_download_goes_to_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(torchvision.datasets, "CIFAR10", lambda root, **options: seen.append((root, options)))
    download("cifar10", "CIFAR10", tmp_path, train=True)
    assert seen == [(tmp_path, {"download": True, "train": True})]
