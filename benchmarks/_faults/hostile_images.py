"""Image files that try to take the memory or the time of their reader, and what becomes of each.

In: nothing; every file is made here. Out: `run`, counts of files that became an image, that were refused in one line,
and that did anything else. `scripts/bench faults` tries them.
"""

from __future__ import annotations

import io
import struct
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dmpo_explore.data.image_files import MOST_PIXELS_OF, open_image, read_image

Chunk = tuple[bytes, bytes]  # of a PNG: kind and data
SIDE = 5000  # of an image of 25 megapixels, the largest that is taken
SMALL = 64  # of an image that hides something else


def png(width: int, height: int, colour: int = 2, depth: int = 8, *chunks: Chunk, adam7: int = 0) -> bytes:
    """A whole PNG, black; ``chunks`` stand before its pixels. ``colour``: 0 grey, 2 RGB, 3 palette, 6 RGBA."""
    channels = {0: 1, 2: 3, 3: 1, 6: 4}[colour]
    left = (1 + adam7) * (height + 8) * (1 + (width * channels * depth + 7) // 8)
    packer, packed, zeros = zlib.compressobj(1), b"", bytes(2**22)
    while left > 0:
        packed += packer.compress(zeros[:left])
        left -= len(zeros)
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, adam7)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", packed + packer.flush()), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )


def promised_png(width: int, height: int) -> bytes:
    """A PNG whose header promises more than its few bytes hold."""
    whole = png(1, 1)
    header = b"IHDR" + struct.pack(">II", width, height) + whole[24:29]
    return whole[:12] + header + struct.pack(">I", zlib.crc32(header)) + whole[33:]


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """An image as the bytes of a file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def turned_jpeg() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(Image.new("RGB", (SIDE, SIDE)), "JPEG", exif=exif)


def many_scans(side: int = SIDE, scans: int = 5000) -> bytes:
    """A progressive JPEG that repeats its last scan; each costs a pass over the image."""
    data = encoded(Image.new("L", (side, side)), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * scans + data[-2:]


def promised_jpeg(width: int, height: int) -> bytes:
    data = encoded(Image.new("L", (8, 8)), "JPEG")
    frame = data.index(b"\xff\xc0") + 5
    return data[:frame] + struct.pack(">HH", height, width) + data[frame + 4 :]


def circular_exif() -> bytes:
    """Image file directories whose pointers lead back to them."""
    return b"II*\0" + struct.pack("<IHHHIIHHIII", 8, 2, 0x8769, 4, 1, 8, 0x8825, 4, 1, 8, 8)


def tiff(*entries: tuple[int, int, int, int]) -> bytes:
    """A TIFF of 8 x 8 grey pixels with these further entries: tag, type, count, value."""
    plain = [(256, 4, 1, 8), (257, 4, 1, 8), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (277, 3, 1, 1)]
    rows = sorted([*plain, *entries])
    body = struct.pack("<H", len(rows)) + b"".join(struct.pack("<HHII", *row) for row in rows) + struct.pack("<I", 0)
    return b"II*\0" + struct.pack("<I", 8) + body + bytes(64)


def bmp(width: int, height: int, compression: int = 0, bits: int = 24) -> bytes:
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, 0, 0, 0, 0, 0)
    palette = bytes(4 * 256 if bits == 8 else 0)
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, 54 + len(palette)) + info + palette + bytes(200)


def moving(kind: str, side: int, frames: int, **options: Any) -> bytes:
    pictures = [Image.new("RGB", (side, side), (i % 256, i // 256, 0)) for i in range(frames)]
    return encoded(pictures[0], kind, save_all=True, append_images=pictures[1:], **options)


def _text(size: int) -> Chunk:
    return b"zTXt", b"Comment\0\0" + zlib.compress(bytes(size), 1)


def _profile(size: int) -> Chunk:
    return b"iCCP", b"icc\0\0" + zlib.compress(bytes(size), 1)


_WEBP_SIDE = int(MOST_PIXELS_OF["WEBP"] ** 0.5)
# A few milliseconds each: they are refused by their header, or are small.
QUICK: dict[str, Callable[[], bytes]] = {
    "promised.png": lambda: promised_png(30_000, 30_000),
    "promised-wide.png": lambda: promised_png(2**31 - 1, 1),
    "promised-over.png": lambda: promised_png(SIDE, SIDE + 1),
    "promised-side.png": lambda: promised_png(1, 20_001),
    "nothing.png": lambda: promised_png(0, 0),
    "promised.jpg": lambda: promised_jpeg(65_500, 65_500),
    "scans.jpg": lambda: many_scans(SMALL, 300),
    "promised.ppm": lambda: b"P6 65535 65535 255\n" + bytes(100),
    "promised.bmp": lambda: bmp(2**30, 2**30),
    "negative.bmp": lambda: bmp(-5, -(2**31)),
    "promised.webp": lambda: b"RIFF\x20\0\0\0WEBPVP8L\x14\0\0\0\x2f" + struct.pack("<I", 2**28 - 1) + bytes(15),
    "tiles.tif": lambda: tiff((322, 4, 1, 20_000), (323, 4, 1, 20_000), (324, 4, 1, 200), (325, 4, 1, 64)),
    "counts.tif": lambda: tiff((273, 4, 2**31, 200), (279, 4, 2**31, 64)),
    "circle.png": lambda: png(SMALL, SMALL, 2, 8, (b"eXIf", circular_exif())),
    "cut.png": lambda: png(SMALL, SMALL)[:60],
    "moving.png": lambda: moving("PNG", SMALL, 50),
    "moving.gif": lambda: moving("GIF", SMALL, 200),
    # PostScript: Pillow would start Ghostscript on it.
    "program.png": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n",
}
SLOW: dict[str, Callable[[], bytes]] = {
    "thin.png": lambda: png(1, 50_000_000, 0, 1),
    "flat.png": lambda: png(50_000_000, 1, 0),
    "bits.png": lambda: png(12_000, 12_000, 0, 1),
    "colours.png": lambda: png(SIDE, SIDE, 6),
    "deep.png": lambda: png(SIDE, SIDE, 2, 16),
    "deep-grey.png": lambda: png(SIDE, SIDE, 0, 16),
    "palette.png": lambda: png(SIDE, SIDE, 3, 8, (b"PLTE", bytes(768)), (b"tRNS", bytes(9))),
    "interlaced.png": lambda: png(SIDE, SIDE, adam7=1),
    "text.png": lambda: png(SMALL, SMALL, 2, 8, _text(200 * 2**20)),
    "texts.png": lambda: png(SMALL, SMALL, 2, 8, *[_text(2**20 - 1)] * 200),
    "profile.png": lambda: png(SMALL, SMALL, 2, 8, _profile(200 * 2**20)),
    "turned.jpg": turned_jpeg,
    "print.jpg": lambda: encoded(Image.new("CMYK", (SIDE, SIDE)), "JPEG", progressive=True, subsampling=0),
    "scans-large.jpg": many_scans,
    "moving.webp": lambda: moving("WEBP", _WEBP_SIDE, 2, method=0, quality=0),
    "packed.bmp": lambda: bmp(SIDE, SIDE, 1, 8),
    "float.tif": lambda: encoded(Image.new("F", (SIDE, SIDE)), "TIFF", compression="tiff_deflate"),
}


def run(images: dict[str, Callable[[], bytes]] | None = None) -> dict[str, float]:
    """Read every file from disk and from bytes.

    Returns:
        trials; decoded: became an image; refused: a ValueError of one line that names the file; failed: anything else;
        seconds: the longest.
    """
    counts = dict.fromkeys(("trials", "decoded", "refused", "failed", "seconds"), 0.0)
    read_image(png(1, 1), "first.png")  # loads Pillow
    with tempfile.TemporaryDirectory() as folder:
        for name, make in (QUICK | SLOW if images is None else images).items():
            path = Path(folder) / name
            path.write_bytes(make())
            for reader in (open_image, _as_bytes):
                began = time.perf_counter()
                counts[_outcome(reader, path)] += 1
                counts["trials"] += 1
                counts["seconds"] = max(counts["seconds"], time.perf_counter() - began)
            path.unlink()
    return counts


def _as_bytes(path: Path) -> NDArray[np.uint8]:
    return read_image(path.read_bytes(), path.name)


def _outcome(reader: Callable[[Path], NDArray[np.uint8]], path: Path) -> str:
    try:
        pixels = reader(path)
    except ValueError as error:
        text = str(error)
        return "refused" if path.name in text and "\n" not in text and len(text) < 500 else "failed"
    except Exception:
        return "failed"
    good = pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3
    return "decoded" if good else "failed"
