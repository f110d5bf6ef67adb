"""Pictures of every kind: what each becomes, and what is said of those that are refused."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
from image_files import encoded, png, turned
from PIL import Image, ImageOps

COLOURS = np.random.default_rng(0).integers(0, 256, (7, 5, 3), dtype=np.uint8)
RGB, GREY = Image.fromarray(COLOURS), Image.fromarray(COLOURS[..., 0])
RGBA = Image.fromarray(np.dstack([COLOURS, np.arange(35, dtype=np.uint8).reshape(7, 5) * 7]))
RED, WHITE = [255, 0, 0], [255, 255, 255]


def greys(*values: int) -> Any:
    return np.repeat(np.array([values], np.uint8)[..., None], 3, axis=2)


def row(depth: int, colour: int, values: Any, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of one row."""
    return png(len(values), 1, depth, colour, b"\0" + np.asarray(values, f">u{depth // 8}").tobytes(), *chunks)


def tiff(values: Any, kind: str, *changes: tuple[int, int, int, int], **options: Any) -> bytes:
    """A TIFF of one row, in which entries have other values than Pillow writes: tag, type, written, wanted."""
    data = encoded(Image.fromarray(np.array([values], kind)), "TIFF", **options)
    for tag, form, written, wanted in changes:
        data = data.replace(struct.pack("<HHII", tag, form, 1, written), struct.pack("<HHII", tag, form, 1, wanted))
    return data


def palette(mode: str, *values: int) -> Image.Image:
    """Two colours, side by side."""
    image = Image.fromarray(np.array([[0, 1]], np.uint8)).convert("P")
    image.putpalette(values, mode)
    return image


def upright(data: bytes) -> Any:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(ImageOps.exif_transpose(image))


def on_white(image: Image.Image) -> Any:
    alpha = np.asarray(image.convert("RGBA"), float)
    return 255 + (alpha[..., :3] - 255) * alpha[..., 3:] / 255


def inks(*values: int) -> bytes:
    return encoded(Image.new("CMYK", (8, 8), values), "JPEG", quality=95)


def moving(kind: str) -> bytes:
    red, blue = (Image.new("RGB", (2, 1), colour) for colour in ("red", "blue"))
    return encoded(red, kind, save_all=True, append_images=[blue], **({"lossless": True} if kind == "webp" else {}))


P, PA = palette("RGB", *RED, 0, 0, 0), RGBA.convert("LA").convert("PA")
PRINT, YCCK, ADOBE = inks(0, 255, 255, 0), inks(76, 84, 255, 0), inks(0, 0, 0, 0).index(b"Adobe")
DEEP = Image.fromarray(np.array([[0, 257, 32896, 65535]], np.uint16))
PLAIN = [GREY.convert("1"), GREY, RGB.convert("P"), RGB.convert("CMYK"), RGB.convert("YCbCr"), RGB.convert("RGBX")]
PLAIN += [Image.merge(mode, RGB.split()) for mode in ("LAB", "HSV")]
TURNED = {f"{kind} {turn}": turned(RGB, kind, turn) for kind in ("PNG", "TIFF", "JPEG") for turn in range(10)}
# Name; the file, or an image as Pillow holds it; what it becomes; by how much that may differ.
PICTURES: list[tuple[str, bytes | Image.Image, Any, float]] = [
    *((f"RGB.{kind}", encoded(RGB, kind), COLOURS, 0) for kind in ("png", "bmp", "tiff", "ppm")),
    ("RGB.webp", encoded(RGB, "WEBP", lossless=True), COLOURS, 0),
    ("L.png", encoded(GREY, "PNG"), np.repeat(COLOURS[..., :1], 3, axis=2), 0),
    ("1.png", encoded(Image.fromarray(np.array([[True, False]])), "PNG"), greys(255, 0), 0),
    *((image.mode, image, np.asarray(image.convert("RGB")), 0) for image in PLAIN),
    ("CMYK.jpg", PRINT, [[RED] * 8] * 8, 12),
    ("CMYK without Adobe's marker.jpg", PRINT[: ADOBE - 4] + PRINT[ADOBE + 12 :], [[RED] * 8] * 8, 12),
    ("CMYK as YCCK.jpg", YCCK[: ADOBE + 11] + b"\2" + YCCK[ADOBE + 12 :], [[RED] * 8] * 8, 12),
    # transparent parts lie on white
    *((image.mode, image, on_white(image), 1) for image in (RGBA, RGBA.convert("RGBa"), RGBA.convert("LA"), PA)),
    ("RGBA.png", encoded(RGBA, "PNG"), on_white(RGBA), 1),
    ("RGBA.webp", encoded(RGBA, "WEBP", lossless=True, exact=True), on_white(RGBA), 1),
    ("LA.png", encoded(RGBA.convert("LA"), "PNG"), on_white(RGBA.convert("LA")), 1),
    ("La.tif", tiff([[64, 128], [0, 0]], "u1", (338, 3, 2, 1)), greys(191, 255), 0),
    ("RGBa.tif", tiff([[64, 32, 0, 128]], "u1", (338, 3, 2, 1)), [[[191, 159, 127]]], 0),
    *((f"P, a colour.{kind}", encoded(P, kind, transparency=1), [[RED, WHITE]], 0) for kind in ("png", "gif")),
    ("P, half a colour.png", encoded(P, "PNG", transparency=bytes([255, 128])), [[RED, [127] * 3]], 0),
    ("P of RGBA", palette("RGBA", *RED, 255, 0, 0, 0, 128), [[RED, [127] * 3]], 0),
    ("L, a grey.png", row(8, 0, [7, 9], (b"tRNS", b"\0\7")), greys(255, 9), 0),
    ("RGB, a colour.png", row(8, 2, [[7, 8, 9], RED], (b"tRNS", b"\0\7\0\x08\0\t")), [[WHITE, RED]], 0),
    ("I;16, a grey.png", row(16, 0, [257, 51_400], (b"tRNS", b"\1\1")), greys(255, 200), 0),
    # more than 8 bits: white is what the format says
    *((f"I;16.{kind}", encoded(DEEP, kind), greys(0, 1, 128, 255), 0) for kind in ("png", "tiff", "ppm")),
    ("I;16B.tif", encoded(Image.new("I;16B", (2, 1), 51_400), "TIFF"), greys(200, 200), 0),
    ("I;16, packed.tif", tiff([0, 51_400], "u2", compression="tiff_lzw"), greys(0, 200), 0),
    ("I;16, half as bright as white.png", row(16, 0, [0, 32_896]), greys(0, 128), 0),
    ("I;16, black.png", row(16, 0, [0, 0]), greys(0, 0), 0),
    ("16 bits of colour.png", row(16, 2, [[25_700, 65535, 0]]), [[[100, 255, 0]]], 0),
    ("16 bits of colour and alpha.png", row(16, 6, [[25_700, 65535, 0, 65535], [0] * 4]), [[[100, 255, 0], WHITE]], 0),
    ("16 bits of grey and alpha.png", row(16, 4, [[51_400, 65535], [0, 0]]), greys(200, 255), 0),
    ("12 bits.tif", tiff([255, 0xF8, 0], "u1", (258, 3, 8, 12), (256, 4, 3, 2)), greys(255, 128), 0),
    ("I up to 1000, says its header.pgm", b"P5 3 1 1000\n\0\0\1\xf4\3\xe8", greys(0, 128, 255), 0),
    ("F.tif", tiff([0, 0.5, 1], "f4"), greys(0, 128, 255), 0),
    ("F.pfm", b"Pf 2 1 -1.0\n" + np.array([0.2, 1], "<f4").tobytes(), greys(51, 255), 0),
    *((f"turned {name}", data, upright(data), 0) for name, data in TURNED.items()),
    ("turned I;16.png", turned(DEEP, "PNG", 6), greys(0, 1, 128, 255).reshape(4, 1, 3), 0),
    *((f"moving.{kind}", moving(kind), [[RED, RED]], 0) for kind in ("gif", "png", "webp", "tiff")),
]
UNKNOWN = "cannot be read as an image: not an image, or of a kind that is not read"
NO_SCALE, DARK = "has signed or 32-bit whole numbers, or 0 for white", "has more than 8 bits a value, but none above "
# Name, file, what is said of it.
STRANGE: list[tuple[str, bytes, str]] = [
    ("12 bits in 16.png", row(16, 0, [0, 4095]), f"{DARK}6.2 % of white; divide all images by"),
    ("15 bits in 16.tif", tiff([0, 32_767], "u2"), f"{DARK}50.0 %"),
    ("12 bits of colour in 16.png", row(16, 2, [[0, 4095, 9]]), f"{DARK}5.9 %"),
    ("12 bits of colour in 16.ppm", b"P6 1 1 65535\n\0\0\x0f\xff\0\0", f"{DARK}6.3 %"),
    ("12 bits and alpha.png", row(16, 6, [[0, 4095, 9, 65535]]), f"{DARK}5.9 %"),
    ("dark floats.tif", tiff([0, 0.2], "f4"), f"{DARK}20.0 %"),
    ("32 bits.tif", tiff([0, 60_000], "i4"), NO_SCALE),
    ("32 bits without sign.tif", tiff([0, 60_000], "i4", (339, 3, 2, 1)), NO_SCALE),
    ("16 bits and a sign.tif", tiff([0, 30_000], "u2", tiffinfo={339: 2}), NO_SCALE),
    ("8 bits and a sign.tif", tiff([0, 200], "u1", tiffinfo={339: 2}), NO_SCALE),
    ("white at 0.tif", tiff([0, 60_000], "u2", (262, 3, 1, 0)), NO_SCALE),
    ("floats up to 255.tif", tiff([0, 255], "f4"), "has values from 0 to 255, not from 0 to 1; divide all images by"),
    ("floats below 0.tif", tiff([-0.5, 1], "f4"), "has values from -0.5 to 1, not from 0 to 1"),
    ("no numbers.tif", tiff([1, np.nan], "f4"), "has values that are no numbers (NaN)"),
    ("64 bits.tif", tiff([0, 1], "f4", (258, 3, 32, 64)), UNKNOWN),
    *((f"{kind}.png", encoded(RGB.resize((16, 16)), kind), UNKNOWN) for kind in ("ICO", "DDS", "JPEG2000", "TGA")),
]
