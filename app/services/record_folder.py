"""A record folder of somebody's own: where it is, whether it may be read, how one is written.

In: a path that somebody typed. Out: a folder, or ValueError with the way out. The path never comes from the address: a
link cannot make the app read a folder. Where the app can be reached from other machines, only folders under the runs
root may be opened.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path

import streamlit as st

from dmpo_explore.runs.store import BUNDLED_RUNS, runs_root

EXAMPLE = """\
import numpy as np
import dmpo_explore as dx
from dmpo_explore.record import RecordMeta
from dmpo_explore.scores import scores

logits, labels = np.load("logits.npy"), np.load("labels.npy")  # yours: (images, exits, classes) and (images,)
meta = RecordMeta(data="my data", split="test", class_names=("cat", "dog", "bird"),
                  exit_blocks=(4, 8, 12),  # blocks after which your exits stand
                  flops=(1.2e9, 2.4e9, 3.6e9),  # of everything that has run when an image leaves there
                  reference_flops=3.5e9)  # of the plain model with one exit; 1 MAC = 2 FLOPs
record = dx.ExitRecord(labels=labels.astype(np.int64), **scores(logits), meta=meta)
record.save("my-records/test")
"""
FILES = {
    "meta.json": "format_version 1, data, split, class_names, exits, flops, reference_flops",
    "labels.npy": "int64, (images,): the true class, from 0",
    "scores/prediction.npy": "int32, (images, exits): the class that each exit answers",
    "scores/confidence.npy": "float32, (images, exits): probability of that class",
    "scores/entropy.npy": "float32, (images, exits), in nats",
    "scores/margin.npy": "float32, (images, exits): best probability minus second best",
}
BUNDLED = tuple(str(BUNDLED_RUNS / "demo" / "records" / split) for split in ("test", "val"))


def find(text: str) -> Path:
    """The folder that ``text`` names, absolute and without links.

    Raises:
        ValueError: it cannot be a path, or may not be opened here.
    """
    try:
        path = Path(_unquoted(text.strip())).expanduser().resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a null byte, an unknown ~user, a circle of links
        raise ValueError(f"{text!r} is not a path: {error}") from None
    if not is_private():
        roots = (runs_root().resolve(), BUNDLED_RUNS.resolve())
        if not any(path.is_relative_to(root) for root in roots):
            raise ValueError(
                f"{path} cannot be opened: this app can be reached from other machines, so it opens only folders "
                f"under {roots[0]}"
            )
    return path


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text


def is_private() -> bool:
    """Whether only this machine can reach the app: it listens on localhost."""
    address = str(st.get_option("server.address") or "")
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def records_below(path: Path, most: int = 6) -> list[Path]:
    """Record folders in ``path``, its ``records`` or its runs: what may have been meant by who named another level."""
    found: list[Path] = []
    for pattern in ("*/meta.json", "records/*/meta.json", "*/records/*/meta.json"):
        try:
            found += sorted(meta.parent for meta in path.glob(pattern) if not meta.parent.name.startswith("."))
        except OSError:
            continue
    return found[:most]
