"""Images in small folders and in the forms that timm's readers open, as people send them, and of noise."""

from __future__ import annotations

import io
import struct
import tarfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def paint(path: Path, number: int, size: int = 8) -> Path:
    """An image whose colour tells its number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (size, size), (number % 251, number // 251, 77)).save(path)
    return path


def fill(folder: Path, classes: tuple[str, ...] = ("cat", "dog"), count: int = 20, first: int = 0) -> Path:
    """``folder``/CLASS/NN.png, ``count`` of each class."""
    for label, name in enumerate(classes):
        for i in range(count):
            paint(folder / name / f"{i:02d}.png", first + label * count + i)
    return folder


CLASSES = ("cat", "dog", "owl")
BROKEN = ("train/cat/01.jpg", "train/cat/02.jpg", "train/dog/03.jpg")
TOO_LARGE = "train/owl/huge.png"


def draw(path: Path, width: int = 12, height: int = 9) -> Path:
    """A small image of noise that depends on the path's end alone."""
    rng = np.random.default_rng(zlib.crc32("/".join(path.parts[-3:]).encode()))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(255, size=(height, width, 3), dtype=np.uint8)).save(path)
    return path


def clean_folder(folder: Path, train: int = 10, test: int = 3) -> Path:
    """``folder``/{train,test}/{cat,dog,owl}/NN.jpg: nothing to find."""
    for split, count in (("train", train), ("test", test)):
        for name in CLASSES:
            for i in range(count):
                draw(folder / split / name / f"{i:02d}.jpg", 12 + i)
    return folder


def dirty_folder(folder: Path) -> Path:
    """Three broken images and one too large, a class in test alone, leakage, a twin, two labels, an unused file."""
    clean_folder(folder)
    train, test = folder / "train", folder / "test"
    draw(test / "zebra" / "00.jpg")
    for i in (1, 2):
        (path := train / "cat" / f"{i:02d}.jpg").write_bytes(path.read_bytes()[:300])
    (train / "dog" / "03.jpg").write_text("no image")
    (test / "dog" / "01.jpg").write_bytes((train / "dog" / "05.jpg").read_bytes())
    (train / "owl" / "twin.jpg").write_bytes((train / "owl" / "05.jpg").read_bytes())
    (train / "owl" / "both.jpg").write_bytes((train / "cat" / "07.jpg").read_bytes())
    Image.new("1", (6000, 5000)).save(folder / TOO_LARGE)
    (train / "cat" / "IMG_1.heic").write_bytes(b"    ftypheic")
    return folder


def coloured(number: int) -> Image.Image:
    """An image whose colour tells its number."""
    return Image.new("RGB", (9, 7), (number % 251, number // 251, 77))


def add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))


def coloured_file(number: int, form: str = "PNG") -> bytes:
    stream = io.BytesIO()
    coloured(number).save(stream, form)
    return stream.getvalue()


def shard(path: Path, first: int, count: int) -> Path:
    """A tar file with images ``first`` to ``first + count - 1``; the class of an image is its number modulo 2."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for number in range(first, first + count):
            add(archive, f"{number:04d}.png", coloured_file(number))
            add(archive, f"{number:04d}.cls", str(number % 2).encode())
    return path


def split_shards(folder: Path) -> Path:
    """``folder`` with shards of train, val and test: 20, 4 and 4 images."""
    for part, first, count in (("train", 0, 20), ("val", 20, 4), ("test", 24, 4)):
        shard(folder / f"{part}-0000.tar", first, count)
    return folder


def table(numbers: range, *, image: str = "image", label: str = "label") -> Any:
    """A table of `datasets` with coloured_file images and the classes even and odd."""
    import datasets

    kinds = datasets.Features({image: datasets.Image(), label: datasets.ClassLabel(names=["even", "odd"])})
    columns = {image: [{"bytes": coloured_file(n), "path": None} for n in numbers], label: [n % 2 for n in numbers]}
    return datasets.Dataset.from_dict(columns, features=kinds)


def saved_tables(folder: Path, **fields: str) -> Path:
    """``folder`` as `save_to_disk` of `datasets` writes it: train, validation and test of 20, 4 and 4 images."""
    import datasets

    parts = {"train": range(20), "validation": range(20, 24), "test": range(24, 28)}
    tables = datasets.DatasetDict({part: table(numbers, **fields) for part, numbers in parts.items()})
    tables.save_to_disk(folder)
    return folder


PIXELS = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)


def encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    """A picture as the bytes of a file."""
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def turned(picture: Image.Image, kind: str, orientation: int, **options: Any) -> bytes:
    """A file whose pixels lie as ``picture`` does, and that EXIF says to turn; 6: a camera was held sideways."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(picture, kind, exif=exif, **options)


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG as Pillow writes none. ``colour``: 0 grey, 2 RGB, 4 grey with alpha, 6 RGBA; each row begins with a 0."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )


def bomb(side: int) -> bytes:
    """A PNG of a few bytes whose header promises ``side`` × ``side`` pixels."""
    return png(side, side, 8, 2, b"\0" * 1000)


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
    "turned.jpeg": turned(Image.fromarray(np.rot90(PIXELS).copy()), "JPEG", 6, quality=95),
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
