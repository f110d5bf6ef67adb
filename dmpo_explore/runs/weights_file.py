"""Header of a run's weights file (safetensors of the trainable parts), and the hash of its backbone; no torch."""

from __future__ import annotations

import json
from os.path import lexists
from pathlib import Path

from safetensors import SafetensorError, safe_open

from ..config import ModelConfig
from ..pretrained.weights import find_weights
from ..pretrained.wheels import SOURCES
from ..utils.files import sha256
from ..utils.texts import check_regular, is_text, named, one_line, short

WEIGHTS = "weights.safetensors"
MOST_NAME = 1000  # characters of a class's name


def read_weights_meta(path: Path) -> dict[str, str]:
    """Header of the weights: backbone, backbone_sha256 (empty for hub and random), perhaps frozen_sha256 (of a backbone
    of one's own, `DMPO.frozen_sha256`) and class_names (JSON).

    Raises:
        FileNotFoundError: no weights. ValueError: not a safetensors file.

    Example:
        >>> import dmpo_explore as dx
        >>> read_weights_meta(dx.load_run("demo").path)["backbone"]
        'vit_small_patch14_dinov2'
    """
    file = path / WEIGHTS
    if not lexists(file):
        raise FileNotFoundError(f"run {path.name!r} has no weights: no file {file}; train it (--resume continues)")
    check_regular(file)
    try:
        with safe_open(file, framework="numpy") as stream:
            return dict(stream.metadata() or {})
    except OSError as error:
        raise named(error, file) from None
    except SafetensorError as error:
        raise ValueError(
            f"{file} is not a readable safetensors file (truncated or foreign): {one_line(error, 200)}"
        ) from None


def read_class_names(path: Path) -> tuple[str, ...]:
    """Names of the classes in the weights' header; empty without them. Raises as `read_weights_meta`."""
    text = read_weights_meta(path).get("class_names")
    if not text:
        return ()
    try:
        names = json.loads(text)
    except (ValueError, RecursionError):
        names = None
    if not isinstance(names, list) or not names or not all(isinstance(n, str) and is_text(n, MOST_NAME) for n in names):
        raise ValueError(f"{path / WEIGHTS}: class_names={short(text)} in its header must be a JSON list of texts")
    return tuple(names)


def of_other_weights(path: Path, weights_sha256: str) -> bool:
    """Whether the run folder ``path`` has weights, and others than those of this SHA-256; False for an empty one.

    Example:
        >>> import dmpo_explore as dx
        >>> of_other_weights(dx.load_run("demo").path, ""), of_other_weights(dx.load_run("demo").path, "0" * 64)
        (False, True)
    """
    return bool(weights_sha256) and lexists(path / WEIGHTS) and sha256(path / WEIGHTS) != weights_sha256


def with_sorted_header(data: bytes) -> bytes:
    """A safetensors file's bytes with the keys of its header in order; the library shuffles those of the metadata.

    Example:
        >>> import numpy as np
        >>> from safetensors.numpy import load, save
        >>> data = [save({"scale": np.ones(2)}, {"a": "1", "b": "2"}) for _ in range(20)]
        >>> len({with_sorted_header(file) for file in data}), load(with_sorted_header(data[0]))
        (1, {'scale': array([1., 1.])})
    """
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8:end]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # the tensors begin at a multiple of 8
    return len(header).to_bytes(8, "little") + header + data[end:]


def backbone_sha256(config: ModelConfig) -> str:
    """SHA-256 of the backbone file: the published one (`SOURCES`) or the user's; empty for timm's hub, random weights
    and runs that hold all their weights.
    """
    if config.whole:
        return ""
    if config.weights == "auto" and config.backbone in SOURCES:
        return SOURCES[config.backbone].sha256
    file = find_weights(config.backbone, config.weights)
    return file.sha256 if file else ""
