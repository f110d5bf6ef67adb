"""Inference on a GPU: plain model, infer, stream with refill, CUDA graphs, bf16 and compiled, by batch size.

In: a backbone, and the bundled run whose exits and parts it takes. Out: rows as the speed benchmark's
(`_speed.early_exit.row`), with peak memory and energy of every arm. Weights are random: time does not depend on them.
Exits do, so thresholds are fitted to the exit shares of the bundled run.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import dmpo_explore as dx
from _common.timing import Arm, in_turn
from _speed.arms import Bench, graphed_model, use_budget
from _speed.early_exit import NO_EARLY_EXIT, PLAIN, row
from dmpo_explore.inference.energy import call_energy, energy_counter, idle_watts
from dmpo_explore.inference.torch_compile import SIZES, replayed_stages, run_again
from dmpo_explore.inference.torch_engine import as_step
from dmpo_explore.models.prepared import PRECISIONS, cast_products, prepare
from dmpo_explore.records.record import RecordMeta
from dmpo_explore.utils.torch_seeding import seeded

Keep = Callable[[dict[str, Any]], None]  # what was found so far, to be written to disk
IMAGES = {1: 48, 8: 80, 64: 256, 256: 512}  # by batch size
QUICK = {1: 2, 8: 16}
COMPILED_AT = (1, 64)  # batch sizes: a compiler takes minutes
ENERGY_AT = (1, 64)  # a block of energy takes a second
CHECKED = 64  # images whose exits are compared with the record's
BUNDLED = "demo"
BUDGETS = (0.3, 0.5)
RECORDED_AT = 64  # images of a batch while the exits are recorded


@dataclass(frozen=True)
class RandomRun:
    """A model of random weights with the parts of another run, as far as a bench reads a run."""

    config: dx.Config
    class_names: tuple[str, ...]

    def model(self, device: str, merge: bool = True, precision: str = "no") -> dx.DMPO:
        """In eval mode, ready for inference as `Run.model` makes it."""
        with seeded(0):
            model = dx.build_model(self.config.model, len(self.class_names)).eval()
        if merge:
            dx.models.merge(model)
            prepare(model)
        if (kind := PRECISIONS[precision]) is not None:
            cast_products(model, kind)
            model.precision = precision
        return model.to(device)

    @cached_property
    def flops(self) -> Any:
        """FLOPs as deployed."""
        reference = dx.models.build_reference(self.config.model, len(self.class_names))
        return dx.models.measure_flops(self.model("cpu", merge=False), reference)


def random_run(backbone: str, image_size: int, **changes: Any) -> RandomRun:
    """The parts of the bundled run on another backbone, with random weights."""
    bundled = dx.load_run(BUNDLED)
    model = replace(bundled.config.model, backbone=backbone, weights="random", image_size=image_size, **changes)
    return RandomRun(replace(bundled.config, model=model), bundled.class_names)


def bundled_shares(n_exits: int) -> dict[str, tuple[float, ...]]:
    """Budget → share of the test images that exit at each exit of the bundled run; the deepest ones are joined."""
    run = dx.load_run(BUNDLED)
    record, found = run.record("test"), {}
    for budget in BUDGETS:
        exits = np.minimum(use_budget(run.record(run.fitting_split), budget).exits(record), n_exits - 1)
        found[f"{100 * budget:.0f} %"] = tuple((np.bincount(exits, minlength=n_exits) / len(exits)).tolist())
    return found


class GpuBench(Bench):
    """The bench with a record of its own: no run has one for random weights.

    Without a GPU its graphs are plain calls on buffers of fixed sizes, which only tries the code.
    """

    def __init__(self, run: RandomRun, images: Tensor, device: str, n_images: dict[int, int]) -> None:
        super().__init__(run, images, device, Path(), 1, n_images, list(n_images))  # type: ignore[arg-type]
        self.random = run

    @cached_property
    def models(self) -> dict[str, dx.DMPO]:
        """Precision → the model with weights cast once."""
        return {"no": self.model, "bf16": self.random.model(self.device, precision="bf16")}

    @cached_property
    def plain_bf16(self) -> torch.nn.Module:
        """The plain model with weights cast once."""
        model = copy.deepcopy(self.plain)
        cast_products(model, torch.bfloat16)
        return model

    @cached_property
    def graphed(self) -> Any:
        """The steps as CUDA graphs."""
        return self.graphs("no")

    def graphs(self, precision: str) -> list[Any]:
        """The steps of the model of this precision as CUDA graphs."""
        model = self.models[precision]
        if self.device == "cuda":
            return dx.inference.graphed(model)
        return [as_step(step) for step in replayed_stages(model, SIZES, run_again)]

    @cached_property
    def plain_graphed(self) -> Callable[[Tensor], Tensor]:
        """The plain model as CUDA graphs of the same sizes."""
        return super().plain_graphed if self.device == "cuda" else graphed_model(self.plain, run_again)

    def record(self, precision: str = "no") -> dx.ExitRecord:
        """All exits of the images."""
        run, flops = self.random, self.random.flops
        meta = RecordMeta(
            "noise", "val", run.class_names, self.model.exits, flops.cumulative, flops.reference,
            model=run.config.model.backbone, image_size=run.config.model.image_size,
        )  # fmt: skip
        batches = [(batch, torch.zeros(len(batch), dtype=torch.int64)) for batch in self.images.split(RECORDED_AT)]
        return dx.record_split(self.models[precision], batches, meta, keep_logits=False)

    def policies(self, record: dx.ExitRecord) -> dict[str, dx.Policy]:
        """Budget → thresholds with the bundled run's exit shares on ``record``; the last one lets no image exit."""
        fitted = {
            budget: dx.fit_policy(record, "confidence", shares=shares)
            for budget, shares in bundled_shares(record.n_exits).items()
        }
        return fitted | {NO_EARLY_EXIT: self.threshold_none}


# -- what is measured --


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
