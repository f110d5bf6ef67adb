"""Files as people send them: eight kinds of pictures that are taken, and what is refused, each with a word why."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

PIXELS = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)


def encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    """A picture as the bytes of a file."""
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def turned() -> bytes:
    """A JPEG that a camera held sideways took: its pixels lie on their side, EXIF says so."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(Image.fromarray(np.rot90(PIXELS).copy()), "JPEG", exif=exif, quality=95)


def bomb(side: int) -> bytes:
    """A PNG of a few bytes whose header promises ``side`` × ``side`` pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


_whole = Image.fromarray(PIXELS)
_alpha = Image.fromarray(np.dstack([PIXELS, np.full((9, 12), 128, np.uint8)]))
_large = Image.fromarray(np.random.default_rng(1).integers(0, 256, (60, 60, 3), dtype=np.uint8))
_deep = Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257)
TAKEN: dict[str, bytes] = {
    "colour.png": encoded(_whole, "PNG"),
    "grey.png": encoded(_whole.convert("L"), "PNG"),
    "alpha.png": encoded(_alpha, "PNG"),
    "deep.png": encoded(_deep, "PNG"),
    "print.jpg": encoded(_whole.convert("CMYK"), "JPEG", quality=95),
    "turned.jpeg": turned(),
    "web.webp": encoded(_whole, "WEBP", lossless=True),
    "old.bmp": encoded(_whole, "BMP"),
}
REFUSED: dict[str, tuple[bytes, str]] = {
    "text.png": (b"Dear model,\nwhat is this?\n", "text, not an image"),
    "empty.png": (b"", "is empty"),
    "cut.png": (encoded(_large, "PNG")[:3000], "damaged"),
    "cut.jpg": (TAKEN["turned.jpeg"][:400], "damaged"),
    "moving.png": (encoded(_whole, "GIF"), "a GIF; save it as PNG, JPEG, WebP or BMP"),
    "drawing.png": (b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing"),
    "phone.jpg": (b"\0\0\0\x18ftypheic" + b"\0" * 40, "a HEIC image"),
    "large.png": (bomb(30_000), "megapixels"),
    "larger.png": (bomb(9000), "9,000 x 9,000 pixels"),
    "heavy.png": (TAKEN["colour.png"] + b"\0" * (10 * 2**20), "10.1 MB"),
    "noise.png": (bytes(range(256)) * 4, "no image that can be read"),
}
