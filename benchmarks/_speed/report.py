"""What `speed` measured → Markdown tables, and the page ``docs/speed.md`` around them. No number is typed here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from dmpo_explore.analysis.tables import markdown

AIMS = {  # (batch, arms) → least efficiency at 30 % and 50 %
    "batch 1, infer": (1, ("infer",), 0.80),
    "batch 1, the better of compiled and onnx": (1, ("compiled", "onnx"), 0.90),
    "batch 64, stream with refill": (64, ("stream with refill", "onnx stream with refill"), 0.92),
}

INTRO = """# How much time leaving early saves

Leaving early saves compute; whether it saves time depends on how the images come. This page is written by
`{command}` ({minutes} minutes on {cpu}, {threads} threads, {device}; torch {torch}, onnxruntime {onnxruntime}); run it
on your machine for your numbers. Run `{run}`, {size} px, {rounds} rounds with all arms in turn; medians, and in
brackets the lowest and highest round. {load}

"Promised" is the speed-up by FLOPs on these very images, everything counted that ran. *Efficiency* is the measured
speed-up over the full plain model (timm's, LayerScale folded as in ours) divided by it: 1 means that all of the saved
compute is saved time. Arms in bf16 are compared with the plain model in bf16, all others with the plain model in
float32 as timm runs it; what a compiler or onnxruntime gains or loses is in their numbers too.
"""

ADVICE = """## What to expect

- **One image at a time** is where leaving early pays most simply: whoever leaves costs nothing more. What an exit
  costs beyond its FLOPs is its dozens of small operations, each with a fixed price; `dmpo-explore export` and
  `dx.OnnxEngine` nearly remove it: on a CPU take them.
- **Batches** (`dx.infer`) drop who leaves, but deep stages then see few images, and few images use a machine badly.
  For a data set use `dx.stream(…, refill=True)`: whoever stays waits until a batch is full again.
- **Merge the tuning** (`run.model(merge=True)`): the same answers with fewer products.

## When it does not pay

- When nobody leaves early, every exit on the way has been paid for: see the rows "nobody".
- When a model cut at a fixed depth is accurate enough: it has no exits to evaluate and no policy. Compare the row of
  half the plain model, and the accuracy of your run's middle exits (`dmpo-explore evaluate`).
- When a batch has to be answered as a whole and at once, its hardest image sets the time; what is saved is throughput,
  not the time until the last answer.
- On a large GPU with small batches, where launching kernels takes longer than running them. CUDA graphs
  (`acceleration.graphed`) are there for it.
"""


MISSES = """What stands behind aims that are missed here, by the profile below and the tables above:

- **One image, eager torch.** An exit of ours is dozens of small operations (bypass, norm, reduction, covariance, twelve
  products for its square root, two linear layers); for one image each costs its fixed price, not its FLOPs. The same
  graph in onnxruntime has next to none of it, and is quicker than the plain model even when nobody leaves.
- **earlyon's loop at batch 1** asks one linear layer per exit and is quicker than our heads in eager torch; in
  onnxruntime ours are ahead.
- **Twice earlyon's batched mode.** Its batch runs until its hardest image leaves, nearly always to the end, so the
  ratio is about our measured speed-up, and no more than what FLOPs promise can be had.
- **torch.compile** gains little or nothing for one image and is timed nowhere else on a CPU: compiling takes longer
  than most will wait. It stays an argument (`steps=compiled(model)`) for GPUs, where it has not been measured yet.
"""


def render_page(result: dict[str, Any]) -> str:
    """The page; raises KeyError naming what an incomplete result lacks."""
    facts = result["machine"]
    load = f"The load average of the minute before it began was {facts['load']}." if facts.get("load") else ""
    intro = INTRO.format(**result | facts | {"size": result["image_size"], "load": load})
    return "\n".join([intro, *render_tables(result), "", ADVICE])


def render_tables(result: dict[str, Any]) -> list[str]:
    """Every table that the result has numbers for."""
    lines: list[str] = []
    leaving = result.get("leaving", {}).get("rows", [])
    for size in sorted({row["batch"] for row in leaving}):
        lines += [f"## Batch {size}", "", *_leaving([row for row in leaving if row["batch"] == size]), ""]
    if leaving:
        lines += ["## Against the aims", "", *_aims(leaving), "", MISSES]
    if leaving and (bf16 := result["leaving"].get("bf16")):
        told = ", ".join(f"{share}: {n}" for share, n in bf16["exits_differ"].items())
        lines += [f"In bf16 rounding moves scores: of {bf16['images']} images, so many leave elsewhere ({told}).", ""]
    if "profile" in result:
        lines += ["## Where the time goes when nobody leaves", "", *_profile(result["profile"]), ""]
    if "recording" in result:
        lines += ["## Recording", "", *_rates(result["recording"]["rows"]), ""]
        lines += [f"Recording runs at {result['recording']['ratio']:.2f} of the forward pass (aim: at least 0.90).", ""]
    if "training" in result:
        found = result["training"]
        over = found["ratio"] / found["flops_ratio"]
        lines += ["## Training", "", *_rates(found["rows"]), ""]
        lines += [
            f"`fit` takes {found['ratio']:.2f} times as long as the plain loop, by forward FLOPs "
            f"{found['flops_ratio']:.2f} times: {over:.2f} beyond the exits' own (aim: at most 1.15).",
            "",
        ]
    if "memory" in result:
        cells = [["arm at batch 64", "peak MiB above the loaded model"]]
        cells += [[row["arm"], f"{row['peak_mib']:.0f}"] for row in result["memory"]["rows"]]
        lines += ["## Memory", "", *markdown(cells), ""]
    return lines


def _leaving(rows: Sequence[dict[str, Any]]) -> list[str]:
    cells = [["arm", "share", "images/s", "p50 ms", "p95 ms", "promised", "measured", "efficiency", "× earlyon"]]
    for row in rows:
        rate = f"{row['images_per_s']:.4g} ({row['lowest']:.4g}–{row['highest']:.4g})"
        measured = f"{row['speed_up']:.2f}" if "speed_up" in row else "1"
        against = ", ".join(f"{other} {value:.2f}" for other, value in row.get("earlyon", {}).items())
        promised, efficiency = (f"{row[key]:.2f}" if key in row else "" for key in ("promised", "efficiency"))
        one_call = "refill" in row["arm"]
        latency = ["", ""] if one_call else [f"{row['p50_ms']:.3g}", f"{row['p95_ms']:.3g}"]
        cells.append([row["arm"], row["share"] or "", rate, *latency, promised, measured, efficiency, against])
    return markdown(cells)


def _profile(found: dict[str, Any]) -> list[str]:
    """Nested steps; the last line says what FLOPs promise for all of them together."""
    cells = [["batch", "step", "ms per image", "times the plain model"]]
    for row in found["rows"]:
        share = f"{row['ratio']:.3f} ({row['ratio_lowest']:.3f}–{row['ratio_highest']:.3f})"
        cells.append([str(row["batch"]), row["step"], f"{row['ms']:.2f}", share])
    said = f"{found['exits']} exits; by FLOPs the last line of each batch size would be {found['flops_ratio']:.3f}."
    return [*markdown(cells), "", said]


def _aims(rows: Sequence[dict[str, Any]]) -> list[str]:
    """What was aimed at beside what was found; the best of the arms that an aim names."""
    cells = [["aim", "share", "wanted", "found"]]

    def best(size: int, arms: Iterable[str], share: str, value: str) -> float | None:
        found = [
            row[value]
            for row in rows
            if (row["batch"], row["share"]) == (size, share) and row["arm"] in arms and value in row
        ]
        return max(found, default=None)

    for name, (size, arms, wanted) in AIMS.items():
        for share in ("30 %", "50 %"):
            if (found := best(size, arms, share, "efficiency")) is not None:
                cells.append([f"efficiency, {name}", share, f"≥ {wanted:.2f}", f"{found:.2f}"])
    for size in sorted({row["batch"] for row in rows}):
        if (found := best(size, ("infer",), "nobody", "efficiency")) is not None:
            cells.append([f"nobody leaves, batch {size}: time over FLOPs", "nobody", "≤ 1.03", f"{1 / found:.2f}"])
    for size, arms, other, wanted in (
        (1, ("infer",), "loop", 1.0),
        (64, ("stream with refill",), "batched", 2.0),
        (64, ("stream with refill",), "loop", 1.5),
    ):
        for share in ("30 %", "50 %"):
            found = next(
                (r["earlyon"].get(other) for r in rows
                 if (r["batch"], r["share"]) == (size, share) and r["arm"] in arms), None,
            )  # fmt: skip
            if found is not None:
                cells.append([f"batch {size}, times earlyon's {other}", share, f"≥ {wanted:.1f}", f"{found:.2f}"])
    return markdown(cells)


def _rates(rows: Sequence[dict[str, Any]]) -> list[str]:
    cells = [["arm", "images/s"]]
    cells += [[r["arm"], f"{r['images_per_s']:.4g} ({r['lowest']:.4g}–{r['highest']:.4g})"] for r in rows]
    return markdown(cells)
