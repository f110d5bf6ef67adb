"""What a training step takes beyond the model: `fit` against a plain loop, waiting for data, and clipping.

`scripts/bench training_loop [--write]`

In: the bundled run `fashion`'s recipe on its images, and a tiny model for the worst case. Out: tables on stdout;
with ``--write`` ``benchmarks/results/training-loop.json``, and the table of benchmarks/EVIDENCE.md between its markers.

- overhead: CPU seconds of a step of `fit` over those of a plain PyTorch loop with the same model, loss, optimizer,
  rates, clipping and autocast; epochs in turn, the first step of each left out. CPU seconds do not count what other
  programs use, but a busy machine slows both.
- layout: the same of a plain loop with the half of LoRA that widens laid by rows, over one with it by columns, as
  `models.tuning` lays it; in float32.
- waiting: share of the time in which the loop waits for its next batch, the first one left out.
- clipping: share of steps at which `clip_norm` acts, and the gradient's norm, by epoch.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

import dmpo_explore as dx
from _common.results import between
from _common.timing import machine
from dmpo_explore.training import loop as training_loop
from dmpo_explore.training.accelerator import make_accelerator
from dmpo_explore.training.losses import weighted_loss
from dmpo_explore.training.optimizer import make_schedule
from dmpo_explore.training.schedules import loss_weights
from dmpo_explore.training.train import training_loader
from dmpo_explore.utils.files import read_json, write_json, write_text
from dmpo_explore.utils.torch_tools import seeded

RESULT = Path(__file__).parent / "results" / "training-loop.json"
PAGE = Path(__file__).parent / "EVIDENCE.md"
BEGIN, END = "<!-- table: scripts/bench training_loop --write -->", "<!-- end of table -->"
AIM = 1.10  # CPU seconds of `fit` over those of the plain loop
CLASSES = 10


def recipe(name: str) -> dx.Config:
    """``fashion``: the bundled run's; ``tiny``: the smallest model, whose steps take a few dozen milliseconds."""
    config = dx.load_run("fashion").config
    if name == "fashion":
        return config
    model = replace(config.model, backbone="test_vit", weights="random", image_size=32, exits=(2, 4, 6), channels=8)
    return replace(config, model=model, training=replace(config.training, precision="no", batch_size=20))


def plain_epoch(model: nn.Module, data: Any, settings: dx.TrainingConfig, n_exits: int) -> Iterator[float]:
    """A plain loop: yields each step's loss."""
    optimizer = dx.training.make_optimizer(model, settings)
    batches = torch.utils.data.DataLoader(data, batch_size=settings.batch_size, shuffle=True)
    schedule = make_schedule(optimizer, settings, len(batches))
    weights = torch.tensor(loss_weights(settings.schedule, 0, settings.epochs, n_exits))
    model.train()
    for images, labels in batches:
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.precision == "bf16"):
            logits = model(images)
        loss, _ = weighted_loss(logits.float(), labels, weights, settings.coupling, settings.distill)
        loss.backward()
        if settings.clip_norm:
            nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        yield loss.item()


def fitted_epoch(model: nn.Module, loader: Any, settings: dx.TrainingConfig, n_exits: int, **how: Any) -> None:
    """One epoch of `fit`."""
    nothing = dx.training.Validation((0.0,) * n_exits, 0.0)
    for _ in dx.training.fit(model, loader, settings, n_exits, validate=lambda model: nothing, **how):
        break


def two_models(config: dx.Config, steps: int) -> tuple[Any, Any, Any]:
    """Two models of a config, and noise with labels for so many steps."""
    size = config.model.image_size
    with seeded(0):
        first, second = (dx.build_model(config.model, CLASSES) for _ in range(2))
        images = torch.randn(steps * config.training.batch_size, 3, size, size)
    return first, second, torch.utils.data.TensorDataset(images, torch.arange(len(images)) % CLASSES)


def measure_overhead(name: str, steps: int, rounds: int) -> dict[str, Any]:
    """Median ratio of CPU seconds a step, its lowest and highest round, and the seconds of the plain loop."""
    config = recipe(name)
    settings = replace(config.training, epochs=1)
    ours, theirs, data = two_models(config, steps)
    n_exits = len(ours.stages)

    def fitted() -> list[float]:
        ends: list[float] = []
        batches = torch.utils.data.DataLoader(data, batch_size=settings.batch_size, shuffle=True)
        accelerator = make_accelerator(settings, "cpu")
        after = {"on_step": lambda *step: ends.append(time.process_time()), "accelerator": accelerator}
        fitted_epoch(ours, batches, settings, n_exits, **after)
        return ends

    def plain() -> list[float]:
        return [time.process_time() for _ in plain_epoch(theirs, data, settings, n_exits)]

    return compared(name, fitted, plain, steps, rounds)


def measure_layout(name: str, steps: int, rounds: int) -> dict[str, Any]:
    """As `measure_overhead`, of two plain loops: LoRA's B by rows over B by columns."""
    config = recipe(name)
    settings = replace(config.training, epochs=1, precision="no")
    by_rows, by_columns, data = two_models(config, steps)
    for weight in (weight for path, weight in by_rows.named_parameters() if "lora_B" in path):
        weight.data = weight.data.contiguous()

    def arm(model: nn.Module) -> Callable[[], list[float]]:
        return lambda: [time.process_time() for _ in plain_epoch(model, data, settings, len(by_rows.stages))]

    return compared(name, arm(by_rows), arm(by_columns), steps, rounds)


def compared(
    name: str, first: Callable[[], list[float]], second: Callable[[], list[float]], steps: int, rounds: int
) -> dict[str, Any]:
    """Two arms in turn, each of which gives the CPU seconds at the end of every step of an epoch: a row."""

    def step_of(arm: Callable[[], list[float]]) -> float:
        ends = arm()
        return (ends[-1] - ends[0]) / (len(ends) - 1)

    first(), second()
    ratios, seconds = [], []
    for r in range(rounds):
        found = {arm: step_of(arm) for arm in ((first, second) if r % 2 else (second, first))}
        ratios.append(found[first] / found[second])
        seconds.append(found[second])
    return {
        "recipe": name, "steps": steps, "rounds": rounds, "plain_ms": round(1000 * statistics.median(seconds), 1),
        "ratio": round(statistics.median(ratios), 3), "lowest": round(min(ratios), 3), "highest": round(max(ratios), 3),
    }  # fmt: skip


class Timed:
    """A prepared loader that notes how long the loop waits for its batches, and the whole time.

    Both count after the first step: the first batch waits for worker processes to start.
    """

    def __init__(self, loader: Any) -> None:
        self.loader, self.waited, self.whole = loader, 0.0, 0.0

    def __len__(self) -> int:
        return len(self.loader)

    def set_epoch(self, epoch: int) -> None:
        """As the loader's."""
        self.loader.set_epoch(epoch)

    def __iter__(self) -> Iterator[Any]:
        batches = iter(self.loader)
        yield next(batches)
        begun = time.perf_counter()
        while True:
            start = time.perf_counter()
            batch = next(batches, None)
            now = time.perf_counter()
            self.waited, self.whole = self.waited + now - start, now - begun
            if batch is None:
                return
            yield batch


def measure_waiting(name: str, workers: int, steps: int) -> dict[str, Any]:
    """Share of the time in which the loop waits for data, and milliseconds a step."""
    config = recipe(name)
    settings = replace(config.training, epochs=1, workers=workers)
    model = dx.build_model(config.model, CLASSES)
    images = dx.load_images("fashion-mnist", "test").subset(range(steps * settings.batch_size))
    accelerator, timed = make_accelerator(settings, "cpu"), list[Timed]()
    prepare = accelerator.prepare

    def prepared(*parts: Any) -> tuple[Any, ...]:
        *others, loader = prepare(*parts)
        timed.append(Timed(loader))
        return (*others, timed[0])

    accelerator.prepare = prepared  # type: ignore[method-assign]
    fitted_epoch(model, training_loader(images, model, settings), settings, len(model.stages), accelerator=accelerator)
    share, ms = timed[0].waited / timed[0].whole, 1000 * timed[0].waited / (steps - 1)
    return {"recipe": name, "workers": workers, "steps": steps, "share": round(share, 4), "ms": round(ms, 2)}


def measure_clipping(name: str, images: int) -> list[dict[str, Any]]:
    """Epoch by epoch: share of steps that are clipped, the gradient's median norm, and the sum of the loss weights."""
    config = recipe(name)
    settings, model = config.training, dx.build_model(config.model, CLASSES)
    chosen = dx.load_images("fashion-mnist", "test").subset(range(images))
    loader, n_exits, rows = training_loader(chosen, model, settings), len(model.stages), list[dict[str, Any]]()
    norms: list[float] = []
    clip = nn.utils.clip_grad_norm_

    def noted(*given: Any, **more: Any) -> torch.Tensor:
        norm = clip(*given, **more)
        norms.append(float(norm))
        return norm

    nothing = dx.training.Validation((0.0,) * n_exits, 0.0)
    training_loop.nn.utils.clip_grad_norm_ = noted  # type: ignore[attr-defined]
    try:
        for result, _ in dx.training.fit(
            model, loader, settings, n_exits, validate=lambda model: nothing,
            accelerator=make_accelerator(settings, "cpu"),
        ):  # fmt: skip
            clipped = sum(norm > (settings.clip_norm or float("inf")) for norm in norms) / len(norms)
            rows.append({"recipe": name, "clip_norm": settings.clip_norm,
                         "epoch": result.epoch, "clipped": round(clipped, 3), "steps": len(norms),
                         "norm": float(f"{statistics.median(norms):.3g}"),
                         "weights": round(sum(result.weights), 3)})  # fmt: skip
            norms.clear()
    finally:
        training_loop.nn.utils.clip_grad_norm_ = clip  # type: ignore[attr-defined]
    return rows


PARTS = ("overhead", "layout", "waiting", "clipping")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Rows of the chosen parts and recipes, each with the load average of the minute before it ended."""
    steps = {"tiny": options.steps or 30, "fashion": options.steps or 3}
    found: dict[str, Any] = {"machine": machine(torch.get_num_threads())}
    for part in options.parts:
        rows = found[part] = list[dict[str, Any]]()
        for name in options.recipes:
            if part == "overhead":
                rows.append(measure_overhead(name, steps[name], options.rounds))
            elif part == "layout":
                rows.append(measure_layout(name, steps[name], options.rounds))
            elif part == "waiting":
                rows += [measure_waiting(name, workers, options.steps or 6) for workers in (0, 2)]
            else:
                rows += measure_clipping(name, options.images)
            for row in rows:
                row.setdefault("load", round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None)
    return found


def merged(kept: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """Both results; rows found now take the place of the recipe's kept ones."""
    both: dict[str, Any] = {"machine": found["machine"]}
    for part in PARTS:
        new = found.get(part, [])
        names = {row["recipe"] for row in new}
        both[part] = [row for row in kept.get(part, []) if row["recipe"] not in names] + new
    return both


def shown(row: dict[str, Any]) -> list[str]:
    """The cells of a row of `compared`."""
    spread, size = f"{row['lowest']:.2f}–{row['highest']:.2f}", f"{row['rounds']} × {row['steps']}"
    return [row["recipe"], f"{row['plain_ms']:.4g}", f"{row['ratio']:.3f}", spread, size]


def render(found: dict[str, Any]) -> list[str]:
    """The tables as Markdown."""
    facts, tables = found["machine"], list[list[list[str]]]()
    cells = [["recipe", "plain step, CPU ms", "`fit` over plain", "lowest–highest", "rounds × steps", "aim", "load"]]
    for row in found.get("overhead", []):
        cells.append([*shown(row), f"≤ {AIM:.2f}", str(row["load"])])
    tables.append(cells)
    cells = [["recipe", "step by columns, CPU ms", "by rows over it", "lowest–highest", "rounds × steps", "load"]]
    for row in found.get("layout", []):
        cells.append([*shown(row), str(row["load"])])
    tables.append(cells)
    cells = [["recipe", "`--workers`", "waits for data, ms a step", "share of the time", "load"]]
    for row in found.get("waiting", []):
        more = [str(row["workers"]), f"{row['ms']:.3g}", f"{100 * row['share']:.1f} %", str(row["load"])]
        cells.append([row["recipe"], *more])
    tables.append(cells)
    cells = [["recipe", "epoch", "steps", "`--clip-norm`", "steps clipped", "median norm", "Σλ"]]
    for row in found.get("clipping", []):
        more = [
            f"{row['clip_norm']:g}",
            f"{100 * row['clipped']:.0f} %",
            f"{row['norm']:.3g}",
            f"{row['weights']:.2f}",
        ]
        cells.append([row["recipe"], str(row["epoch"]), str(row["steps"]), *more])
    tables.append(cells)
    threads = f"{facts['threads']} thread{'s' * (facts['threads'] != 1)}"
    lines = [f"{facts['cpu']}, {threads}, torch {facts['torch']}. *Load*: processes that ran or waited meanwhile."]
    for cells in tables:
        lines += ["", *dx.analysis.markdown(cells)] if len(cells) > 1 else []
    return lines


def with_tables(page: str, found: dict[str, Any]) -> str:
    """The page with its tables made anew."""
    return between(page, BEGIN, END, "\n".join(render(found)))


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the tables and write them if requested."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="+", choices=("tiny", "fashion"), default=["tiny", "fashion"])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, help="of a round; default: 30 of tiny, 3 of fashion")
    parser.add_argument("--images", type=int, default=512, help="of each epoch in which clipping is counted")
    parser.add_argument("--write", action="store_true", help="keep the rows and renew benchmarks/EVIDENCE.md")
    parser.add_argument("--page", action="store_true", help="only renew benchmarks/EVIDENCE.md from the kept result")
    options = parser.parse_args(arguments)
    found = read_json(RESULT) if options.page else measure(options)
    print("\n".join(render(found)))
    if options.write:
        found = merged(read_json(RESULT) if RESULT.is_file() else {}, found)
        write_json(RESULT, found)
    if options.write or options.page:
        write_text(PAGE, with_tables(PAGE.read_text(encoding="utf-8"), found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
