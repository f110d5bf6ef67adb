"""Tokens of the frozen trunk, kept on disk: one forward pass, after which heads train without the trunk.

In: a config. Out: per split, ``SIZE-SPLIT-bBLOCK.npy`` (n, N, D) float16 and ``SIZE-SPLIT-labels.npy``. What is there
already is not made again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

import dmpo_explore as dx
from dmpo_explore.data.images import images_of
from dmpo_explore.data.torch_loaders import make_loader
from dmpo_explore.utils.files import atomic_file


def read_tokens(folder: Path, config: dx.Config, part: str, block: int) -> Tensor:
    """(n, N, D) float16 behind a block."""
    return torch.from_numpy(np.load(folder / f"{_images(config, part)}-b{block}.npy"))


def read_labels(folder: Path, config: dx.Config, part: str) -> npt.NDArray[np.int64]:
    """(n,) labels."""
    labels: npt.NDArray[np.int64] = np.load(folder / f"{_images(config, part)}-labels.npy")
    return labels


def cache_tokens(folder: Path, config: dx.Config, blocks: Sequence[int], parts: Sequence[str]) -> None:
    """Write the tokens behind ``blocks`` that are missing."""
    names = {part: [folder / f"{_images(config, part)}-b{block}.npy" for block in blocks] for part in parts}
    missing = [part for part in parts if not all(name.is_file() for name in names[part])]
    if not missing:
        return
    folder.mkdir(parents=True, exist_ok=True)
    plain = replace(config.model.untuned(), exits=tuple(blocks), bypass="none", predictor="linear", merge=0)
    for part in missing:
        images = images_of(config.data, part)
        model = dx.build_model(plain, len(images.class_names)).eval()
        found: list[list[npt.NDArray[np.float16]]] = [[] for _ in blocks]
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
            for batch, _ in make_loader(images, model.preprocess, batch_size=50):
                for output in model.walk(batch):
                    found[output.k].append(output.state.half().numpy())
        for name, arrays in zip(names[part], found, strict=True):
            _save(name, np.concatenate(arrays))
        _save(folder / f"{_images(config, part)}-labels.npy", images.labels)


def _images(config: dx.Config, part: str) -> str:
    """A name for the images of a part: by their size, and by what draws those of train."""
    drawn = f"{config.data.train_size}-s{config.data.seed}" if part == "train" else "all"
    return f"{config.model.image_size}-{drawn}-{part}"


def _save(path: Path, array: npt.NDArray[np.float16] | npt.NDArray[np.int64]) -> None:
    with atomic_file(path) as temporary, temporary.open("wb") as stream:
        np.save(stream, array)
