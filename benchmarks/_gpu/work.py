"""The other parts of the GPU benchmark: tests that need a card, a training with its records, Live in the app.

Each part calls ``keep`` with what it has found so far, so that one that fails or runs out of time leaves that behind.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import dmpo_explore as dx
from _gpu.inference import Keep
from _gpu.models import BUNDLED
from dmpo_explore.data.images import images_of
from dmpo_explore.jobs.estimate import measure_rates
from dmpo_explore.training.accelerator import device_use
from dmpo_explore.training.part_options import TeacherOptions

ROOT = Path(__file__).resolve().parents[2]
RECORDING = 0.4  # of the time for the training part: starting, its estimate, and the records afterwards
BUDGET = 0.3


class LeftOut(Exception):
    """A part that this machine cannot run; the text has the reason."""


def run_tests(device: str, *, quick: bool, keep: Keep) -> None:
    """`pytest -m cuda` on the files that have such tests; without a card they skip."""
    marked = [path for path in (ROOT / "tests").rglob("test_*.py") if "mark.cuda" in path.read_text(encoding="utf-8")]
    files = [str(path.relative_to(ROOT)) for path in sorted(marked) if path.name != "test_packaging.py"]
    chosen = files[-1:] if quick else files
    command = [sys.executable, "-m", "pytest", "-m", "cuda", "-q", "-p", "no:cacheprovider", *chosen]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    lines = done.stdout.strip().splitlines() or done.stderr.strip().splitlines()
    keep({"files": files, "status": done.returncode, "summary": lines[-1] if lines else "no output"})
    if done.returncode not in (0, 5):
        failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
        raise RuntimeError("; ".join(failed or lines[-3:]))


def train_and_record(device: str, seconds: float, *, quick: bool, keep: Keep) -> None:
    """The bundled run's recipe, in as many of its epochs as there is time for, then its records and accuracy."""
    config, notes = recipe(quick=quick)
    kind = device if device == "cuda" else "cpu"
    rates = measure_rates(config, kind)
    epochs = config.training.epochs
    one = dx.jobs.estimate_training(replace(config, training=replace(config.training, epochs=1)), rates)
    fitting = int(seconds * (1 - RECORDING) / max(1e-9, one.training[1] - rates.start))
    if not 1 <= epochs <= fitting:
        config = replace(config, training=replace(config.training, epochs=max(1, min(epochs, fitting))))
        notes.append(f"{config.training.epochs} of the recipe's {epochs} epochs, for want of time")
    found: dict[str, Any] = {"config": config.to_dict(), "notes": notes, "rates": asdict(rates), "epochs": []}

    def progress(epoch: dx.training.EpochResult) -> None:
        found["epochs"].append(epoch.row())
        keep(found)

    run = dx.train(config, "gpu", device=kind, progress=progress, force=True)
    found["images_per_s"] = round(rates.batch_size / statistics.median(rates.steps), 1)
    found["peak_mib"] = round(_peak(kind) / 2**20)
    keep(found)
    for split in (run.fitting_split, "test"):
        start = time.perf_counter()
        record = dx.record_run(run, split, device=kind)
        took = time.perf_counter() - start
        found.setdefault("records", []).append(
            {"split": split, "images": record.n_images, "images_per_s": round(record.n_images / took, 1)}
        )
        keep(found)
    found["accuracy"] = [round(float(a), 4) for a in record.correct.mean(axis=0)]
    lowest = max(BUDGET, float(record.flops_fraction[0]))
    policy = dx.fit_policy(run.record(run.fitting_split), "confidence", flops=lowest)
    found["at_budget"] = {"flops": lowest, **dx.apply(policy, record).summary()}
    keep(found)


def recipe(*, quick: bool) -> tuple[dx.Config, list[str]]:
    """The bundled run's config without its teacher, and what it lacks on this machine in words."""
    config, notes = dx.load_run(BUNDLED).config, []
    untaught = tuple(part for part in config.training.more if not isinstance(part, TeacherOptions))
    config = replace(config, training=replace(config.training, more=untaught))
    if quick:
        model = replace(config.model, backbone="test_vit", weights="random", image_size=32, exits=(2, 4, 6), channels=8)
        settings = replace(config.training, epochs=1, batch_size=20, precision="no", validation_size=20)
        return dx.Config(dx.DataConfig("digits", train_size=60), model, settings), ["a tiny model: no result"]
    try:
        images_of(config.data, "train")
    except (FileNotFoundError, OSError) as error:
        notes.append(f"digits instead of {config.data.name}, whose images are not here ({_first_line(error)})")
        config = replace(config, data=dx.DataConfig("digits"))
    try:
        dx.fetch_weights(config.model.backbone)
    except Exception as error:  # no network, no pip: each has an error of its own
        config = replace(config, model=replace(config.model, weights="random"))
        notes.append(f"random backbone weights, as the published ones cannot be fetched ({_first_line(error)})")
    return config, notes


def run_live(device: str, picture: Path, *, quick: bool, keep: Keep) -> None:
    """Live's race in the app on the bundled run, to its end; a screenshot where a Chromium is there."""
    try:
        from _app.screenshots import draw
        from _app.server import chromium, new_page, serve
    except ImportError as error:
        raise LeftOut(str(error)) from None
    if not any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))) and not _own_chromium():
        raise LeftOut("there is no Chromium")
    try:
        dx.pretrained.find_weights(dx.load_run(BUNDLED).config.model.backbone)
    except FileNotFoundError as error:
        raise LeftOut(_first_line(error)) from None
    with serve() as server, chromium() as browser:
        page = new_page(browser)
        draw(page, server.address, "live" if quick else "live-done")
        page.screenshot(path=picture)
        status = page.query_selector(".dx-status")
        keep({"picture": picture.name, "status": status.inner_text().strip() if status else ""})


def _own_chromium() -> bool:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        return os.path.exists(playwright.chromium.executable_path)


def _peak(device: str) -> int:
    import torch

    return device_use(torch.device(device))[1]


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
