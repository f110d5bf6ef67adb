"""A run exported in int8: faster and a quarter of the size, thresholds fitted again, and what it changes measured.

In: a `Run` with its images of training and of calibration (or val), and a fitted policy. Out: an export
(`torch_export`) whose trunk multiplies in int8 (`onnx_int8`), its policy fitted to the same target on the int8 model's
answers, and in model.json how many images are classified otherwise than by the float32 model.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..data.splits import stratified_rows
from ..fitting.fit import fit_again
from ..policies.base import Policy
from ..policies.catalogue import load_policy
from ..records.record import ExitRecord
from ..runs.any_model import record_logits
from ..runs.run import Run
from ..utils.files import atomic_folder, read_json, sealed, unseal, write_json
from ..utils.typing import Ints, Report, at_exits
from .export_texts import write_texts
from .onnx_description import describe, metadata
from .onnx_engine import MODEL, POLICY, OnnxEngine, stage_file
from .onnx_int8 import quantise_export
from .torch_export import check_place, export_run, record_digest

RANGES = 128  # training images whose activations set the ranges
BATCH = 50


@dataclass(frozen=True)
class Int8Comparison:
    """The int8 model beside the float32 model, on the images that its thresholds were fitted on.

    Args:
        split, images: where, how many. accuracy, float32: of the two with their own fitted policies.
        rescued, hurt: images that only int8, only float32 classifies correctly, with these policies.
        same: (K,) share of images with the same prediction at each exit.

    Example:
        >>> print(Int8Comparison("calibration", 1000, 0.91, 0.912, 3, 5, (0.99, 0.991)).described())
        int8 on 1,000 images of calibration: 91.0 % correct, float32 91.2 %; 3 rescued, 5 hurt
    """

    split: str
    images: int
    accuracy: float
    float32: float
    rescued: int
    hurt: int
    same: tuple[float, ...]

    def described(self) -> str:
        """In words."""
        ours, theirs = (f"{100 * share:.1f} %" for share in (self.accuracy, self.float32))
        found = f"int8 on {self.images:,} images of {self.split}: {ours} correct, float32 {theirs}"
        return f"{found}; {self.rescued:,} rescued, {self.hurt:,} hurt"


def export_int8(
    run: Run, out: str | Path, policy: Policy, *, images: int | None = None, force: bool = False,
    progress: Report | None = None,
) -> Path:  # fmt: skip
    """Export a run in int8; `compared` reads what it changes.

    Args:
        policy: fitted to a target; it is fitted to the same target again. One set by hand stays as it is.
        images: how many of calibration it is fitted and compared on, evenly drawn by class; None: all of them; 0: it
            stays, and nothing is compared.
        force: replace an earlier export.
        progress: called with (what is done, done, in all).

    Raises:
        FileNotFoundError: the images or the backbone have to be fetched first.
        ValueError: fewer than 0 images, no record of calibration, or as `export_run`.
        Others: as `export_run`.

    Example:
        >>> import dmpo_explore as dx
        >>> run = dx.load_run("demo")
        >>> export_int8(run, "demo-int8", run.policies()["confidence-30%"])  # doctest: +SKIP
        PosixPath('demo-int8')
    """
    out = Path(out)
    check_place(out, force=force)
    if images is not None and images < 0:
        raise ValueError(f"images={images} must be at least 0")
    record = None if images == 0 else run.record(run.fitting_split)
    report = progress or (lambda what, done, total: None)
    ranges = _range_images(run)
    with atomic_folder(out) as folder:
        plain = folder / "float32"
        export_run(run, plain, policy, progress=lambda done, total: report("stages", done, total))
        shutil.copytree(plain, folder, dirs_exist_ok=True)
        shutil.rmtree(plain)
        unseal(folder, MODEL)
        quantise_export(folder, ranges, lambda done, total: report("int8", done, total))
        facts: dict[str, Any] = {"precision": "int8"}
        if record is not None:
            rows = stratified_rows(record.labels, min(images or record.n_images, record.n_images))
            theirs, ours = record.subset(rows), _recorded(OnnxEngine(folder), run, record, rows, report)
            fitted = fit_again(policy, ours)
            fitted.save(folder / POLICY)
            facts |= record_digest(fitted)
            facts["int8"] = asdict(compare(theirs, fit_again(policy, theirs), ours, fitted))
        facts = read_json(folder / MODEL) | facts
        write_texts(folder, facts, load_policy(folder / POLICY))
        for k in range(len(facts["stages"])):
            describe(folder / stage_file(k), metadata(facts, load_policy(folder / POLICY), k))
        write_json(folder / MODEL, sealed(folder, MODEL, facts))
    return out


def compared(path: str | Path) -> Int8Comparison | None:
    """What the export at ``path`` changes; None for one that was not compared, or is in float32.

    Example:
        >>> compared("demo-int8").described()  # doctest: +SKIP
        'int8 on 5,000 images of calibration: 92.2 % correct, float32 92.2 %; 16 rescued, 17 hurt'
    """
    facts = read_json(Path(path) / MODEL).get("int8")
    return Int8Comparison(**facts | {"same": tuple(facts["same"])}) if facts else None


def compare(theirs: ExitRecord, their_policy: Policy, ours: ExitRecord, our_policy: Policy) -> Int8Comparison:
    """Two records of the same images, each under its own policy: ``theirs`` of float32, ``ours`` of int8."""
    a, b = (at_exits(r.correct, p.exits(r)) for r, p in ((theirs, their_policy), (ours, our_policy)))
    same = (theirs.prediction == ours.prediction).mean(axis=0)
    return Int8Comparison(
        ours.meta.split, ours.n_images, float(b.mean()), float(a.mean()), int((b & ~a).sum()), int((a & ~b).sum()),
        tuple(map(float, same)),
    )  # fmt: skip


def _recorded(engine: OnnxEngine, run: Run, record: ExitRecord, rows: Ints, report: Report) -> ExitRecord:
    """The engine's answers for these rows of the record."""
    meta = record.meta

    def batches() -> Iterator[tuple[Any, Any]]:
        for first in range(0, len(rows), BATCH):
            part = rows[first : first + BATCH]
            yield engine.all_logits(np.asarray(run.inputs(meta.split, part))), record.labels[part]
            report("fit the policy", first + len(part), len(rows))

    return record_logits(
        batches(), flops=meta.flops, reference_flops=meta.reference_flops, class_names=run.class_names,
        data=meta.data, split=meta.split, exit_blocks=meta.exit_blocks,
    )  # fmt: skip


def _range_images(run: Run) -> Any:
    """Training images, evenly spread over the split; no label is read, and calibration fits thresholds alone."""
    n = len(run.image_set("train"))
    return np.asarray(run.inputs("train", np.unique(np.linspace(0, n - 1, RANGES).astype(int))))
