"""Pictures as the world may spoil them, and what a run says about them.

In: pictures, the name of a corruption and a strength from 1 to 5. Out: pictures of the same size, and records of them.
The idea of named corruptions in five strengths is ImageNet-C's (Hendrycks and Dietterich 2019). Ours: four of them by
torchvision, with strengths that suit small pictures. A picture's noise depends on its position in the source alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from ..inference.torch_engine import record_split
from ..models.dmpo import DMPO
from ..records.record import ExitRecord
from ..runs.run import WEIGHTS, Run, read_weights_meta
from ..utils.files import read_json, sha256, write_json
from ..utils.registry import lookup
from ..utils.torch_seeding import seeded
from .images import Pictures
from .torch_loaders import make_loader

STRENGTHS = (1, 2, 3, 4, 5)


def noise(image: Tensor, sigma: float) -> Tensor:
    """Gaussian noise of standard deviation ``sigma`` (white is 1) from torch's global generator."""
    noisy = functional.gaussian_noise(functional.to_dtype(image, torch.float32, scale=True), sigma=sigma)
    spoilt: Tensor = functional.to_dtype(noisy, torch.uint8, scale=True)
    return spoilt


def blur(image: Tensor, sigma: float) -> Tensor:
    """Gaussian blur; ``sigma`` is a share of the shorter side."""
    pixels = sigma * min(image.shape[-2:])
    size = 2 * int(np.ceil(3 * pixels)) + 1
    spoilt: Tensor = functional.gaussian_blur(image, [size, size], [pixels, pixels])
    return spoilt


def contrast(image: Tensor, factor: float) -> Tensor:
    """Towards the mean grey: 1 leaves the image, 0 is grey."""
    spoilt: Tensor = functional.adjust_contrast(image, factor)
    return spoilt


def rotation(image: Tensor, degrees: float) -> Tensor:
    """Turned to the left around the centre, bilinear, corners black."""
    spoilt: Tensor = functional.rotate(image, degrees, interpolation=InterpolationMode.BILINEAR)
    return spoilt


CORRUPTIONS: dict[str, tuple[Callable[[Tensor, float], Tensor], tuple[float, ...]]] = {
    "noise": (noise, (0.04, 0.08, 0.12, 0.18, 0.26)),
    "blur": (blur, (0.014, 0.021, 0.029, 0.039, 0.054)),
    "contrast": (contrast, (0.75, 0.5, 0.35, 0.25, 0.15)),
    "rotation": (rotation, (5.0, 10.0, 15.0, 20.0, 30.0)),
}


def corrupt(picture: NDArray[np.uint8], name: str, strength: int, seed: int = 0) -> NDArray[np.uint8]:
    """uint8 (H, W) or (H, W, 3) → the same, spoilt; grey stays grey. Torch's global generator is left as it was.

    Raises:
        ValueError: unknown corruption, or a strength outside 1 to 5.
    """
    apply, levels = lookup(CORRUPTIONS, name, "corruption")
    if strength not in STRENGTHS:
        raise ValueError(f"strength={strength!r} must be one of 1 to {len(levels)}")
    image = torch.from_numpy(np.array(picture).reshape(*picture.shape[:2], -1)).permute(2, 0, 1)
    with seeded(seed):
        spoilt = apply(image, levels[strength - 1])
    return np.asarray(spoilt.permute(1, 2, 0).numpy().reshape(picture.shape))


@dataclass(frozen=True)
class _Spoilt:
    """Position in the source → the spoilt picture."""

    pixels: Any
    name: str
    strength: int

    def __getitem__(self, position: int) -> NDArray[np.uint8]:
        return corrupt(np.asarray(self.pixels[position], np.uint8), self.name, self.strength, seed=position)


def corrupted(pictures: Pictures, name: str, strength: int) -> Pictures:
    """The same pictures, spoilt as they are looked at; raises as `corrupt`."""
    corrupt(np.zeros((8, 8, 3), np.uint8), name, strength)
    return replace(pictures, pixels=_Spoilt(pictures.pixels, name, strength))


def record_corrupted(
    run: Run,
    folder: Path,
    rows: Any = slice(0, 1000),
    *,
    split: str = "test",
    device: str = "auto",
    batch_size: int = 100,
) -> Iterator[tuple[str, int, ExitRecord]]:
    """Run the model over every corruption and strength; what is in ``folder`` already is not made again.

    Args:
        folder: gets a record ``NAME-STRENGTH`` each, with logits, and beside it a JSON file that says what it was made
            from (`made_from`). rows: which images of the split's record.

    Yields:
        corruption, strength and record, as they come.

    Raises:
        ValueError: ``folder`` holds records of other weights, another backbone, other images or another strength, or
            records that do not say what they were made from.
    """
    clean = run.record(split).subset(rows)
    pictures = run.pictures(split).subset(rows)
    model: DMPO | None = None
    for name in CORRUPTIONS:
        for strength in STRENGTHS:
            path, facts = folder / f"{name}-{strength}", made_from(run, pictures, name, strength)
            if path.exists():
                _check_kept(path, facts)
            else:
                write_json(path.with_name(f"{path.name}.json"), facts)
                model = model or run.model(device)
                loader = make_loader(corrupted(pictures, name, strength), model.preprocess, batch_size=batch_size)
                meta = replace(clean.meta, split=f"{split}, {name} {strength}", indices=pictures.indices)
                record_split(model, loader, meta).save(path)
            record = ExitRecord.load(path)
            if not np.array_equal(record.labels, clean.labels):
                raise ValueError(f"{path} holds other images; choose another folder, or remove it")
            yield name, strength, record


def made_from(run: Run, pictures: Pictures, name: str, strength: int) -> dict[str, Any]:
    """What a record of spoilt pictures depends on, as JSON values."""
    return {
        "weights_sha256": sha256(run.path / WEIGHTS),
        "backbone_sha256": read_weights_meta(run.path).get("backbone_sha256", ""),
        "corruption": name,
        "value": CORRUPTIONS[name][1][strength - 1],
        "indices_sha256": hashlib.sha256(np.asarray(pictures.indices, np.int64).tobytes()).hexdigest(),
    }


def _check_kept(path: Path, facts: dict[str, Any]) -> None:
    file = path.with_name(f"{path.name}.json")
    kept = read_json(file) if file.is_file() else None
    if not isinstance(kept, dict):
        raise ValueError(f"{path} does not say what it was made from ({file.name} is missing); remove it")
    if other := [key for key, value in facts.items() if kept.get(key) != value]:
        raise ValueError(f"{path} was made from another {', '.join(other)}; choose another folder, or remove it")
