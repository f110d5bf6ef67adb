"""benchmarks/SCALE.md: what recording and records cost by number of images, and what that makes for ImageNet.

In: ``recording.json``, ``scale.json`` and ``speed.json`` of benchmarks/results. Out: the page. What is calculated from
them is said to be calculated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import dmpo_explore as dx
from dmpo_explore.utils.files import read_json, write_text

PAGE = Path(__file__).parents[1] / "SCALE.md"
STEPS = ("open_s", "fit_s", "trade_off_s", "threshold_s")
Row = dict[str, Any]
TARGETS = {  # data → images and classes
    "ImageNet-1k, val": (50_000, 1_000),
    "ImageNet-1k, train": (1_281_167, 1_000),
    "ImageNet-21k": (14_197_122, 21_841),
}
MODEL = dx.ModelConfig("vit_small_patch14_dinov2", "random", 224, exits=12)
SCORE_BYTES = 4 * 4  # prediction, confidence, entropy and margin of an exit
IMAGE_BYTES = 2 * 8  # label and number of an image

PAGE_TEXT = """# Large data sets

*For practitioners with more images than fit a laptop.* What recording and records cost by number of images. ImageNet
was not at hand: the last table is calculated from the measured ones. [Several GPUs and large data](../docs/scale.md)
has the commands.

## Recording, measured

`dmpo-explore record` in two processes of torchrun (`{command}`, {cpu}, load {load}, {load_of}): tar shards
of small JPEGs, 100 classes, a tiny model. So the table has everything but the model: checking the images against the
manifest, decoding, scores, logits, writing. *CPU s* is of both processes and their start.

{recordings}

- One image more costs {image_ms:.2f} ms of CPU on average.
- Batches are written as they are computed, so logits and scores take no memory. What grows is the list of the images
  with their hashes: {image_kib:.1f} KiB an image in every process.
- A stopped recording continues at the batch that is missing. Processes share the batches; the files
  are those of one process.

## Records, measured

Synthetic records in one fresh process each (`scripts/bench scale --write`), without torch. Above 500,000 values
(images × early exits) scores are counted in bins.

{records}

*Peak* includes the pages of the files that were read; the system may take these back.

## ImageNet, calculated

{model}, on two cores of the machine above. A photograph of 500 × 375 pixels takes {photograph:.1f} ms of CPU to
decode and resize (measured). The model's time is its FLOPs at {gflops:.0f} GFLOP/s, the plain model's rate in batches
of 64 ([Speed](SPEED.md#batch-64)).

{imagenet}

What follows:

- On a CPU the model takes nearly all of the time: record ImageNet's train split on GPUs. [No GPU was
  measured](GPU.md).
- Leave out logits of many classes (`--no-logits`): all policies but calibrated ones work on the scores.
- The list of ImageNet-21k takes {listed:.0f} GiB in every process. Divide such data into several runs, or record a
  sample of it: the accuracies of 50,000 images have a standard error of 0.22 points at most.
- Thresholds, curves and the app read scores only, so they work for all three. The app's mosaic shows a stated sample.
"""


def write_page(results: Path) -> None:
    """Write benchmarks/SCALE.md from the results that are there; nothing without all of them."""
    files = [results / f"{name}.json" for name in ("recording", "scale", "speed")]
    if all(file.is_file() for file in files):
        write_text(PAGE, page(*map(read_json, files)))


def page(recording: Mapping[str, Any], scale: Mapping[str, Any], speed: Mapping[str, Any]) -> str:
    """The text of the page."""
    from dmpo_explore.models.flops import config_flops  # imports torch, which `scale` measures without

    image_ms, image_mib, base_mib = slopes(recording["rows"])
    flops = config_flops(MODEL, 1_000)
    rate = plain_rate(speed) * config_flops(dx.load_run(speed["run"]).config.model, 10).reference / 1e9
    return PAGE_TEXT.format(
        command=recording["command"],
        cpu=recording["cpu"],
        load=recording["load"],
        load_of=recording["load_of"],
        recordings="\n".join(recordings(recording["rows"])),
        image_ms=image_ms,
        image_kib=1024 * image_mib,
        records="\n".join(records(scale["rows"], {})),
        model=f"ViT-S/14 at 224 pixels with twelve exits, {flops.cumulative[-1] / 1e9:.1f} GFLOPs with all of them",
        photograph=recording["photograph_ms"],
        gflops=rate,
        listed=(base_mib + image_mib * TARGETS["ImageNet-21k"][0]) / 1024,
        imagenet="\n".join(imagenet(recording, scale["rows"], flops.cumulative[-1] / 1e9 / rate, image_mib, base_mib)),
    )


def slopes(rows: Sequence[Row]) -> tuple[float, float, float]:
    """CPU milliseconds and MiB of one process for one image more, from the smallest to the largest recording; and the
    MiB of a process without images."""
    first, last = rows[0], rows[-1]
    more = last["images"] - first["images"]
    mib = (last["largest_process_mib"] - first["largest_process_mib"]) / more
    return 1000 * (last["cpu_s"] - first["cpu_s"]) / more, mib, first["largest_process_mib"] - mib * first["images"]


def plain_rate(speed: Mapping[str, Any]) -> float:
    """Images per second of the plain model in batches of 64."""
    rows = speed["early-exit"]["rows"]
    return float(next(row["images_per_s"] for row in rows if (row["arm"], row["batch"]) == ("plain model", 64)))


def recordings(rows: Sequence[Row]) -> list[str]:
    """The measured recordings as Markdown."""
    cells = [["images", "processes", "seconds", "CPU s", "images/s", "largest process, MiB", "all, MiB", "record, MiB"]]
    for row in rows:
        names = ("seconds", "cpu_s", "images_per_s", "largest_process_mib", "together_mib", "record_mib")
        cells.append([f"{row['images']:,}", str(row["processes"]), *(f"{row[name]:,}" for name in names)])
    return dx.analysis.markdown(cells)


def records(rows: Sequence[Row], aims: Mapping[tuple[int, int], Mapping[str, float]]) -> list[str]:
    """The measured records as Markdown, with a column of aims that are met or missed where there are some."""
    heads = ["images", "exits", "open s", "fit s", "trade-off s", "one threshold ms", "peak MiB"]
    cells = [heads + ["aims"] * bool(aims)]
    for row in rows:
        wanted = aims.get((row["images"], row["exits"]), {})
        missed = [name.split("_s")[0].replace("_", " ") for name, most in wanted.items() if row[name] > most]
        verdict = "" if not wanted else f"missed: {', '.join(missed)}" if missed else "met"
        times = [f"{row[name]:.3g}" for name in STEPS[:3]] + [f"{1000 * row['threshold_s']:.3g}"]
        cells.append([f"{row['images']:,}", str(row["exits"]), *times, f"{row['peak_mib']:,}"] + [verdict] * bool(aims))
    return dx.analysis.markdown(cells)


def imagenet(
    recording: Mapping[str, Any], scale: Sequence[Row], model_s: float, image_mib: float, base_mib: float
) -> list[str]:
    """What the steps make for `TARGETS`: hours on the measured machine's cores, GiB."""
    image_ms, exits = slopes(recording["rows"])[0], 12
    hours = 3600 * recording["rows"][-1]["processes"]  # seconds of CPU in an hour
    rates = {row["images"]: row["trade_off_s"] / row["images"] for row in scale if row["exits"] == exits}

    def curve_s(images: int, classes: int) -> float:  # the rate of the largest record that is no larger
        return images * rates[max(size for size in rates if size <= images)]

    steps: list[tuple[str, str, Callable[[int, int], float]]] = [
        ("check, score and write, h", "CPU of each process", lambda n, c: n * image_ms / 1000 / hours),
        ("decode and resize, h", "CPU of each process", lambda n, c: n * recording["photograph_ms"] / 1000 / hours),
        ("the model, h", "GPU, or CPU in batches", lambda n, c: n * model_s / 3600),
        ("list of images, GiB", "memory of each process", lambda n, c: (base_mib + n * image_mib) / 1024),
        ("scores, GiB", "disk", lambda n, c: n * (exits * SCORE_BYTES + IMAGE_BYTES) / 2**30),
        ("logits, GiB", "disk, unless `--no-logits`", lambda n, c: n * exits * c * 2 / 2**30),
        ("curve of all thresholds, s", "numpy, in bins", curve_s),
    ]
    cells = [["step", *TARGETS, "runs on"]]
    for step, place, number in steps:
        values = [number(*size) for size in TARGETS.values()]
        cells.append([step, *(f"{value:,.0f}" if value >= 100 else f"{value:.2g}" for value in values), place])
    return dx.analysis.markdown(cells)
