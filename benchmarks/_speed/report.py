"""Report of the speed benchmark: Markdown tables of its result, and the page ``benchmarks/SPEED.md`` around them.

In: what `speed` measured (``benchmarks/results/speed.json``). Every number comes from there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import dmpo_explore as dx
from _speed.early_exit import NO_EARLY_EXIT

AIMS = {  # (batch, arms) → least efficiency at 30 % and 50 %
    "batch 1, infer": (1, ("infer",), 0.85),
    "batch 1, onnx": (1, ("onnx", "onnx one graph"), 0.95),
    "batch 64, stream with refill": (64, ("stream with refill", "onnx stream with refill"), 0.92),
}

AIMED = {"30 %": 0.85, "50 %": 0.85, NO_EARLY_EXIT: 1 / 1.03}  # least efficiency of `infer` at batch 1
PUBLISHED = "fashion"

INTRO = """# Speed, measured

*For sceptics.* What stands behind [Speed](../docs/speed.md). The numbers come from
`{command}` ({minutes} minutes on {cpu}, {threads} threads, {device}; torch {torch}, onnxruntime {onnxruntime}). Repeat
it on your machine, or measure a run of your own: `scripts/bench speed --run RUN --parts early-exit --batch 1`. Here:
run `{run}`, {size} px, {rounds} rounds with all arms in turn. Numbers are medians, in
brackets the lowest and highest round. {load}

*Expected* is the speed-up from FLOPs on the same images; everything that ran is counted. *Measured* is the speed-up
over the full plain model (timm's, LayerScale folded as in ours) in float32, as timm runs it: it includes what a
compiler, onnxruntime or fewer bits gain. *Like with like* is the speed-up over the plain model in the same runtime and
precision: early exit alone. *Efficiency* is like with like over expected: at 1, all saved compute is saved time.
*Budget*: the threshold whose compute on calibration is the largest within this share of the plain model's. `--flops`
takes the most accurate threshold within it, which may use less: on `fashion` 24 % under a budget of 30 %.
*earlyon* is another early-exit library, here around the same ViT with the same exits and shares of images. Its *loop*
takes one image at a time; in its *batched* mode a batch runs until its hardest image exits.
With "no early exit" all images go to the last exit.
"""

MANY_TIMES = 10  # the plain model, one image in int8 at 30 %: the aim
REASONS = "Remarks, most of them on missed aims:"
EAGER = """- **One image, eager torch.** An exit of ours is dozens of small operations{parts}. For
  one image each costs its fixed overhead, not its FLOPs.{onnx}"""
COVARIANCE = """ (bypass, norm, reduction, covariance,
  twelve products for its square root, two linear layers)"""  # of the published run
ONNX_FASTER = """ The same graph in onnxruntime has almost none of it, and
  is faster than the plain model in eager torch even without early exits."""
ONNX = """- **One image, onnxruntime.** Already without early exits the single graph reaches {reached:.2f} of the
  speed-up expected from FLOPs: the rest is the exits' small operations.{cut}"""
CUT = """ What is missing beyond it at a budget, plain nets
  lack, too: one cut at block {block} takes {cut:.3f} of the whole net's time for {cut_flops:.3f} of its FLOPs."""
INT8 = """- **int8.** The plain model gains {gain:.2f} times from int8 on this processor. With the {expected:.2f} times
  that are expected from FLOPs no more than {most:.1f} can come out at 30 %."""
LOOP = """- **earlyon's loop at batch 1** evaluates one linear layer per exit and is faster than our predictors in eager
  torch.{onnx}"""
ONNX_AHEAD = " In onnxruntime ours are ahead."
BATCHED = """- **Twice earlyon's batched mode.** Its batch runs until its hardest image exits, nearly always to the end.
  The ratio is therefore about our measured speed-up, which the expected speed-up bounds."""
COMPILED = """- **torch.compile** gains little or nothing for one image. On a CPU it is not timed for batches, because
  compiling takes minutes. It remains an argument (`steps=dx.inference.compiled(model)`) for GPUs, where it has not been
  measured yet."""
LITTLE = 1.15  # times as fast: "little or nothing"


def render_page(result: dict[str, Any], others: Iterable[dict[str, Any]] = ()) -> str:
    """The page as Markdown.

    Args:
        others: results of other runs and image sizes, each in a section of its own.

    Raises:
        KeyError: an incomplete result.
    """
    facts = result["machine"]
    load = f"The load average of the minute before it began was {facts['load']}." if facts.get("load") else ""
    intro = INTRO.format(**result | facts | {"size": result["image_size"], "load": load})
    return "\n".join([intro, *render_tables(result), *(line for other in others for line in _section(other))])


def _section(result: dict[str, Any]) -> list[str]:
    """Early exit and exits of another run, one image and batches under one heading."""
    run, size, rows = result["run"], result["image_size"], result["early-exit"]["rows"]
    trained = dx.load_run(run).config.model.image_size
    lines = [f"## `{run}` at {size} pixels", ""]
    lines += [f"`{result['command']}`, {result['minutes']} minutes.", ""]
    if size != trained:
        lines += [f"It was trained at {trained} pixels: here its answers are worth less, and its cost is right.", ""]
    for batch in sorted({row["batch"] for row in rows}):
        table = early_exit_table([row for row in rows if row["batch"] == batch])
        lines += [f"### Batch {batch}, {size} pixels", "", *table, ""]
    return lines + (["### Its exits in one graph", "", *_exits(result["exits"]), ""] if "exits" in result else [])


def render_tables(result: dict[str, Any]) -> list[str]:
    """Every table that the result has numbers for."""
    lines: list[str] = []
    early = result.get("early-exit", {}).get("rows", [])
    for size in sorted({row["batch"] for row in early}):
        lines += [f"## Batch {size}", "", *early_exit_table([row for row in early if row["batch"] == size]), ""]
    if early:
        lines += ["## Against the aims", "", *_aims(early), "", *_reasons(result)]
    for precision in ("bf16", "int8") if early else ():
        if rounded := result["early-exit"].get(precision):
            counts = ", ".join(f"{key}: {n}" for key, n in rounded["exits_differ"].items())
            moved = f"In {precision} rounding moves scores. Of {rounded['images']} images"
            lines += [f"{moved}, so many have another exit at the same threshold: {counts}.", ""]
    if "exits" in result:
        lines += ["## The exits of one graph", "", *_exits(result["exits"]), ""]
    if "profile" in result:
        lines += ["## Where the time goes without early exits", "", *_profile(result["profile"]), ""]
    if "recording" in result:
        lines += ["## Recording", "", *_rates(result["recording"]["rows"]), ""]
        lines += [f"Recording runs at {result['recording']['ratio']:.2f} of the forward pass (aim: at least 0.90).", ""]
    if "training" in result:
        found = result["training"]
        over = found["ratio"] / found["flops_ratio"]
        lines += ["## Training", "", *_rates(found["rows"]), ""]
        lines += [
            f"`fit` takes {found['ratio']:.2f} times as long as the plain loop; from forward FLOPs "
            f"{found['flops_ratio']:.2f} times are expected. The quotient is {over:.2f} (aim: at most 1.15).",
            "",
        ]
    if "memory" in result:
        cells = [["arm at batch 64", "peak MiB above the loaded model"]]
        cells += [[row["arm"], f"{row['peak_mib']:.0f}"] for row in result["memory"]["rows"]]
        lines += ["## Memory", "", *dx.analysis.markdown(cells), ""]
    return lines


def early_exit_table(rows: Sequence[dict[str, Any]], extra: Mapping[str, str] | None = None) -> list[str]:
    """Rows of `early_exit.row` as a table; the comparison with earlyon where there is one.

    Args:
        extra: further columns, title → key of the rows.
    """
    head = ["arm", "budget", "images/s", "p50 ms", "p95 ms", "expected", "measured"]
    earlyon = any(row.get("earlyon") for row in rows)
    cells = [[*head, "like with like", "efficiency", *(["× earlyon"] if earlyon else []), *(extra or {})]]
    for row in rows:
        rate = f"{row['images_per_s']:.4g} ({row['lowest']:.4g}–{row['highest']:.4g})"
        measured = f"{row['speed_up']:.2f}" if "speed_up" in row else "1"
        against = ", ".join(f"{other} {value:.2f}" for other, value in row.get("earlyon", {}).items())
        expected, like, efficiency = (
            f"{row[key]:.2f}" if key in row else "" for key in ("expected", "like", "efficiency")
        )
        one_call = "refill" in row["arm"]
        latency = ["", ""] if one_call else [f"{row['p50_ms']:.3g}", f"{row['p95_ms']:.3g}"]
        shown = [row["arm"], row["share"] or "", rate, *latency, expected, measured, like, efficiency]
        more = [f"{row[key]:.4g}" if key in row else "" for key in (extra or {}).values()]
        cells.append([*shown, *([against] if earlyon else []), *more])
    return dx.analysis.markdown(cells)


def _profile(found: dict[str, Any]) -> list[str]:
    """Nested steps; the last line has the ratio expected from FLOPs for all of them together."""
    cells = [["batch", "step", "ms per image", "times the plain model"]]
    for row in found["rows"]:
        share = f"{row['ratio']:.3f} ({row['ratio_lowest']:.3f}–{row['ratio_highest']:.3f})"
        cells.append([str(row["batch"]), row["step"], f"{row['ms']:.2f}", share])
    expected = f"{found['flops_ratio']:.3f}"
    note = f"{found['exits']} exits; from FLOPs {expected} is expected in the last line of each batch size."
    return [*dx.analysis.markdown(cells), "", note]


def _exits(found: dict[str, Any]) -> list[str]:
    """Time and FLOPs of one image up to each exit, as shares of the whole plain net's."""
    cells = [["exit", "block", "plain net cut there: FLOPs", "time", "one graph to this exit: FLOPs", "time"]]
    cells += [
        [
            str(row["exit"]),
            str(row["block"]),
            *(f"{row[key]:.3f}" for key in ("cut_flops", "cut", "graph_flops", "graph")),
        ]
        for row in found["rows"]
    ]
    note = (
        "One image, onnxruntime, shares of the whole plain net. A cut net takes more than its share of the FLOPs where "
        "embedding and call weigh more; what the graph takes beyond that are its exits."
    )
    return [*dx.analysis.markdown(cells), "", note]


def _aims(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Aims beside measured values; the best of the arms that an aim allows, named."""
    cells = [["quantity", "budget", "aim", "measured", "arm", "met"]]

    def best(size: int, arms: Iterable[str], share: str, value: str) -> tuple[float, str] | None:
        found = [
            (row[value], row["arm"])
            for row in rows
            if (row["batch"], row["share"]) == (size, share) and row["arm"] in arms and value in row
        ]
        return max(found, default=None)

    def add(quantity: str, share: str, aim: str, measured: str, arm: str, met: bool) -> None:
        cells.append([quantity, share, aim, measured, arm, "yes" if met else "no"])

    for name, (size, arms, wanted) in AIMS.items():
        for share in ("30 %", "50 %"):
            if found := best(size, arms, share, "efficiency"):
                value, arm = found
                add(f"efficiency, {name}", share, f"≥ {wanted:.2f}", f"{value:.2f}", arm, value >= wanted)
    if found := best(1, ("onnx int8", "onnx int8 one graph"), "30 %", "speed_up"):
        value, arm = found
        add(
            "batch 1, onnx int8: times the plain model",
            "30 %",
            f"≥ {MANY_TIMES}",
            f"{value:.1f}",
            arm,
            value >= MANY_TIMES,
        )
    for size in sorted({row["batch"] for row in rows}):
        if found := best(size, ("infer",), NO_EARLY_EXIT, "efficiency"):
            over, label = 1 / found[0], f"batch {size}: measured over expected time"
            add(label, NO_EARLY_EXIT, "≤ 1.03", f"{over:.2f}", found[1], over <= 1.03)
    for size, arm, other, wanted in (
        (1, "infer", "loop", 1.0),
        (64, "stream with refill", "batched", 2.0),
        (64, "stream with refill", "loop", 1.5),
    ):
        for row in rows:
            if (row["batch"], row["arm"]) == (size, arm) and row["share"] in ("30 %", "50 %"):
                value = row["earlyon"].get(other)
                if value is not None:
                    quantity, aim = f"batch {size}, times earlyon's {other}", f"≥ {wanted:.1f}"
                    add(quantity, row["share"], aim, f"{value:.3f}", arm, value >= wanted)
    return dx.analysis.markdown(cells)


def _reasons(result: dict[str, Any]) -> list[str]:
    """The reasons that these rows bear out: each for an aim that they miss."""
    rows = result["early-exit"]["rows"]

    def seen(arm: str, size: int, *keys: str) -> dict[str, float]:
        """Budget → that value of an arm."""
        found = {}
        for row in rows:
            value: Any = row if (row["arm"], row["batch"]) == (arm, size) and row["share"] else {}
            for key in keys:
                value = value.get(key, {})
            if value:
                found[row["share"]] = value
        return found

    lines, timed = [], seen("infer", 1, "speed_up")
    slow = {share: found for share, found in seen("infer", 1, "efficiency").items() if share in AIMED}
    if any(found < AIMED[share] for share, found in slow.items()):
        onnx = seen("onnx", 1, "speed_up").get(NO_EARLY_EXIT, 0) > 1
        parts = COVARIANCE if result["run"] == PUBLISHED else ""
        lines.append(EAGER.format(parts=parts, onnx=ONNX_FASTER if onnx else ""))
    single = seen("onnx one graph", 1, "efficiency")
    if single and any(single[share] < 0.95 for share in AIMED if share in single and share != NO_EARLY_EXIT):
        exits = result.get("exits", {}).get("rows")
        lines.append(ONNX.format(reached=single[NO_EARLY_EXIT], cut=CUT.format(**exits[0]) if exits else ""))
    gain = next((r["speed_up"] for r in rows if (r["arm"], r["batch"]) == ("plain model, onnx int8", 1)), None)
    expected = seen("onnx int8 one graph", 1, "expected").get("30 %")
    if gain and expected and gain * expected < MANY_TIMES:
        lines.append(INT8.format(gain=gain, expected=expected, most=gain * expected))
    loop, onnx_loop = seen("infer", 1, "earlyon", "loop"), seen("onnx", 1, "earlyon", "loop")
    if loop and max(loop.values()) < 1:
        ahead = bool(onnx_loop) and min(onnx_loop.values()) > 1
        lines.append(LOOP.format(onnx=ONNX_AHEAD if ahead else ""))
    if any(found < 2 for found in seen("stream with refill", 64, "earlyon", "batched").values()):
        lines.append(BATCHED)
    compiled = seen("compiled", 1, "speed_up")
    if compiled and result["machine"]["device"] == "cpu" and all(v <= LITTLE * timed[s] for s, v in compiled.items()):
        lines.append(COMPILED)
    return [REASONS, "", *lines, ""] if lines else []


def _rates(rows: Sequence[dict[str, Any]]) -> list[str]:
    cells = [["arm", "images/s"]]
    cells += [[r["arm"], f"{r['images_per_s']:.4g} ({r['lowest']:.4g}–{r['highest']:.4g})"] for r in rows]
    return dx.analysis.markdown(cells)
