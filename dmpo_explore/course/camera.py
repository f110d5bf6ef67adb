"""The checkout camera: photographs of groceries and the frozen backbone's tokens of them, computed once.

In: the bundled photographs and the backbone in the user's cache. Out: `Camera`, whose splits hold tokens behind
`BLOCKS`, so that a part on top of them trains in seconds. They are normalised and reduced to the `WIDTH` directions in
which the training images vary most, each with the same spread, and kept in the user's cache as float16, under the hash
of the backbone's weights, the images and the sizes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import torch
from filelock import FileLock
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

import dmpo_explore as dx

from ..data.splits import stratified_rows
from ..utils.files import atomic_file, cache_dir, sha256

BACKBONE, SIZE, BLOCKS = "vit_small_patch14_dinov2", 70, (2, 3, 4, 6)
IMAGES = {"train": 1200, "val": 600, "calibration": 600, "test": 800}  # drawn once, in proportion to the classes
WIDTH, GRID = 128, (SIZE // 14, SIZE // 14)
CONFIG = dx.ModelConfig(
    BACKBONE, image_size=SIZE, exits=BLOCKS, tuning="none", bypass="none", predictor="linear", read="mean"
)


class Reduce(nn.Module):
    """LayerNorm, then the directions of largest variance, each divided by its spread: (…, D) → (…, `WIDTH`)."""

    def __init__(self, width: int = 384) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("directions", torch.zeros(width, WIDTH))

    def fit(self, tokens: Tensor) -> Reduce:
        """Of tokens (B, N, D) whose first is a class token."""
        x = F.layer_norm(tokens[:, 1:], tokens.shape[-1:]).flatten(0, 1)
        self.mean = x.mean(dim=0)
        values, vectors = torch.linalg.eigh((x - self.mean).T @ (x - self.mean) / len(x))  # rising
        self.directions = vectors[:, -WIDTH:].flip(1) / values[-WIDTH:].flip(0).sqrt()
        return self

    def forward(self, x: Tensor) -> Tensor:
        """(…, D) → (…, `WIDTH`)."""
        reduced: Tensor = (F.layer_norm(x, x.shape[-1:]) - self.mean) @ self.directions
        return reduced


@dataclass(frozen=True)
class Part:
    """One split of the camera's images.

    Args:
        tokens: (K, B, N, `WIDTH`) float16, behind `BLOCKS`; the class token first, then the patches row by row.
        labels: (B,).
        images: the photographs, uint8 (H, W, 3) each.
    """

    tokens: Tensor
    labels: Tensor
    images: dx.data.ImageSet


class Camera:
    """Photographs of 81 kinds of groceries, and what the frozen backbone makes of them.

    Attributes:
        train, val, calibration, test: `Part`; val chooses, calibration fits thresholds, test is read last.
        names: of the classes.
        reduce: K times `Reduce`, fitted on the training images.

    Example:
        >>> IMAGES  # in each split
        {'train': 1200, 'val': 600, 'calibration': 600, 'test': 800}
        >>> len(Camera().names)  # doctest: +SKIP
        81
    """

    def __init__(self) -> None:
        data = dx.data.open_data(dx.DataConfig("grocery"))
        whole = {split: data.images(split) for split in IMAGES}
        rows = {split: stratified_rows(of.labels, min(IMAGES[split], len(of))) for split, of in whole.items()}
        self.images = {split: of.subset(rows[split]) for split, of in whole.items()}
        self.names = list(whole["val"].class_names)
        stored = self._stored()
        parts = (Part(stored.pop(split), torch.tensor(of.labels).long(), of) for split, of in self.images.items())
        self.train, self.val, self.calibration, self.test = parts
        self.reduce = nn.ModuleList(Reduce() for _ in BLOCKS)
        self.reduce.load_state_dict(stored)

    @cached_property
    def backbone(self) -> dx.DMPO:
        """The frozen backbone, cut into stages that end at `BLOCKS`; its exits are not trained."""
        return dx.build_model(CONFIG, len(self.names)).eval().requires_grad_(False)

    def inputs(self, split: str, rows: Iterable[int]) -> Tensor:
        """Photographs of a split as the backbone takes them, (B, 3, S, S)."""
        prepare = dx.data.make_transform(self.backbone.preprocess)
        return torch.stack([prepare(self.images[split][int(row)]) for row in rows])

    def look(self, images: Tensor, exits: int | None = None) -> Tensor:
        """Tokens of `inputs`, as they are stored of all: (B, 3, S, S) → (K, B, N, `WIDTH`), or of the first exits."""
        walk = zip(self.reduce[:exits], self.backbone.walk(images), strict=False)  # no block behind the last exit runs
        return torch.stack([by(output.tokens) for by, output in walk])

    def _stored(self) -> dict[str, Tensor]:
        """Tokens by split and what they were reduced by, from the cache; computed if they are not there."""
        weights = sha256(dx.fetch_weights(BACKBONE))
        of = [(images.indices.tolist(), images.labels.tolist()) for images in self.images.values()]
        stamp = hashlib.sha256(f"{weights} {of} {SIZE} {BLOCKS} {WIDTH}".encode()).hexdigest()
        path = cache_dir() / "course" / f"grocery-{stamp[:16]}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):  # one process computes, others wait
            try:
                return load_file(path)
            except (FileNotFoundError, SafetensorError):
                stored = self._computed()
            with atomic_file(path) as part:
                save_file(stored, part)
        return stored

    def _computed(self) -> dict[str, Tensor]:
        reduce, stored = nn.ModuleList(), {}
        for split, images in self.images.items():  # train is the first
            trunk = dx.stage_tokens(self.backbone, self.inputs(split, range(len(images))), batch_size=50).trunk
            tokens = [of.half().float() for of in trunk]  # K of (B, N, 384), rounded as the lessons' numbers have them
            reduce = reduce or nn.ModuleList(Reduce().fit(of) for of in tokens)
            stored[split] = torch.stack([by(of).half() for by, of in zip(reduce, tokens, strict=True)])
        return stored | {key: value.contiguous() for key, value in reduce.state_dict().items()}
