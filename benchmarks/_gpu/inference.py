"""Inference on a GPU: plain model, infer, stream with refill, CUDA graphs, bf16 and compiled, by batch size.

In: a backbone. Out: rows as the speed benchmark's (`_speed.early_exit.row`), with peak memory and energy of every arm.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

import dmpo_explore as dx
from _common.timing import Arm, in_turn
from _gpu.models import GpuBench, random_run
from _speed.early_exit import NO_EARLY_EXIT, PLAIN, row
from dmpo_explore.inference.device import call_energy, energy_counter, idle_watts

Keep = Callable[[dict[str, Any]], None]  # what was found so far, to be written to disk
IMAGES = {1: 48, 8: 80, 64: 256, 256: 512}  # by batch size
QUICK = {1: 2, 8: 16}
COMPILED_AT = (1, 64)  # batch sizes: a compiler takes minutes
ENERGY_AT = (1, 64)  # a block of energy takes a second
CHECKED = 64  # images whose exits are compared with the record's


def measure_inference(backbone: str, image_size: int, device: str, *, compiled: bool, quick: bool, keep: Keep) -> None:
    """All batch sizes, each kept as it is done."""
    sizes = QUICK if quick else IMAGES
    if compiled:
        sizes = {size: n for size, n in sizes.items() if size in COMPILED_AT}
    run = random_run(backbone, image_size, **({"exits": (2, 4, 6)} if quick else {}))
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(max(sizes.values()), 3, image_size, image_size, generator=generator)
    bench = GpuBench(run, images, device, sizes)
    records = {kind: bench.record(kind) for kind in (("no",) if compiled else ("no", "bf16"))}
    policies = {kind: bench.policies(record) for kind, record in records.items()}
    found: dict[str, Any] = {"backbone": backbone, "image_size": image_size, "rows": []}
    if counter := energy_counter(device):
        found["idle_watts"] = round(idle_watts(counter))
    found["exits_differ"] = differing(bench, records, policies, compiled=compiled)
    for size in sizes:
        found["rows"] += measure_size(bench, size, records, policies, 1 if quick else 3, compiled=compiled)
        keep(found)


def differing(bench: GpuBench, records: dict[str, Any], policies: dict[str, Any], *, compiled: bool) -> dict[str, Any]:
    """Images of the first `CHECKED` whose exit is not the record's, by precision and engine, at the first budget."""
    images, found = bench.images[:CHECKED], {"images": min(CHECKED, len(bench.images))}
    for precision, record in records.items():
        policy = next(iter(policies[precision].values()))
        expected = policy.exits(record)[: len(images)]
        faster = {"compiled": bench.compiled} if compiled else {"CUDA graphs": bench.graphs(precision)}
        for name, steps in {"infer": None, **faster}.items():
            out = dx.infer(bench.models[precision], images, policy, steps=steps)
            key = name if precision == "no" else f"{name} {precision}"
            found[key] = int((out.exit != expected).sum())
    return found


def measure_size(
    bench: GpuBench, size: int, records: dict[str, Any], policies: dict[str, Any], rounds: int, *, compiled: bool
) -> list[dict[str, Any]]:
    """Rows of one batch size; all arms in turn."""
    images, bench.images = bench.images, bench.images[: bench.n_images[size]]
    try:
        arms = (compiled_arms if compiled else arms_of)(bench, size, policies)
        uses = {name: Use(arm, bench.device) for name, arm in arms.items()}
        timings = in_turn({name: use.arm for name, use in uses.items()}, rounds)
        part = {kind: record.subset(slice(len(bench.images))) for kind, record in records.items()}
        exits = {kind: {key: p.exits(part[kind]) for key, p in policies[kind].items()} for kind in part}
        rows = []
        for name in arms:
            kind = "bf16" if name.partition(", ")[0].endswith(" bf16") else "no"
            rows.append(
                row(name, size, timings, exits[kind], part[kind])
                | uses[name].found(len(bench.images), energy=size in ENERGY_AT)
            )
        return rows
    finally:
        bench.images = images


def arms_of(bench: GpuBench, size: int, policies: dict[str, Any]) -> dict[str, Arm]:
    """Every eager arm and CUDA graphs."""
    arms = {
        PLAIN: bench.forward(bench.plain, size),
        f"{PLAIN}, bf16": bench.forward(bench.plain_bf16, size, "bf16"),
        f"{PLAIN}, CUDA graphs": bench.forward(bench.plain_graphed, size),
    }
    for budget, policy in policies["no"].items():
        arms[f"infer, {budget}"] = bench.ours(policy, size)
        arms[f"CUDA graphs, {budget}"] = bench.ours(policy, size, steps=bench.graphed)
        if budget == NO_EARLY_EXIT:
            continue
        if 1 < size < len(bench.images):
            arms[f"stream with refill, {budget}"] = bench.ours_stream(policy, size)
        arms[f"infer bf16, {budget}"] = bench.ours(policies["bf16"][budget], size, model=bench.models["bf16"])
    return arms


def compiled_arms(bench: GpuBench, size: int, policies: dict[str, Any]) -> dict[str, Arm]:
    """torch.compile beside the plain model."""
    arms = {
        PLAIN: bench.forward(bench.plain, size),
        f"{PLAIN}, compiled": bench.forward(bench.plain_compiled, size),
    }
    for budget, policy in policies["no"].items():
        arms[f"compiled, {budget}"] = bench.ours(policy, size, steps=bench.compiled)
    return arms


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
