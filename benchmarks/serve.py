"""The service of an export under load: requests a second, and p95 at the same rate. `scripts/bench serve [--write]`

In: a run whose images and backbone are here. Out: a row per arm: the plain model, early exit as one graph, early exit
in stages with a queue before each (refill), with batches and image by image. Every arm is the same `serve.py` in a
process of its own; only the graphs and ``--batch`` differ. With ``--write`` ``benchmarks/results/serve.csv``, and from
it the table of ``benchmarks/EVIDENCE.md``.

Two loads: ``--clients`` that send the next image when they have the answer (requests a second), then images at random
times, at the same rate for all arms: ``--share`` of what the plain model with batches answered (p50, p95 from the time
an image was due). Arms run in turn, ``--rounds`` times, in alternating order; the figures are medians over rounds. The
clients share the machine's cores with the service. Close other programs first.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

import dmpo_explore as dx
from _common.command import parser
from _common.ports import free_port, serving
from _common.results import PAGE, renew, write_table
from _common.timing import machine
from _faults.hostile_images import encoded
from _speed.arms import export_plain
from dmpo_explore.utils.files import read_json, write_json

WARM_UP = 1.5  # seconds
SENT = 200  # different images
ARMS = {  # name → folder, --batch or its default; the first sets the rate of the others
    "plain model": ("plain", None),
    "plain model, image by image": ("plain", 1),
    "one graph": ("single", None),
    "one graph, image by image": ("single", 1),
    "stages with refill": ("stages", None),
    "stages, image by image": ("stages", 1),
}


def main(arguments: list[str] | None = None) -> int:
    """Measure the arms, print their table and write it if requested."""
    given = parser(__doc__)
    given.add_argument("--run", default="demo", help="a run on a plain ViT")
    given.add_argument("--flops", type=float, default=0.3, help="budget of the policy")
    given.add_argument("--clients", type=int, default=20)
    given.add_argument("--share", type=float, default=0.8, help="of the plain model's requests a second")
    given.add_argument("--seconds", type=float, default=20, help="of each load, arm and round")
    given.add_argument("--rounds", type=int, default=3)
    given.add_argument("--threads", type=int, default=2, help="of a stage")
    given.add_argument("--write", action="store_true", help="keep the result and renew benchmarks/EVIDENCE.md")
    options = given.parse_args(arguments)
    if options.list:
        print("\n".join(ARMS))
        return 0
    with tempfile.TemporaryDirectory() as place:
        table = measured(options, Path(place))
    print(as_markdown(table))
    if options.write:
        write_table("serve", table)
        renew(PAGE, "serve", f"{about(table, options)}\n\n{as_markdown(table)}")
    return 0


def measured(options: argparse.Namespace, place: Path) -> pd.DataFrame:
    """A row per arm: medians over the rounds."""
    facts, files, found = machine(options.threads), exports(options, place), []
    rate = 0.0
    for r in range(options.rounds):
        for name in [*ARMS][:: 1 if r % 2 == 0 else -1]:
            print(f"{time.strftime('%H:%M:%S')} round {r + 1}/{options.rounds}: {name}", file=sys.stderr, flush=True)
            folder, batch = ARMS[name]
            with started(place / folder, batch, options.threads) as port:
                load(port, files, options.clients, WARM_UP)
                busy = load(port, files, options.clients, options.seconds)
                rate = rate or options.share * len(busy.seconds) / options.seconds
                calm = load(port, files, options.clients, options.seconds, rate=rate)
                found.append({
                    "arm": name,
                    "requests_per_s": len(busy.seconds) / options.seconds, "busy_p95_ms": busy.ms(0.95),
                    "rate": rate, "p50_ms": calm.ms(0.5), "p95_ms": calm.ms(0.95),
                    "failed": busy.failed + calm.failed, "last_batch": mean_batch(port),
                })  # fmt: skip
    arms = pd.DataFrame(found).groupby("arm", sort=False)
    table = arms.median().assign(failed=arms["failed"].sum()).loc[[*ARMS]].reset_index()
    return table.assign(clients=options.clients, rounds=options.rounds, seconds=options.seconds, **facts)


# -- the services --


def exports(options: argparse.Namespace, place: Path) -> list[bytes]:
    """Write the folders of `ARMS`; returns the images that are sent, as PNG files."""
    run = dx.load_run(options.run)
    policy = dx.fit_policy(run.record(run.fitting_split), flops=options.flops)
    stages, single = place / "stages", place / "single"
    dx.inference.export_run(run, stages, policy)
    dx.inference.add_service(stages)
    dx.inference.join_stages(stages)
    dx.inference.add_service(export_plain(run, place / "plain", dx.policies.ConfidencePolicy((1.01,))))
    single.mkdir()
    for name in ("weights.bin", "serve.py", "run.py", "policy.json", "single.onnx"):
        # a copy: the runtime refuses links
        (single / name.replace("single", "stage1")).write_bytes((stages / name).read_bytes())
    write_json(  # one stage, at which all exit, and not the one whose SHA-256 is known
        single / "model.json",
        read_json(stages / "model.json") | {"stages": [{"file": "stage1.onnx"}], "sha256": {}},
    )
    pixels = run.image_set("test")
    pictures = (Image.fromarray(np.asarray(pixels[i])).convert("RGB") for i in range(min(SENT, len(pixels))))
    return [encoded(picture, "PNG") for picture in pictures]


@contextmanager
def started(folder: Path, batch: int | None, threads: int) -> Iterator[int]:
    """The service of a folder, as long as the block lasts; its port."""
    port = free_port()
    command: list[object] = [sys.executable, folder / "serve.py", "--port", port, "--threads", threads]
    command += [] if batch is None else ["--batch", batch]
    with serving(command, port, "/health"):
        yield port


def mean_batch(port: int) -> float:
    """Images of a batch at the last stage, on average; NaN where it ran none."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
        said = answer.read().decode().splitlines()
    lines = dict(line.rsplit(" ", 1) for line in said if not line.startswith("#"))
    kinds = [f"early_exit_stage_{kind}_total" for kind in ("images", "batches")]
    last = max(name.partition("{")[2] for name in lines if name.startswith(kinds[0]))
    images, batches = (float(lines[f"{kind}{{{last}"]) for kind in kinds)
    return images / batches if batches else float("nan")


# -- the load --


@dataclass
class Answered:
    """Seconds of each answered request, and how many were not."""

    seconds: list[float]
    failed: int = 0

    def ms(self, share: float) -> float:
        """A quantile in milliseconds."""
        return 1000 * float(np.quantile(self.seconds, share)) if self.seconds else float("nan")


def load(port: int, files: Sequence[bytes], clients: int, seconds: float, rate: float = 0.0) -> Answered:
    """Requests of some clients for a time, each over a connection that stays open.

    Args:
        rate: requests a second at random times, by any client that is free; 0: as fast as they are answered.
            Seconds then count from when a request was due.
    """
    found, lock, begin = Answered([]), threading.Lock(), time.perf_counter()
    gaps = np.random.default_rng(0).exponential(1 / rate, int(2 * rate * seconds) + 10) if rate else np.zeros(0)
    due = iter(begin + gaps.cumsum())

    def next_time() -> float | None:
        with lock:
            at = next(due) if rate else time.perf_counter()
        return at if at - begin < seconds else None

    def client(number: int) -> None:
        connection = HTTPConnection("127.0.0.1", port, timeout=60)
        rows = np.random.default_rng(number).permutation(len(files))
        sent = 0
        while (at := next_time()) is not None:
            time.sleep(max(0.0, at - time.perf_counter()))
            try:
                connection.request("POST", "/image", files[rows[sent % len(rows)]])
                answer = connection.getresponse()
                answer.read()
                answered = answer.status == 200
            except (OSError, HTTPException):  # it took too long or broke off; the next request connects anew
                connection.close()
                answered = False
            sent += 1
            with lock:
                if answered:
                    found.seconds.append(time.perf_counter() - at)
                else:
                    found.failed += 1
        connection.close()

    number = clients * (3 if rate else 1)  # enough that a request need not wait for a free one
    with ThreadPoolExecutor(number) as pool:
        list(pool.map(client, range(number)))
    return found


# -- the table --


def about(table: pd.DataFrame, options: argparse.Namespace) -> str:
    """What was measured, in words."""
    row = table.iloc[0]
    budget, share, rate = f"{options.flops:.0%}", f"{options.share:.0%}", f"{row['rate']:.0f}"
    return (
        f"`{options.run}` at {budget} of the compute, {row['threads']} threads on {row['cpu']}, load {row['load']} at "
        f"the start; medians of {options.rounds} rounds (`scripts/bench serve --write`). Requests a second: "
        f"{options.clients} clients that send the next image once they have the answer. p50 and p95: images at random "
        f"times, {rate} a second for every form, which is {share} of what the plain model answers."
    )


def as_markdown(table: pd.DataFrame) -> str:
    """The table of benchmarks/EVIDENCE.md."""
    digits = {"requests_per_s": ".0f", "p50_ms": ".1f", "p95_ms": ".1f", "last_batch": ".1f", "failed": ".0f"}
    titles = ["form", "requests/s", "p50 ms", "p95 ms", "images of a batch at the last stage", "failed"]
    return str(table[["arm", *digits]].to_markdown(index=False, headers=titles, floatfmt=["", *digits.values()]))


if __name__ == "__main__":
    sys.exit(main())
