"""Overheads of early exit: the time of each step of `infer`, and of each exit of an exported graph.

In: a `Bench`. Out: parts of the result, each with ``rows`` and the ratio to the same work without early exit.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np

import dmpo_explore as dx
from _common.timing import in_turn, ratio
from _speed.arms import Bench, export_plain, plain_config
from _speed.early_exit import PLAIN, Progress
from dmpo_explore.models.flops import config_flops

PROFILED = (1, 64)  # batch sizes


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
