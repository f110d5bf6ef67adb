"""Preprocessing of an image for a backbone: size, how it is resized to a square, colours. Numbers only."""

from __future__ import annotations

import math
from dataclasses import dataclass

# how an image becomes a square → in words
RESIZING = {"squash": "squashed to a square", "crop": "aspect kept, centre crop"}


@dataclass(frozen=True)
class Preprocess:
    """Preprocessing of an image for a backbone: timm's data config at ``image_size`` pixels.

    Args:
        image_size: S, side of the model's input. mean, std: of the colours, scaled to [0, 1].
        interpolation: of the resizing, with antialiasing.
        resize: ``squash``: the whole image to S x S pixels, aspect not kept. ``crop``: its shorter side to
            S / ``crop_pct`` pixels, the aspect kept, and the S x S pixels at the centre.
        crop_pct: share of the shorter side that the crop keeps; not read where images are squashed.

    Example:
        >>> Preprocess(70, (0.5,), (0.5,)).interpolation
        'bicubic'
    """

    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bicubic"
    resize: str = "squash"
    crop_pct: float = 1.0

    @property
    def shorter_side(self) -> int:
        """Pixels of the shorter side before the crop; timm's rule."""
        return math.floor(self.image_size / self.crop_pct)

    def scaled(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of an image once it is resized, before a crop.

        Example:
            >>> crop = Preprocess(70, (0.5,), (0.5,), resize="crop", crop_pct=0.875)
            >>> crop.scaled(300, 400), Preprocess(70, (0.5,), (0.5,)).scaled(300, 400)
            ((80, 106), (70, 70))
        """
        if self.resize == "squash":
            return self.image_size, self.image_size
        side, short = self.shorter_side, min(height, width)
        return (side, int(side * width / short)) if height == short else (int(side * height / short), side)

    def described(self) -> str:
        """The resizing in words.

        Example:
            >>> Preprocess(70, (0.5,), (0.5,), resize="crop", crop_pct=0.875).described()
            'shorter side to 80 pixels, aspect kept, then the 70 x 70 pixels at the centre'
        """
        size = f"{self.image_size} x {self.image_size} pixels"
        if self.resize == "squash":
            return f"whole image squashed to {size}"
        return f"shorter side to {self.shorter_side} pixels, aspect kept, then the {size} at the centre"
