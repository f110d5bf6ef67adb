"""Novelty detection: share of images of other kinds, and of test images, flagged as unlike val. `scripts/bench novelty`

In: runs (default: the bundled `demo`, `demo-cnn` and `fashion`) and their fetched backbones. Out: a table,
benchmarks/results/novelty.csv and the table of benchmarks/EVIDENCE.md: of each kind, the share of images that the app
flags as novel (`NoveltyDetector.score` of at least 99 %), by logits where the record keeps them and by scores.

    scripts/bench novelty                      # a few minutes on two cores
    scripts/bench novelty --images 50 fashion     # fewer images, one run
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from sklearn.datasets import load_digits, load_sample_images

import dmpo_explore as dx
from _common.results import RESULTS, with_part
from dmpo_explore.utils.files import write_text

TABLE, PAGE = RESULTS / "novelty.csv", Path(__file__).parent / "EVIDENCE.md"
RUNS, NOVEL = ["demo", "demo-cnn", "fashion"], 0.99  # the share as in the app
Pixels = npt.NDArray[np.uint8]


def noise(rng: np.random.Generator) -> Pixels:
    """Colour noise."""
    return rng.integers(0, 256, (28, 28, 3), dtype=np.uint8)


def plain(rng: np.random.Generator) -> Pixels:
    """One colour."""
    return np.broadcast_to(rng.integers(0, 256, 3, dtype=np.uint8), (28, 28, 3)).copy()


def photograph(rng: np.random.Generator) -> Pixels:
    """A piece of one of scikit-learn's two photographs, 64 to 256 pixels wide."""
    photo = PHOTOS[rng.integers(len(PHOTOS))]
    side = int(rng.integers(64, 257))
    y, x = rng.integers(0, photo.shape[0] - side), rng.integers(0, photo.shape[1] - side)
    return np.asarray(photo[y : y + side, x : x + side])


def digits_image(rng: np.random.Generator) -> Pixels:
    """One of scikit-learn's digits, light on dark as Fashion-MNIST."""
    digit = DIGITS[rng.integers(len(DIGITS))]
    return np.repeat((digit * 15.9).astype(np.uint8)[..., None], 3, axis=2)


PHOTOS, DIGITS = load_sample_images().images, load_digits().images
KINDS: dict[str, Callable[[np.random.Generator], Pixels]] = {
    "noise": noise,
    "one colour": plain,
    "photographs": photograph,
    "digits": digits_image,
}


def images_by_kind(run: dx.Run, count: int) -> Iterator[tuple[str, list[Pixels]]]:
    """Kind → images: of test, the same corrupted, and images of other data."""
    rng = np.random.default_rng(0)
    of_test = run.image_set("test")
    known = [of_test[int(row)] for row in rng.choice(len(of_test), count, replace=False)]
    yield "test images", known
    yield "test images, inverted", [255 - image for image in known]
    yield "test images, upside down", [image[::-1].copy() for image in known]
    for name, kind in KINDS.items():
        yield name, [kind(rng) for _ in range(count)]


def measure(name: str, count: int) -> Iterator[dict[str, object]]:
    """A row for every kind and way of comparing."""
    run = dx.load_run(name)
    model, val = run.model(), run.record("val")
    detectors = [dx.analysis.novelty_detector(val), dx.analysis.novelty_detector(val, logits=False)]
    transform = dx.data.make_transform(model.preprocess)
    for kind, some in images_by_kind(run, count):
        batch = torch.stack([transform(image) for image in some])
        labels = np.zeros(len(some), np.int64)
        seen = dx.record_split(model, [(batch, labels)], replace(val.meta, indices=None))
        for detector in {each.by: each for each in detectors}.values():
            novelty = np.array([detector.score(seen.subset([i])) for i in range(len(some))])
            yield {
                "run": name,
                "by": detector.by,
                "kind": kind,
                "count": len(some),
                "flagged": float(np.mean(novelty >= NOVEL)),
                "median score": float(np.median(novelty)),
            }


def lines_of(table: pd.DataFrame) -> list[str]:
    """The page's table: per cent flagged, a row per kind, a column per run and way of comparing."""
    wide = table.pivot(index="kind", columns=["run", "by"], values="flagged").loc[table["kind"].unique()]
    wide = wide[list(dict.fromkeys(zip(table["run"], table["by"], strict=True)))]
    cells = [["images", *(f"`{run}`, by {by}" for run, by in wide.columns)]]
    cells += [[str(kind), *(f"{100 * share:.1f}" for share in row)] for kind, *row in wide.itertuples()]
    return dx.analysis.markdown(cells)


def main() -> None:
    """Measure every run, print the table and write it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", nargs="*", default=RUNS)
    parser.add_argument("--images", type=int, default=200, help="of each kind")
    options = parser.parse_args()
    table = pd.DataFrame([row for name in options.runs for row in measure(name, options.images)])
    print(table.to_markdown(index=False, floatfmt=".3f"))
    if options.images >= 200 and options.runs == RUNS:
        write_text(TABLE, table.to_csv(index=False, lineterminator="\n"))
        text = "\n".join(lines_of(table))
        write_text(PAGE, with_part(PAGE.read_text(encoding="utf-8"), "novelty", text))


if __name__ == "__main__":
    main()
