"""Throughput and latency of early exit, by batch size, engine and compute budget; the price of exits in one graph.

In: a `Bench`. Out: rows of the result: images per second, latencies, expected and measured speed-up, efficiency.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch

import dmpo_explore as dx
from _common.timing import Arm, Timing, in_turn, ratio
from _speed.arms import NEVER, Bench, export_plain, plain_config, use_budget
from dmpo_explore.inference.device import call_energy, energy_counter, idle_watts
from dmpo_explore.models.flops import config_flops

BUDGETS = (0.3, 0.5, 0.7, 1.0)
NO_EARLY_EXIT = "no early exit"  # the budget, beside "30 %" …, of the threshold at which no image exits early
CHECKED = 96  # images on which every engine's answers are compared with the record
ALL_BUDGETS_AT = (1, 64)  # batch sizes at which all budgets are timed; elsewhere the smallest, and no early exit
PLAIN = "plain model"
INT8_AT = (1, 64)  # batch sizes at which int8 is timed
COMPILED_AT = {"cpu": (1,), "cuda": (1, 64)}  # a compiler takes minutes, and on a CPU it gains nothing for more images
ENERGY_AT = (1, 64)  # a block of energy takes a second
RUNTIMES = {  # engine → runtime of the plain model beside it
    **{name: name.removesuffix(" one graph") for name in ("onnx one graph", "onnx int8", "onnx int8 one graph")},
    **{name: name for name in ("compiled", "onnx", "CUDA graphs")},
    "onnx stream with refill": "onnx",
}
Exits = dict[str, Any]  # budget → (B,) exit of every image
Row = dict[str, Any]
Progress = Callable[[str], None]


def arms_of(bench: Bench, size: int, policies: dict[str, dx.Policy], exits: Exits) -> dict[str, Arm]:
    """Every arm at one batch size, named "engine, budget"."""
    cpu, refills = bench.device == "cpu", 1 < size < len(bench.images)
    arms = {
        PLAIN: bench.forward(bench.plain, size),
        "half the plain model": bench.forward(bench.half, size),
        f"{PLAIN}, bf16": bench.forward(bench.plain_bf16, size, "bf16"),
    }
    if size in COMPILED_AT[bench.device]:
        arms[f"{PLAIN}, compiled"] = bench.forward(bench.plain_compiled, size)
    if not cpu:
        arms[f"{PLAIN}, CUDA graphs"] = bench.forward(bench.plain_graphed, size)
    else:
        arms[f"{PLAIN}, onnx"] = bench.by_onnx(bench.plain_onnx, NEVER, size)
        if size in INT8_AT:
            arms[f"{PLAIN}, onnx int8"] = bench.by_onnx(bench.plain_onnx_int8, NEVER, size)
    for budget, policy in policies.items():
        if size not in ALL_BUDGETS_AT and budget not in (next(iter(policies)), NO_EARLY_EXIT):
            continue
        arms[f"infer, {budget}"] = bench.ours(policy, size)
        if refills:
            arms[f"stream with refill, {budget}"] = bench.ours_stream(policy, size)
        if budget not in ("30 %", "50 %", NO_EARLY_EXIT):
            continue
        if size in COMPILED_AT[bench.device]:
            arms[f"compiled, {budget}"] = bench.ours(policy, size, steps=bench.compiled)
        if budget != NO_EARLY_EXIT:
            arms[f"infer bf16, {budget}"] = bench.ours(policy, size, model=bench.model_bf16)
        if not cpu:
            arms[f"CUDA graphs, {budget}"] = bench.ours(policy, size, steps=bench.graphed)
            continue
        arms[f"onnx, {budget}"] = bench.by_onnx(bench.onnx, policy, size)
        if size in INT8_AT:
            arms[f"onnx int8, {budget}"] = bench.by_onnx(bench.onnx_int8, policy, size)
        if size == 1:
            arms[f"onnx one graph, {budget}"] = bench.single(bench.onnx, "float32", policy)
            arms[f"onnx int8 one graph, {budget}"] = bench.single(bench.onnx_int8, "int8", policy)
        if refills:
            arms[f"onnx stream with refill, {budget}"] = bench.ours_onnx_stream(policy, size)
        if budget == NO_EARLY_EXIT:
            continue
        if size in (1, 64):
            arms[f"earlyon loop, {budget}"] = bench.earlyon_loop(exits[budget])
        if size > 1:
            arms[f"earlyon batched, {budget}"] = bench.earlyon_batched(exits[budget], size)
    return arms


def measure_early_exit(bench: Bench, rounds: int, progress: Progress) -> dict[str, Any]:
    """Rows of every batch size: arm, budget, rates, latencies, expected and measured speed-up, efficiency."""
    record, rows = bench.run.record("test"), []
    val = bench.run.record(bench.run.fitting_split)
    policies = {f"{100 * b:.0f} %": use_budget(val, b) for b in BUDGETS if val.flops_fraction[0] <= b}
    policies[NO_EARLY_EXIT] = NEVER
    images, bench.images = bench.images, bench.images[:CHECKED]
    checked = record.subset(slice(len(bench.images)))
    expected = {key: policy.exits(checked) for key, policy in policies.items()}
    differ = check_answers(bench, policies, expected, checked, progress)  # precision → budget → images
    for size in bench.sizes:
        bench.images = images[: bench.n_images[size]]
        part = record.subset(slice(len(bench.images)))
        exits = {key: policy.exits(part) for key, policy in policies.items()}
        arms = arms_of(bench, size, policies, exits)
        uses = {name: Use(arm, bench.device) for name, arm in arms.items()}
        told = lambda text, size=size: progress(f"batch {size}, {text}")  # noqa: E731
        timings = in_turn({name: use.arm for name, use in uses.items()}, rounds, told)
        for name, use in uses.items():
            rows.append(row(name, size, timings, exits, part) | use.found(part.n_images, energy=size in ENERGY_AT))
    bench.images = images
    counter = energy_counter(bench.device)
    return {
        **({"idle_watts": round(idle_watts(counter))} if counter else {}),
        "policies": {key: policy.to_dict() for key, policy in policies.items()},
        **{name: {"images": len(checked.labels), "exits_differ": counts} for name, counts in differ.items() if counts},
        "rows": rows,
    }


def row(name: str, size: int, timings: dict[str, Timing], exits: Exits, record: dx.ExitRecord) -> Row:
    """One arm's numbers, beside the full plain model of the same rounds."""
    engine, _, budget = name.partition(", ")
    found: Row = {"arm": engine if budget in exits else name, "share": budget if budget in exits else None}
    found |= {"batch": size, "images": record.n_images, **timings[name].summary(record.n_images)}
    if name == PLAIN:
        return found
    speed_up = ratio(timings[PLAIN], timings[name])
    found |= {"speed_up": speed_up["ratio"], "speed_up_range": [speed_up["ratio_lowest"], speed_up["ratio_highest"]]}
    if budget not in exits or engine.startswith("earlyon"):  # its predictors are its own: no expectation from FLOPs
        return found
    expected = 1 / float(dx.Outcome(record, exits[budget]).flops_fraction.mean())
    against = {
        other: ratio(timings[f"earlyon {other}, {budget}"], timings[name])["ratio"]
        for other in ("loop", "batched")
        if f"earlyon {other}, {budget}" in timings and not engine.endswith("bf16")
    }
    like = ratio(timings[plain_of(engine)], timings[name])["ratio"]
    found |= {"expected": float(f"{expected:.4g}"), "like": like, "efficiency": float(f"{like / expected:.3g}")}
    return found | {"earlyon": against}


def plain_of(engine: str) -> str:
    """The arm of the plain model in the same runtime and precision.

    Example:
        >>> plain_of("infer"), plain_of("onnx stream with refill"), plain_of("infer bf16")
        ('plain model', 'plain model, onnx', 'plain model, bf16')
    """
    runtime = "bf16" if engine.endswith("bf16") else RUNTIMES.get(engine)
    return f"{PLAIN}, {runtime}" if runtime else PLAIN


def check_answers(
    bench: Bench,
    policies: dict[str, dx.Policy],
    exits: Exits,
    record: dx.ExitRecord,
    progress: Progress = lambda text: None,
) -> dict[str, dict[str, int]]:
    """Compare every engine's exits and labels with the record's; a score that touches a threshold may differ once.

    Returns:
        bf16 and int8 → budget → number of images whose exit differs, as rounding moves scores: reported, not refused.

    Raises:
        RuntimeError: an engine with other exits or labels.
    """
    images, arrays = bench.images, bench.images.cpu().numpy()
    differ: dict[str, dict[str, int]] = {"bf16": {}, "int8": {}}
    batches = list(images.split(7)), [arrays[i : i + 7] for i in range(0, len(arrays), 7)]  # queues of odd sizes
    for budget, policy in policies.items():
        progress(f"comparing every engine's answers with the record, {budget}")
        answers = {
            "infer": dx.infer(bench.model, images, policy),
            "stream with refill": dx.stream(bench.model, batches[0], policy, refill=True),
        }
        rounded = {"bf16": dx.infer(bench.model_bf16, images, policy)}
        if bench.device == "cuda":
            answers["compiled"] = dx.infer(bench.model, images, policy, steps=bench.compiled)
            answers["CUDA graphs"] = dx.infer(bench.model, images, policy, steps=bench.graphed)
        else:
            answers["onnx"] = bench.onnx.infer(arrays, policy)
            answers["onnx stream with refill"] = bench.onnx.stream(batches[1], policy, refill=True)
            rounded["int8"] = bench.onnx_int8.infer(arrays, policy)
        for engine, out in answers.items():
            labels = dx.Outcome(record, out.exit).prediction
            if (n_other := int((out.exit != exits[budget]).sum() + (out.label != labels).sum())) > 1:
                raise RuntimeError(f"{engine} at {budget}: {n_other} exits or labels are not the record's")
        for name, out in rounded.items():
            differ[name][budget] = int((out.exit != exits[budget]).sum())
    return differ


def measure_exits(bench: Bench, rounds: int, progress: Progress) -> dict[str, Any]:
    """One image in onnxruntime: one graph that always ends at exit k, and the plain net cut at its block, beside FLOPs.

    Both are shares of the whole plain net's time. What the graph takes above the cut net is the price of its exits.
    """
    bench.images, images = bench.images[: bench.n_images[1]], bench.images
    config, classes = bench.run.config.model, len(bench.run.class_names)
    blocks = cast(tuple[int, ...], config.exits)
    arms = {PLAIN: bench.by_onnx(bench.plain_onnx, NEVER, 1)}
    for k, block in enumerate(blocks):
        folder = export_plain(bench.run, bench.folder / f"cut-{block}", NEVER, (block,))
        arms[f"cut {k}"] = bench.by_onnx(dx.OnnxEngine(folder, threads=bench.threads), NEVER, 1)
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


class Use:
    """Peak GPU memory of an arm's calls, the warm-up included, and its energy; after the warm-up nothing is compiled.

    Memory that was in use before, as weights and the graphs of other arms, is left out.
    """

    def __init__(self, arm: Arm, device: str) -> None:
        self._arm, self._cuda = arm, device == "cuda"
        self._counter = energy_counter(device)
        self.peak, self._warm = 0, False

    def arm(self) -> list[float]:
        """The arm, watched; RuntimeError where a timed call would be compiled anew."""
        before = 0
        if self._cuda:
            before = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
        with torch.compiler.set_stance("fail_on_recompile" if self._warm else "default"):
            calls = self._arm()
        self._warm = True
        if self._cuda:
            self.peak = max(self.peak, torch.cuda.max_memory_allocated() - before)
        return calls

    def found(self, images: int, *, energy: bool) -> dict[str, float]:
        """``peak_mib`` on a GPU; ``watts`` and ``joules`` per image where there is a counter and ``energy`` is true."""
        found: dict[str, float] = {"peak_mib": round(self.peak / 2**20)} if self._cuda else {}
        if energy and self._counter:
            used = call_energy(self._arm, self._counter)
            found |= {"watts": round(used.watts), "joules": float(f"{used.joules / images:.3g}")}
        return found
