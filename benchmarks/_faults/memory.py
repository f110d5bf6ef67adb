"""The memory that recording takes, at two numbers of images.

In: the numbers. Out: `run`, the peak resident memory of a fresh process for each. A stand-in takes the model's place,
random logits of 4 exits and 1,000 classes; what is kept of them is written as `record_run` writes it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from .outcome import Outcome

EXITS, CLASSES, BATCH = 4, 1000, 250
MORE = 50.0  # MiB that ten times the images may add


def run(sizes: tuple[int, int] = (2_000, 20_000)) -> Outcome:
    """Record so many images each; the second survives if it takes at most `MORE` MiB more than the first."""
    outcome, peaks = Outcome(), []
    for images in sizes:
        peaks.append(peak(images))
        outcome.trials += 1
    outcome.note = " and ".join(
        f"{mib:.0f} MiB for {images:,} images" for mib, images in zip(peaks, sizes, strict=True)
    )
    if peaks[1] > peaks[0] + MORE:
        outcome.wrong(outcome.note)
    return outcome


def peak(images: int) -> float:
    """MiB at most while ``images`` are recorded in a fresh process."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "_faults.memory", folder, str(images)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1])
        return float(json.loads(done.stdout))


def write(folder: Path, images: int) -> float:
    """Record in this process; its peak memory in MiB."""
    import torch
    from scale import peak_mib

    from dmpo_explore.inference.torch_recording import as_batch
    from dmpo_explore.records.record import RecordMeta
    from dmpo_explore.records.writer import RecordWriter

    names, exits = tuple(map(str, range(CLASSES))), tuple(range(1, EXITS + 1))
    meta = RecordMeta("made up", "val", names, exits, tuple(map(float, exits)), float(EXITS))
    writer, generator = RecordWriter(folder / "val", meta, images, batch_size=BATCH, made_from={}), torch.Generator()
    with writer.begin():
        for batch in range(writer.n_batches):
            rows = writer.rows(batch)
            count = rows.stop - rows.start
            logits = torch.randn(count, EXITS, CLASSES, generator=generator)
            labels = torch.randint(CLASSES, (count,), generator=generator).numpy()
            writer.write(batch, as_batch(logits, labels, keep_logits=True))
        writer.finish()
    return peak_mib()


if __name__ == "__main__":
    print(write(Path(sys.argv[1]), int(sys.argv[2])))
