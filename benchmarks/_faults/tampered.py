"""Exports in float32, in int8 and with a single graph, of which a file is damaged, changed, exchanged or gone.

The export must answer as before, or be refused in one line; one whose graphs have changed is never taken for whole.
"""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import dmpo_explore as dx
from dmpo_explore.inference.onnx_engine import MODEL, POLICY, OnnxEngine, stage_file
from dmpo_explore.inference.onnx_single import SINGLE

from .changed_images import folder, link
from .edited_folders import EDITS
from .judged import CLEAR, Wrong
from .small import runs_in, small_run

KINDS: dict[str, dict[str, Any]] = {"float32": {}, "int8": {"precision": "int8"}, "single": {"single": True}}


class Made(NamedTuple):
    """The run, its policy, images, and the answers of every whole export."""

    run: dx.Run
    policy: Any
    folder: Path
    images: Any
    answers: dict[str, Any]


def make(folder: Path) -> Made:
    from dmpo_explore.inference.onnx_single import join_stages
    from dmpo_explore.inference.torch_export import export_int8, export_run

    run = small_run(folder)
    policy = dx.fit_policy(run.record("val"), "confidence", flops=0.9)
    images = np.random.default_rng(0).standard_normal((8, 3, 32, 32)).astype(np.float32)
    with runs_in(folder / "runs"):
        export_run(run, folder / "float32", policy)
        export_int8(run, folder / "int8", policy)
    join_stages(shutil.copytree(folder / "float32", folder / "single"))
    return Made(run, policy, folder, images, {kind: answers(folder / kind, images) for kind in KINDS})


def answers(folder: Path, images: Any) -> list[Any]:
    """What an export gives for images: exits and labels of its engine, and of its single graph where it has one."""
    engine = OnnxEngine(folder)
    found = engine.infer(images)
    return [found.exit.tolist(), found.label.tolist(), engine.all_logits(images).tolist()]


def trial(made: Made, place: Path, chance: random.Random) -> str:
    from dmpo_explore.inference.torch_export import is_exported

    kind = chance.choice(list(KINDS))
    folder = shutil.copytree(made.folder / kind, place / "export")
    files = [MODEL, POLICY, *map(stage_file, range(2)), *([SINGLE] * 2 if kind == "single" else [])]
    file = folder / chance.choice(files)
    before, edit = file.read_bytes(), chance.choice((*EDITS, *MOVES))
    if edit in MOVES:
        edit(file, made.folder / chance.choice(list(KINDS)) / chance.choice(files))
    else:
        file.write_bytes(edit(before, chance))
    same = file.is_file() and file.read_bytes() == before
    what = f"{kind}: {edit.__name__} of {file.name}"
    if not same and file.name != MODEL and is_exported(made.run, folder, made.policy, **KINDS[kind]):
        raise Wrong(f"{what}: it is taken for whole")
    try:
        found = answers(folder, made.images)
    except CLEAR as error:
        if not any(name in str(error) for name in files) or len(str(error)) > 1000:
            raise Wrong(f"{what}: the error names no file: {error}") from error
        raise
    if found != made.answers[kind] and file.name not in (MODEL, POLICY):  # whose other values may be meant
        raise Wrong(f"{what}: other answers")
    return what


def gone(file: Path, other: Path) -> None:
    del other
    file.unlink()


def exchanged(file: Path, other: Path) -> None:
    if other.is_file():
        shutil.copyfile(other, file)


MOVES = (gone, exchanged, exchanged, link, folder)
