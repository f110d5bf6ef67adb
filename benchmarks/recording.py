"""Recording of a large split by several processes: time and memory by number of images. `scripts/bench recording`

In: nothing. Tar shards of small JPEGs (32 px, 100 classes, 2,000 different pictures) are written to a temporary
folder (2.6 GB for a million), and a tiny model (timm's `test_vit`, two exits, random weights) is trained on a few of
them. Out: a row per number of images: seconds and images/s of ``dmpo-explore record`` in processes of torchrun, and
the peak resident memory of the largest one and of all together; with ``--write``
``benchmarks/results/recording.json`` and the table of ``EVIDENCE.md``. The model is as cheap as can be, so what is
measured is everything else: the manifest's check, decoding, scores, writing.

    scripts/bench recording                             # 10,000, 100,000 and 1,000,000 images, two processes
    scripts/bench recording --images 2000 --processes 1
"""

from __future__ import annotations

import io
import os
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import dmpo_explore as dx
from _common.command import parser
from _common.memory import PeakMemory
from _common.results import PAGE, RESULTS, renew
from _common.timing import machine
from _faults.hostile_images import encoded
from dmpo_explore.utils.files import write_json

COLUMNS = {  # title in the table → number of a row
    "images": "images", "processes": "processes", "seconds": "seconds", "CPU s": "cpu_s", "images/s": "images_per_s",
    "largest process, MiB": "largest_process_mib", "all, MiB": "together_mib", "record, MiB": "record_mib",
}  # fmt: skip
IMAGES, PROCESSES, CLASSES, SIDE = (10_000, 100_000, 1_000_000), 2, 100, 32
DIFFERENT, SHARD = 2_000, 10_000  # pictures; images in a shard
SMALL = {"backbone": "test_vit", "weights": "random", "image_size": SIDE, "exits": 2, "predictor": "linear", "rank": 4}


def jpegs(seed: int, count: int = DIFFERENT) -> list[bytes]:
    """``count`` different images as JPEG files, of noise that is smooth over 8 x 8 pixels."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(count):
        image = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)).resize((SIDE, SIDE))
        found.append(encoded(image, "jpeg", quality=80))
    return found


def numbered(jpeg: bytes, split: str, i: int) -> bytes:
    """The JPEG file with split and number as its comment, so that no two files are equal."""
    comment = f"{split} {i}".encode()
    return jpeg[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + jpeg[2:]


def write_shards(folder: Path, split: str, images: int, pool: list[bytes]) -> None:
    """Tar shards of ``images`` samples, as webdataset writes them."""
    folder.mkdir(parents=True, exist_ok=True)
    for start in range(0, images, SHARD):
        with tarfile.open(folder / f"{split}-{start // SHARD:04}.tar", "w") as shard:
            for i in range(start, min(images, start + SHARD)):
                for suffix, content in (
                    ("jpg", numbered(pool[i % len(pool)], split, i)),
                    ("cls", b"%d" % (i % CLASSES)),
                ):
                    member = tarfile.TarInfo(f"{i:08}.{suffix}")
                    member.size = len(content)
                    shard.addfile(member, io.BytesIO(content))


def make_run(folder: Path, images: int) -> str:
    """A trained run on shards of ``images`` test images; its name, in ``folder / "runs"``."""
    shards = folder / "shards"
    for seed, (split, size) in enumerate({"train": 200, "val": 100, "test": images}.items()):
        write_shards(shards, split, size, jpegs(seed))  # no image of one split is in another
    training = dx.TrainingConfig(epochs=1, batch_size=50, precision="no", validation_size=100)
    data = dx.DataConfig(f"wds/{shards}")
    dx.train(dx.Config(data, dx.ModelConfig(**SMALL), training), "large", device="cpu")
    return "large"


def cpu_of_children() -> float:
    """CPU seconds of all processes that this one started and that have ended, with theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(images: int, processes: int) -> dict[str, Any]:
    """Record ``images`` images by ``processes`` processes, started as a user starts them."""
    with tempfile.TemporaryDirectory() as place:
        os.environ["DMPO_EXPLORE_RUNS"] = str(Path(place) / "runs")
        start = time.perf_counter()
        name = make_run(Path(place), images)
        prepared = time.perf_counter() - start
        launcher = ["-m", "torch.distributed.run", "--nproc_per_node", str(processes), "-m", "dmpo_explore.cli"]
        command = [sys.executable, *launcher, "record", name, "--split", "test", "--device", "cpu"]
        start, cpu = time.perf_counter(), cpu_of_children()
        said = Path(place) / "said.txt"
        with (
            said.open("w") as log,
            subprocess.Popen(command, text=True, stdout=log, stderr=log) as process,
            PeakMemory(process.pid) as memory,
        ):
            process.wait()
        if process.returncode:
            raise RuntimeError(f"recording ended with status {process.returncode}: {said.read_text()[-3000:]}")
        seconds, cpu = time.perf_counter() - start, cpu_of_children() - cpu
        record = dx.load_run(name).record("test")
        assert record.n_images == images
        size = sum(file.stat().st_size for file in (Path(place) / "runs" / name / "records" / "test").rglob("*.*"))
    return {
        "images": images,
        "processes": processes,
        "seconds": round(seconds, 1),
        "cpu_s": round(cpu, 1),
        "images_per_s": round(images / seconds),
        "largest_process_mib": round(memory.largest),
        "together_mib": round(memory.children),
        "record_mib": round(size / 2**20, 1),
        "prepared_s": round(prepared, 1),
    }


def as_markdown(rows: list[dict[str, Any]]) -> list[str]:
    """The table of the page."""
    return dx.analysis.markdown([[*COLUMNS], *([f"{row[name]:,}" for name in COLUMNS.values()] for row in rows)])


def main(arguments: list[str] | None = None) -> int:
    """Record every number of images, print the table, and write the result if requested."""
    given = parser(__doc__)
    given.add_argument("--images", nargs="+", type=int, default=list(IMAGES))
    given.add_argument("--processes", type=int, default=PROCESSES)
    given.add_argument("--write", action="store_true", help="keep the result and renew benchmarks/EVIDENCE.md")
    options = given.parse_args(arguments)
    if options.list:
        print("\n".join(f"{images:,} images, {options.processes} processes" for images in options.images))
        return 0
    facts, rows = machine(threads=options.processes), []
    for images in options.images:
        rows.append(measure(images, options.processes))
        print("\n".join(as_markdown(rows[-1:])), flush=True)
    if options.write:
        write_json(RESULTS / "recording.json", {"command": "scripts/bench recording --write", **facts, "rows": rows})
        renew(PAGE, "recording", "\n".join(as_markdown(rows)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
