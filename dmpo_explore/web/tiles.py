"""The images that a page plays, the slider of its policy's threshold, and a run's facts in words."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from ..analysis.metrics import Outcome
from ..analysis.sliders import Slider, exit_limits, exits_at, slider_counts
from ..data.splits import stratified_rows
from ..figures.wall import EXACT, smaller_image
from ..policies.base import Policy, count_answers
from ..records.record import ExitRecord
from ..runs.run import Run
from ..utils.texts import data_name
from ..utils.typing import Array, Bools, Ints
from .single import PageFiles


def slider_of(policy: Policy, outcome: Outcome) -> Slider:
    """Positions of a single threshold on the record of ``outcome``, which is ``policy``'s.

    A single exit, or a policy without a single threshold to move, has one position: that of ``outcome``.
    """
    record = outcome.record
    if record.n_exits > 1 and policy.sweeps and len(policy.thresholds) == 1:
        return slider_counts(record, policy).sliders[0]
    counts = count_answers(record, outcome.exits).reshape(1, -1)
    return Slider(policy.thresholds[:1], counts, None)


def exits_of(rows: Ints, policy: Policy, outcome: Outcome, slider: Slider) -> Array:
    """(G, n) 0-based exit of the images at ``rows`` of the record, at every position of `slider_of`'s slider."""
    if len(slider.thresholds) == 1:
        return outcome.exits[None, rows]
    record = outcome.record
    limits = exit_limits(record, policy, [slider.thresholds])
    if limits is None:  # of the whole record: what a policy draws may depend on the row
        return exits_at(record, policy, slider.thresholds)[:, rows]
    return np.asarray((np.arange(len(slider.thresholds))[:, None, None] >= limits[rows]).sum(axis=2))


def rule_of(policy: Policy, fixed: bool) -> str:
    """When an image exits, in words; ``fixed``: with the thresholds' values, else with "the threshold"."""
    rule = policy.rule.replace("**", "")
    return rule.format(", ".join(f"{threshold:.4g}" for threshold in policy.thresholds) if fixed else "the threshold")


def facts_of(run: Run, record: ExitRecord) -> list[str]:
    """What the run is."""
    meta = record.meta
    blocks = ", ".join(map(str, meta.exit_blocks))
    facts = [f"{meta.model or 'a model'} on {data_name(meta.data)}, {record.n_images:,} {meta.split} images, "
             f"{len(meta.class_names):,} classes"]  # fmt: skip
    facts.append(f"{record.n_exits} exits, after blocks {blocks}" if record.n_exits > 1 else "one exit")
    try:
        model, training = run.config.model, run.config.training
    except (OSError, ValueError):  # scores of another model
        return facts
    facts.append(
        f"{model.image_size} px; tuning {model.tuning}, bypass {model.bypass}, predictor {model.predictor}; "
        f"{training.epochs} epochs, schedule {training.schedule}, seed {training.seed}"
    )
    return facts


# Pictures of a page: a sheet with a small one for each tile, larger ones that run through the network, and a few to

SAMPLES = 18  # pictures to classify
SMALL = 48  # pixels of a tile's side where images are larger than `EXACT`
RUNNING = 320  # pixels of the longer side of a picture that runs through the network
LARGEST = 640  # pixels of the longer side of a picture to classify
COLUMNS = 40
FOLDER = "pictures"
Pixels = npt.NDArray[np.uint8]


def write_pictures(place: PageFiles, images: Sequence[Pixels], samples: Sequence[int] = ()) -> dict[str, Any]:
    """Add the sheet, and files of ``samples`` where the sheet is not exact.

    Args:
        images: of the tiles, in their order. samples: positions among them.

    Returns:
        ``sheet``, a file; ``columns``; ``width`` and ``height`` of a cell; ``exact``; ``samples``: position → file.
    """
    exact = len({image.shape for image in images}) == 1 and max(images[0].shape[:2]) <= EXACT
    height, width = images[0].shape[:2] if exact else (SMALL, SMALL)
    rows = -(-len(images) // COLUMNS)
    sheet = np.full((rows * height, COLUMNS * width, 3), 255, np.uint8)
    for i, image in enumerate(images):
        top, left = i // COLUMNS * height, i % COLUMNS * width
        sheet[top : top + height, left : left + width] = image if exact else _square(image, SMALL)
    files = {} if exact else {i: _encoded(_within(images[i], LARGEST), "png") for i in samples}
    kind = "png" if exact else "jpg"
    return {
        "sheet": place.add(f"{FOLDER}/sheet.{kind}", _encoded(_drawn(sheet), kind)), "columns": COLUMNS,
        "width": width, "height": height, "exact": exact,
        "samples": {str(i): place.add(f"{FOLDER}/{i + 1:04}.png", content) for i, content in files.items()},
    }  # fmt: skip


def write_running(place: PageFiles, images: Sequence[Pixels]) -> list[dict[str, Any]]:
    """Add the pictures that run through the network; returns their files."""
    kinds = ["png" if max(image.shape[:2]) <= EXACT else "jpg" for image in images]
    return [
        place.add(f"{FOLDER}/running-{i + 1}.{kind}", _encoded(smaller_image(image, RUNNING), kind))
        for i, (image, kind) in enumerate(zip(images, kinds, strict=True))
    ]


def _square(image: Pixels, side: int) -> Pixels:
    return np.asarray(ImageOps.fit(Image.fromarray(image), (side, side), Image.Resampling.LANCZOS).convert("RGB"))


def _within(image: Pixels, side: int) -> Image.Image:
    picture = Image.fromarray(image)
    picture.thumbnail((side, side))
    return picture


def _drawn(sheet: Pixels) -> Image.Image:
    grey = bool((sheet == sheet[..., :1]).all())
    return Image.fromarray(np.ascontiguousarray(sheet[..., 0] if grey else sheet))


def _encoded(picture: Image.Image, kind: str) -> bytes:
    stream = io.BytesIO()
    if kind == "jpg":
        picture.save(stream, "JPEG", quality=82)
    else:
        picture.save(stream, "PNG", optimize=True)
    return stream.getvalue()


def varied(exits: Ints, labels: Ints, amount: int = SAMPLES) -> list[int]:
    """Positions of images to classify: every exit in turn, classes that were not taken yet first."""
    taken: list[int] = []
    while len(taken) < min(amount, len(exits)):
        for exit in np.unique(exits):
            left = [i for i in np.flatnonzero(exits == exit).tolist() if i not in taken]
            if left and len(taken) < amount:
                seen = [labels[i] for i in taken]
                taken.append(min(left, key=lambda i: seen.count(labels[i])))
    return taken


# The images that a page plays: a thousand of the record as tiles, and three that run through the network one by one.
#
# In: an outcome of the page's policy, and the slider's positions. Out: rows of the record, and for the page each tile's
# label, its answers and scores at all exits, and its exit at every position of the slider, as the library decides it.

TILES = 1000
COMPUTED = ("confidence", "margin", "entropy")  # scores that a page computes and draws


def tile_rows(record: ExitRecord, amount: int = TILES) -> Ints:
    """At most ``amount`` rows, drawn at random (seed 0) from every class in proportion, in the order of classes."""
    rows = stratified_rows(record.labels, min(amount, record.n_images))
    return rows[np.argsort(record.labels[rows], kind="stable")]


def drawn_score(policy: Policy) -> str:
    """The score that the page draws at every exit: what the policy compares, else the confidence."""
    compared = policy.compared_score()
    return compared if compared in COMPUTED and policy.per_exit_thresholds else "confidence"


def write_tiles(place: PageFiles, rows: Ints, policy: Policy, outcome: Outcome, slider: Slider) -> dict[str, Any]:
    """Add the arrays of the tiles, little-endian without a header; returns ``rows`` and the arrays' entries.

    ``labels`` (n,), ``predictions`` and ``scores`` (n, K) at the policy's temperatures, ``exits`` (G, n), 0-based.
    """
    record = outcome.record
    narrow = "<u1" if len(record.meta.class_names) <= 256 else "<u2"
    arrays = {
        "labels": record.labels[rows].astype(narrow),
        "predictions": record.prediction[rows].astype(narrow),
        "scores": record.score(drawn_score(policy))[rows].astype("<f4"),
        "exits": exits_of(rows, policy, outcome, slider).astype("<u1"),
    }
    entries = {
        name: place.add(f"record/{name}.bin", np.ascontiguousarray(array).tobytes()) | {"type": array.dtype.name}
        for name, array in arrays.items()
    }
    return {"rows": rows.tolist(), **entries}


def runner_rows(outcome: Outcome, score: Array, *, falling: bool = False) -> list[int]:
    """Rows of up to three images to run through the network: an easy, a hard, and an early incorrect one.

    The easy one is correct at exit 1; the hard one goes as deep as any, is incorrect at exit 1 and correct where it
    exits; the third is incorrect where it exits although the last exit is correct. Where no image is like that, the
    next best one is taken, or none.

    Args:
        score: (B, K) that is drawn; ``falling``: an exit is sure at small values.
    """
    record, exits, correct = outcome.record, outcome.exits, outcome.correct
    at_exit = np.take_along_axis(np.asarray(score), exits[:, None], axis=1)[:, 0] * (-1 if falling else 1)
    deepest, last = exits.max(), record.n_exits - 1
    full, first = record.correct[:, -1], record.correct[:, 0]
    easy = [(exits == 0) & correct & record.correct.all(axis=1), correct & (exits < deepest)]
    hard = [(exits == deepest) & correct & ~first, (exits == deepest) & correct, exits == deepest]
    late = (exits < last) & ~correct
    wrong = [late & full & (exits > 0), late & full, late]
    taken: list[int] = []
    if record.n_exits == 1:  # no image exits early
        return taken
    for kinds, place in ((easy, 0.9), (hard, 0.8), (wrong, 0.5)):
        if (row := _at_quantile(kinds, at_exit, place, taken)) is not None:
            taken.append(row)
    return taken


def _at_quantile(kinds: list[Bools], values: Array, place: float, taken: list[int]) -> int | None:
    """Of the first of ``kinds`` that some image meets, the row at a quantile of ``values``."""
    for kind in kinds:
        rows = np.setdiff1d(np.flatnonzero(kind), taken)
        if len(rows):
            order = rows[np.argsort(values[rows], kind="stable")]
            return int(order[int(place * (len(order) - 1))])
    return None
