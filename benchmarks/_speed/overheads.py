"""Overheads of early exit: the time of each step of `infer`, of each exit of an exported graph, of recording and of
training, and peak memory.

In: a `Bench`. Out: parts of the result, each with ``rows`` and the ratio to the same work without early exit.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

import dmpo_explore as dx
from _common.timing import PeakMemory, in_turn, ratio
from _speed.arms import Bench, export_plain, in_one, plain_config, use_budget
from _speed.early_exit import PLAIN, Progress
from dmpo_explore.models.flops import config_flops

PROFILED = (1, 64)  # batch sizes
MEMORY = (PLAIN, "infer, 30 %", "stream with refill, 30 %")
COMMAND = Path(__file__).parents[1] / "speed.py"


def measure_profile(bench: Bench, rounds: int, progress: Progress) -> dict[str, Any]:
    """Time from the plain model to `infer`, step by step, without early exits, beside the ratio expected from FLOPs."""
    found = []
    fractions = bench.run.record("test").flops_fraction
    for size in PROFILED:
        images = bench.images[: bench.n_images[size]]
        arms = {
            PLAIN: bench.forward(bench.plain, size, images=images),
            "embedding and trunks": bench.forward(bench.trunks, size, images=images),
            "and every exit": bench.forward(lambda x: bench.model(x)[:, -1], size, images=images),
            "and scores, decisions, the loop (infer)": bench.ours(bench.threshold_none, size, images=images),
        }
        timings = in_turn(arms, rounds, lambda text, size=size: progress(f"profile, batch {size}, {text}"))  # type: ignore[misc]
        for name, timing in timings.items():
            numbers = {"ms": 1000 * float(np.median(timing.rounds)) / len(images), **ratio(timing, timings[PLAIN])}
            found.append({"batch": size, "step": name} | {key: float(f"{v:.4g}") for key, v in numbers.items()})
    return {"rows": found, "exits": len(fractions), "flops_ratio": float(f"{fractions[-1]:.4g}")}


def measure_exits(bench: Bench, rounds: int, progress: Progress) -> dict[str, Any]:
    """One image in onnxruntime: one graph that always ends at exit k, and the plain net cut at its block, beside FLOPs.

    Both are shares of the whole plain net's time. What the graph takes above the cut net is the price of its exits.
    """
    bench.images, images = bench.images[: bench.n_images[1]], bench.images
    config, classes = bench.run.config.model, len(bench.run.class_names)
    blocks = cast(tuple[int, ...], config.exits)
    arms = {PLAIN: bench.by_onnx(bench.plain_onnx, bench.threshold_none, 1)}
    for k, block in enumerate(blocks):
        folder = export_plain(bench.run, bench.folder / f"cut-{block}", bench.threshold_none, (block,))
        arms[f"cut {k}"] = bench.by_onnx(dx.OnnxEngine(folder, threads=bench.threads), bench.threshold_none, 1)
        before = [dx.policies.ConfidencePolicy.threshold_none] * k
        at_exit = dx.policies.ConfidencePolicy((*before, *[0.0] * (len(blocks) - 1 - k)))
        arms[f"graph {k}"] = bench.single(bench.onnx, "float32", at_exit)
    timings = in_turn(arms, rounds, lambda text: progress(f"exits of one graph, {text}"))
    bench.images = images
    found, shares = [], bench.run.record("test").flops_fraction
    for k, block in enumerate(blocks):
        cut = config_flops(plain_config(config, (block,)), classes)
        numbers = {name: ratio(timings[f"{name} {k}"], timings[PLAIN])["ratio"] for name in ("cut", "graph")}
        numbers |= {"cut_flops": cut.cumulative[0] / cut.reference, "graph_flops": float(shares[k])}
        found.append({"exit": k + 1, "block": block} | {key: float(f"{v:.4g}") for key, v in numbers.items()})
    return {"rows": found}


def measure_recording(bench: Bench, rounds: int, progress: Progress) -> dict[str, Any]:
    """`record_split` against a forward pass through the same exits; images per second and their ratio."""
    model = bench.run.model(bench.device)
    images, meta = bench.images[:256], bench.run.record("test").subset(slice(256)).meta
    loader = [(batch, torch.zeros(len(batch), dtype=torch.int64)) for batch in images.split(64)]
    arms = {
        "forward, all exits": bench.forward(model, 64, images=images),
        "record_split": in_one(lambda: dx.record_split(model, loader, meta)),
    }
    timings = in_turn(arms, rounds, lambda text: progress(f"recording, {text}"))
    rows = [{"arm": name, **timings[name].summary(len(images))} for name in arms]
    return {"rows": rows, **ratio(timings["forward, all exits"], timings["record_split"])}


def measure_training(bench: Bench, rounds: int, progress: Progress) -> dict[str, Any]:
    """One epoch of `fit` against a plain loop with one exit: same tuning, batch 32, float32."""
    config, classes = bench.run.config, len(bench.run.class_names)
    settings = replace(config.training, epochs=1, precision="no", batch_size=32)
    data = torch.utils.data.TensorDataset(bench.images[:128].cpu(), torch.arange(128) % classes)
    ours = dx.build_model(config.model, classes).to(bench.device)
    single = dx.build_model(replace(config.model, exits=1), classes).to(bench.device)
    n_exits = len(ours.stages)

    def loader() -> Any:
        return torch.utils.data.DataLoader(data, batch_size=32, shuffle=True)

    def fitted() -> None:
        nothing = dx.training.Validation((0.0,) * n_exits, 0.0)
        for _ in dx.training.fit(ours, loader(), settings, n_exits, validate=lambda model: nothing):
            pass

    def plain() -> None:
        optimizer = dx.training.make_optimizer(single, settings)
        single.train()
        for images, targets in loader():
            logits = single(images.to(bench.device))[:, 0]
            torch.nn.functional.cross_entropy(logits, targets.to(bench.device)).backward()
            optimizer.step()
            optimizer.zero_grad()

    arms = {"plain loop, one exit": in_one(plain), "fit, all exits": in_one(fitted)}
    timings = in_turn(arms, rounds, lambda text: progress(f"training, {text}"))
    image = bench.images[:1]
    flops = dx.models.count_flops(ours.eval(), image) / dx.models.count_flops(single.eval(), image)
    found = ratio(timings["fit, all exits"], timings["plain loop, one exit"])
    rows = [{"arm": name, **timings[name].summary(len(data))} for name in arms]
    return {"rows": rows, **found, "flops_ratio": float(f"{flops:.4g}")}


def measure_memory(bench: Bench, rounds: int, progress: Progress) -> dict[str, Any]:
    """Peak resident memory of each arm at batch 64, in a fresh process, above that of the loaded model."""
    found = []
    for arm in MEMORY:
        progress(f"memory of {arm}")
        command = [sys.executable, str(COMMAND), "--run", str(bench.run.path), "--peak", arm, "--device", bench.device]
        command += ["--threads", str(bench.threads), "--images", str(len(bench.images))]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found.append({"arm": arm, "peak_mib": float(done.stdout)})
    return {"rows": found}


def peak_mib(bench: Bench, arm: str) -> float:
    """Peak memory of one arm of `MEMORY` in this process, MiB; the fresh process of `measure_memory` calls it."""
    val = bench.run.record(bench.run.fitting_split)
    policy = use_budget(val, max(0.3, float(val.flops_fraction[0])))
    _ = bench.plain, bench.model  # loaded before the measurement starts
    arms: tuple[Callable[[], Any], ...] = (
        bench.forward(bench.plain, 64),
        bench.ours(policy, 64),
        bench.ours_stream(policy, 64),
    )
    call = arms[MEMORY.index(arm)]
    with PeakMemory() as peak:
        call()
    return round(peak.mib)
