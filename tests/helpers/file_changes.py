"""Ways to edit or break a file of a run: each function gives a `Change`, which is called with the run's folder."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

IMAGES, EXITS, CLASSES = 40, 3, 5  # of the run that is changed
Change = Callable[[Path], object]


# -- what is done to any file --


def write(file: str, content: bytes) -> Change:
    return lambda run: (run / file).write_bytes(content)


def cut(file: str, left: int) -> Change:
    return lambda run: os.truncate(run / file, left if left >= 0 else (run / file).stat().st_size + left)


def remove(file: str) -> Change:
    return lambda run: (run / file).unlink()


def folder(file: str) -> Change:
    return lambda run: ((run / file).unlink(), (run / file).mkdir())


def file(folder: str) -> Change:
    """An empty file in place of a folder."""
    return lambda run: (shutil.rmtree(run / folder), (run / folder).touch())


def loop(file: str) -> Change:
    return lambda run: ((run / file).unlink(), (run / file).symlink_to(run / file))


def pipe(file: str) -> Change:
    return lambda run: ((run / file).unlink(), os.mkfifo(run / file))


def endless(file: str) -> Change:
    return lambda run: ((run / file).unlink(), (run / file).symlink_to("/dev/zero"))


def sparse(file: str, size: int = 2**33) -> Change:
    return lambda run: os.truncate(run / file, size)


# -- JSON --


def set_values(file: str, **values: Any) -> Change:
    """Change keys of a JSON object; ``...`` removes one."""

    def change(run: Path) -> None:
        whole = json.loads((run / file).read_text()) | values
        (run / file).write_text(json.dumps({k: v for k, v in whole.items() if v is not ...}))

    return change


def meta(**values: Any) -> Change:
    return set_values("records/test/meta.json", **values)


def model(**values: Any) -> Change:
    return set_values("config.json", model=values)


def policy(**values: Any) -> Change:
    whole = {"policy": "confidence", "thresholds": [0.5]} | values
    return write("policies.json", json.dumps({"half": whole}).encode())


DEEP = b'{"a": ' + b"[" * 100_000
HUGE = 10**400
MANY = list(range(1, 10**5))
HALF_PAIR = "\ud800"


# -- arrays --


def array(file: str, change: Callable[[Any], Any]) -> Change:
    """Save ``change(array)`` in place of a .npy file of the test record."""

    def spoil(run: Path) -> None:
        path = run / "records/test" / file
        np.save(path, change(np.load(path)), allow_pickle=True)

    return spoil


def put(value: Any) -> Callable[[Any], Any]:
    """Set one value in the middle."""

    def change(values: Any) -> Any:
        values[IMAGES // 2] = value
        return values

    return change


def with_axes(values: Any) -> Any:
    return values.reshape((1,) * 10 + values.shape)


def header(file: str, text: str, bytes_after: int = 64) -> Change:
    """A .npy file with this header, however wrong, and some bytes of data."""
    start = b"\x93NUMPY\x01\x00" + (len(text) + 1).to_bytes(2, "little") + text.encode() + b"\n"
    return write(f"records/test/{file}", start + bytes(bytes_after))


def described(descr: str = "'<i8'", shape: str = "(40,)") -> str:
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}"


def sparse_labels(images: int) -> Change:
    def change(run: Path) -> None:
        header("labels.npy", described(shape=f"({images},)"))(run)
        os.truncate(run / "records/test/labels.npy", 128 + 8 * images)

    return change


def all_sparse(images: int) -> Change:
    """All arrays of the record claim as many images, and their files have the size but no content."""

    def change(run: Path) -> None:
        kinds = {"labels": "'<i8'", "prediction": "'<i4'"} | dict.fromkeys(("confidence", "entropy", "margin"), "'<f4'")
        for name, kind in kinds.items():
            file = "labels.npy" if name == "labels" else f"scores/{name}.npy"
            header(file, described(kind, f"({images},)" if name == "labels" else f"({images}, {EXITS})"))(run)
            os.truncate(run / "records/test" / file, 128 + 8 * images * EXITS)

    return change


class Trap:
    """Unpickling it would make a file ``trap`` in the current folder."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (Path("trap"),)


# -- weights --


def lying(**about: Any) -> Change:
    """A safetensors file whose header says something else than its data."""
    text = json.dumps({"scale": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}} | about).encode()
    return weights(len(text).to_bytes(8, "little") + text + bytes(8))


def lying_names(text: str) -> Change:
    return lying(__metadata__={"class_names": text})


def weights(content: bytes) -> Change:
    return write("weights.safetensors", content)
