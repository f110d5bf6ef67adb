"""Data sets that torchvision downloads and reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torchvision import datasets

from ..utils.typing import Ints


def download(kind: str, folder: Path, **options: bool) -> None:
    """Download torchvision's data set ``kind`` into ``folder``; raises OSError or RuntimeError as torchvision does."""
    getattr(datasets, kind)(folder, download=True, **options)


def read_cifar(kind: str, folder: Path, *, train: bool) -> tuple[NDArray[np.uint8], Ints, tuple[str, ...]]:
    """CIFAR's pixels (n, 32, 32, 3), labels (n,) and class names; RuntimeError where the files are not in ``folder``.

    torchvision checks the MD5 of each file before it unpickles it.
    """
    data = getattr(datasets, kind)(folder, train=train, download=False)
    return data.data, np.asarray(data.targets, dtype=np.int64), tuple(data.classes)


def flower_names() -> tuple[str, ...]:
    """Names of the 102 classes of Flowers-102."""
    return tuple(datasets.Flowers102.classes)
