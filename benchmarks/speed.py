"""Does leaving early save the time that it promises? `scripts/bench speed [--write]`

In: a run with val and test records (its backbone is fetched if it is missing). Out: tables on stdout; with ``--write``
``benchmarks/results/speed.json``, and ``docs/speed.md`` from it. All arms answer the same test images, in turn within
one run (`_timing`); thresholds are fitted on val so that they spend 30, 50, 70 and 100 % of the plain model's compute.

*Efficiency* is the measured speed-up over the full plain model (in bf16 for arms in bf16, else eager in float32)
divided by the speed-up that FLOPs promise on these very images: 1 means that all the saved compute is saved time. Close
other programs first: the load that was met is noted.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

import dmpo_explore as dx
from _common.timing import Arm, PeakMemory, Timing, in_turn, machine, ratio
from _speed.arms import Bench, in_one, spend
from _speed.report import render_page, render_tables
from dmpo_explore.policies.base import Policy
from dmpo_explore.utils.files import read_json, write_json, write_text

RESULT = Path(__file__).parent / "results" / "speed.json"
PAGE = Path(__file__).parents[1] / "docs" / "speed.md"
BUDGETS = (0.3, 0.5, 0.7, 1.0)
IMAGES = {1: 48, 8: 80, 64: 192, 256: 256}  # of the test split, by batch size
CHECKED = 96  # images on which every engine's answers are compared with the record
EVERY_SHARE = (1, 64)  # batch sizes at which all policies are timed; elsewhere the cheapest, and nobody
FULL = "plain model"


# -- leaving early --


def arms_of(bench: Bench, size: int, policies: dict[str, Policy], exits: dict[str, Any]) -> dict[str, Arm]:
    """Every arm at one batch size, named "who, share"."""
    arms = {
        FULL: bench.forward(bench.plain, size),
        "half the plain model": bench.forward(bench.half, size),
        "plain model, bf16": bench.forward(bench.plain, size, "bf16"),
    }
    for share, policy in policies.items():
        if size not in EVERY_SHARE and share not in (next(iter(policies)), "nobody"):
            continue
        arms[f"infer, {share}"] = bench.ours(policy, size)
        refills = 1 < size < len(bench.images)
        if refills:
            arms[f"stream with refill, {share}"] = bench.ours_stream(policy, size)
        if share not in ("30 %", "50 %", "nobody"):
            continue
        if size == 1 or bench.device == "cuda":  # a compiler's minutes; on a CPU it gains nothing for more images
            arms[f"compiled, {share}"] = bench.ours(policy, size, steps=bench.compiled)
        arms[f"onnx, {share}"] = bench.ours_onnx(policy, size)
        if bench.device == "cuda":
            arms[f"CUDA graphs, {share}"] = bench.ours(policy, size, steps=bench.graphed)
        if refills:
            arms[f"onnx stream with refill, {share}"] = bench.ours_onnx_stream(policy, size)
        if share == "nobody":
            continue
        arms[f"infer bf16, {share}"] = bench.ours(policy, size, precision="bf16")
        if size == 1 or size == 64:
            arms[f"earlyon loop, {share}"] = bench.earlyon_loop(exits[share])
        if size > 1:
            arms[f"earlyon batched, {share}"] = bench.earlyon_batched(exits[share], size)
    return arms


def measure_leaving(bench: Bench, sizes: list[int], rounds: int, progress: Callable[[str], None]) -> dict[str, Any]:
    """Rows of every batch size: who, share, rates, latencies, promised and measured speed-up, efficiency."""
    record, rows = bench.run.record("test"), []
    val = bench.run.record("val")
    policies = {f"{100 * b:.0f} %": spend(val, b) for b in BUDGETS if val.flops_fraction[0] <= b}
    policies["nobody"] = bench.threshold_none
    images, bench.images = bench.images, bench.images[:CHECKED]
    progress("comparing every engine's answers with the record")
    checked = record.subset(slice(len(bench.images)))
    other = check_answers(
        bench, policies, {share: policy.exits(checked) for share, policy in policies.items()}, checked
    )
    for size in sizes:
        bench.images = images[: IMAGES[size]]
        part = record.subset(slice(len(bench.images)))
        exits = {share: policy.exits(part) for share, policy in policies.items()}
        arms = arms_of(bench, size, policies, exits)
        timings = in_turn(arms, rounds, lambda text, size=size: progress(f"batch {size}, {text}"))  # type: ignore[misc]
        rows += [row(name, size, timings, exits, part) for name in arms]
    bench.images = images
    return {
        "policies": {share: policy.to_dict() for share, policy in policies.items()},
        "bf16": {"images": len(checked.labels), "exits_differ": other},
        "rows": rows,
    }


def row(
    name: str, size: int, timings: dict[str, Timing], exits: dict[str, Any], record: dx.ExitRecord
) -> dict[str, Any]:
    """What one arm did, beside the full plain model of the same rounds."""
    who, _, share = name.partition(", ")
    found: dict[str, Any] = {"arm": who if share in exits else name, "share": share if share in exits else None}
    found |= {"batch": size, "images": record.n_images, **timings[name].summary(record.n_images)}
    if name == FULL:
        return found
    speed_up = ratio(timings[f"{FULL}, bf16" if who.endswith("bf16") else FULL], timings[name])
    found |= {"speed_up": speed_up["ratio"], "speed_up_range": [speed_up["ratio_lowest"], speed_up["ratio_highest"]]}
    if share not in exits or who.startswith("earlyon"):  # earlyon's heads are its own: nothing is promised for them
        return found
    promised = 1 / float(record.flops_fraction[exits[share]].mean())
    against = {
        other: ratio(timings[f"earlyon {other}, {share}"], timings[name])["ratio"]
        for other in ("loop", "batched")
        if f"earlyon {other}, {share}" in timings and not who.endswith("bf16")
    }
    efficiency = speed_up["ratio"] / promised
    return found | {"promised": float(f"{promised:.4g}"), "efficiency": float(f"{efficiency:.3g}"), "earlyon": against}


def check_answers(
    bench: Bench, policies: dict[str, Policy], exits: dict[str, Any], record: dx.ExitRecord
) -> dict[str, int]:
    """Nothing is timed that leaves elsewhere than the record says; a threshold that a score touches may differ once.

    Returns:
        share → how many images leave elsewhere in bf16, whose rounding moves scores: that is told, not refused.

    Raises:
        RuntimeError: an engine that leaves elsewhere.
    """
    images, arrays, other = bench.images, bench.images.cpu().numpy(), {}
    batches = list(images.split(7)), [arrays[i : i + 7] for i in range(0, len(arrays), 7)]  # queues of odd sizes
    for share, policy in policies.items():
        answers = {
            "infer": dx.infer(bench.model, images, policy),
            "onnx": bench.onnx.infer(arrays, policy),
            "stream with refill": dx.stream(bench.model, batches[0], policy, refill=True),
            "onnx stream with refill": bench.onnx.stream(batches[1], policy, refill=True),
        }
        if bench.device == "cuda":
            answers["compiled"] = dx.infer(bench.model, images, policy, steps=bench.compiled)
            answers["CUDA graphs"] = dx.infer(bench.model, images, policy, steps=bench.graphed)
        for engine, out in answers.items():
            labels = dx.Outcome(record, out.exit).prediction
            if (wrong := int((out.exit != exits[share]).sum() + (out.label != labels).sum())) > 1:
                raise RuntimeError(f"{engine} at {share}: {wrong} exits or labels are not the record's")
        other[share] = int((dx.infer(bench.model, images, policy, precision="bf16").exit != exits[share]).sum())
    return other


# -- where the time goes --


def measure_profile(bench: Bench, rounds: int, progress: Callable[[str], None]) -> dict[str, Any]:
    """From the plain model to `infer` step by step, nobody leaving: what each step adds, beside what FLOPs promise."""
    found = []
    fractions = bench.run.record("test").flops_fraction
    for size in EVERY_SHARE:
        images = bench.images[: IMAGES[size]]
        arms = {
            FULL: bench.forward(bench.plain, size, images=images),
            "embedding and trunks": bench.forward(bench.trunks, size, images=images),
            "and every exit": bench.forward(lambda x: bench.model(x)[:, -1], size, images=images),
            "and scores, decisions, the loop (infer)": bench.ours(bench.threshold_none, size, images=images),
        }
        timings = in_turn(arms, rounds, lambda text, size=size: progress(f"profile, batch {size}, {text}"))  # type: ignore[misc]
        for name, timing in timings.items():
            numbers = {"ms": 1000 * float(np.median(timing.rounds)) / len(images), **ratio(timing, timings[FULL])}
            found.append({"batch": size, "step": name} | {key: float(f"{v:.4g}") for key, v in numbers.items()})
    return {"rows": found, "exits": len(fractions), "flops_ratio": float(f"{fractions[-1]:.4g}")}


# -- recording, training, memory --


def measure_recording(bench: Bench, rounds: int, progress: Callable[[str], None]) -> dict[str, Any]:
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


def measure_training(bench: Bench, rounds: int, progress: Callable[[str], None]) -> dict[str, Any]:
    """One epoch of `fit` against a plain loop with one exit: same tuning, batch 32, float32."""
    from dataclasses import replace

    from dmpo_explore.models.factory import build_model
    from dmpo_explore.models.flops import count_flops
    from dmpo_explore.training.loop import Validation, fit
    from dmpo_explore.training.optimizer import make_optimizer

    config = bench.run.config
    settings = replace(config.training, epochs=1, precision="no", batch_size=32)
    labels = torch.arange(128) % len(bench.run.class_names)
    data = torch.utils.data.TensorDataset(bench.images[:128].cpu(), labels)
    ours = build_model(config.model, len(bench.run.class_names)).to(bench.device)
    single = build_model(replace(config.model, exits=1), len(bench.run.class_names)).to(bench.device)
    n_exits = len(ours.stages)

    def loader() -> Any:
        return torch.utils.data.DataLoader(data, batch_size=32, shuffle=True)

    def fitted() -> None:
        for _ in fit(ours, loader(), settings, n_exits, validate=lambda model: Validation((0.0,) * n_exits, 0.0)):
            pass

    def plain() -> None:
        optimizer = make_optimizer(single, settings)
        single.train()
        for images, targets in loader():
            logits = single(images.to(bench.device))[:, 0]
            torch.nn.functional.cross_entropy(logits, targets.to(bench.device)).backward()
            optimizer.step()
            optimizer.zero_grad()

    arms = {"plain loop, one exit": in_one(plain), "fit, all exits": in_one(fitted)}
    timings = in_turn(arms, rounds, lambda text: progress(f"training, {text}"))
    image = bench.images[:1]
    flops = count_flops(ours.eval(), image) / count_flops(single.eval(), image)
    found = ratio(timings["fit, all exits"], timings["plain loop, one exit"])
    rows = [{"arm": name, **timings[name].summary(len(data))} for name in arms]
    return {"rows": rows, **found, "flops_ratio": float(f"{flops:.4g}")}


MEMORY = ("plain model", "infer, 30 %", "stream with refill, 30 %")


def measure_memory(bench: Bench, rounds: int, progress: Callable[[str], None]) -> dict[str, Any]:
    """Peak resident memory of each arm at batch 64, in a fresh process, above what it had when the model was there."""
    found = []
    for arm in MEMORY:
        progress(f"memory of {arm}")
        command = [sys.executable, __file__, "--run", str(bench.run.path), "--peak", arm, "--device", bench.device]
        command += ["--threads", str(bench.threads), "--images", str(len(bench.images))]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found.append({"arm": arm, "peak_mib": float(done.stdout)})
    return {"rows": found}


def peak_mib(bench: Bench, arm: str) -> float:
    """What the fresh process of `measure_memory` does."""
    val = bench.run.record("val")
    policy = spend(val, max(0.3, float(val.flops_fraction[0])))
    _ = bench.plain, bench.model
    run = dict(
        zip(
            MEMORY, (bench.forward(bench.plain, 64), bench.ours(policy, 64), bench.ours_stream(policy, 64)), strict=True
        )
    )[arm]
    with PeakMemory() as peak:
        run()
    return round(peak.mib)


PARTS = {
    "leaving": measure_leaving,
    "profile": measure_profile,
    "recording": measure_recording,
    "training": measure_training,
    "memory": measure_memory,
}


# -- the command --


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", default="demo", help="a run on a plain ViT")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--batch", nargs="+", type=int, choices=IMAGES, default=list(IMAGES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, help="at most so many per batch size (to try it out)")
    parser.add_argument("--threads", type=int, help="of torch and onnxruntime; default: torch's choice")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--write", action="store_true", help="keep the result and renew docs/speed.md")
    parser.add_argument("--page", action="store_true", help="only renew docs/speed.md from the kept result")
    parser.add_argument("--peak", choices=MEMORY, help=argparse.SUPPRESS)  # what a fresh process is told
    options = parser.parse_args(arguments)
    if options.page:
        write_text(PAGE, render_page(read_json(RESULT)))
        return 0
    if options.images:
        IMAGES.update({size: min(n, options.images) for size, n in IMAGES.items()})
    result = measure(options)
    print("\n".join(render_tables(result)))
    if options.write:
        write_json(RESULT, result)
        write_text(PAGE, render_page(result))
    return 0


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All the parts asked for, one after the other."""
    threads = options.threads or torch.get_num_threads()
    torch.set_num_threads(threads)
    run = dx.load_run(options.run)
    if run.config.model.weights == "auto":
        dx.fetch_weights(run.config.model.backbone)
    if options.peak:
        images = run.inputs("test", range(options.images))
        print(peak_mib(Bench(run, images, options.device, Path(), threads), options.peak))
        raise SystemExit(0)
    wanted = max(256, *IMAGES.values())
    images = run.inputs("test", range(min(wanted, run.record("test").n_images)))
    start = time.perf_counter()
    result: dict[str, Any] = {"command": "scripts/bench speed --write", "run": run.name, "rounds": options.rounds}
    result |= {"machine": machine(threads), "image_size": run.config.model.image_size}
    with tempfile.TemporaryDirectory() as folder, tqdm(disable=None, bar_format="{elapsed} {desc}") as bar:
        bench = Bench(run, images, options.device, Path(folder) / "export", threads)
        for part in options.parts:
            if part == "leaving":
                result[part] = measure_leaving(bench, options.batch, options.rounds, bar.set_description_str)
            else:
                result[part] = PARTS[part](bench, options.rounds, bar.set_description_str)  # type: ignore[operator]
    return result | {"minutes": round((time.perf_counter() - start) / 60, 1)}


if __name__ == "__main__":
    sys.exit(main())
