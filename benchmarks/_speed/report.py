"""Report of the speed benchmark: Markdown tables of a result, and the one table of ``EVIDENCE.md`` from several.

In: what `speed` measured (``benchmarks/results/speed*.json``). Every number comes from there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import dmpo_explore as dx
from _speed.early_exit import NO_EARLY_EXIT, PLAIN, plain_of

EXTRA = {"peak MiB": "peak_mib", "W": "watts", "J per image": "joules"}  # further columns, title → key of the rows
SHOWN = [  # arm and budget of the rows of the page's table
    ("half the plain model", None),
    *((f"{PLAIN}, {runtime}", None) for runtime in ("onnx", "onnx int8")),
    *((arm, "30 %") for arm in ("infer", "compiled", "stream with refill", "onnx", "onnx one graph", "onnx int8")),
    ("onnx int8 one graph", "30 %"),
    ("infer", NO_EARLY_EXIT),
    ("onnx one graph", NO_EARLY_EXIT),
]


def page_table(results: Iterable[Mapping[str, Any]]) -> list[str]:
    """Times the plain model's speed, a row per arm and budget, a column per result and batch size."""
    titles, columns = list[str](), list[dict[tuple[str, str | None], dict[str, Any]]]()
    for result in results:
        rows = result["early-exit"]["rows"]
        for size in sorted({row["batch"] for row in rows} & {1, 64}):
            run = f"`{result['run']}`, {result['image_size']} px, " if size == 1 else ""
            titles.append(f"{run}batch {size}")
            columns.append({(row["arm"], row["share"]): row for row in rows if row["batch"] == size})
    cells = [["arm", "budget", *titles]]
    cells.append(["expected from FLOPs", "30 %", *(f"{rows['infer', '30 %']['expected']:.2f}" for rows in columns)])
    cells += [[arm, share or "", *(_times(rows.get((arm, share))) for rows in columns)] for arm, share in SHOWN]
    return dx.analysis.markdown(cells)


def _times(row: Mapping[str, Any] | None) -> str:
    """Times the plain model's speed, with its rounds' ends; then over the plain model in the same runtime."""
    if row is None:
        return ""
    low, high = row["speed_up_range"]
    like = f", {row['like']:.2f}" if "like" in row and plain_of(row["arm"]) != PLAIN else ""
    return f"{row['speed_up']:.2f} ({low:.2f}–{high:.2f}){like}"


def render_tables(result: Mapping[str, Any]) -> list[str]:
    """Every table that the result has numbers for."""
    lines: list[str] = []
    rows = result.get("early-exit", {}).get("rows", [])
    for size in sorted({row["batch"] for row in rows}):
        lines += [f"Batch {size}", "", *early_exit_table([row for row in rows if row["batch"] == size]), ""]
    if watts := result.get("early-exit", {}).get("idle_watts"):
        lines += [f"*W* and *J per image* include {watts} W that the card draws when idle.", ""]
    for precision in ("bf16", "int8") if rows else ():
        if (rounded := result["early-exit"].get(precision)) is None:
            continue
        counts = ", ".join(f"{key}: {n}" for key, n in rounded["exits_differ"].items())
        lines += [f"In {precision} of {rounded['images']} images so many have another exit: {counts}.", ""]
    if "exits" in result:
        keys = ("exit", "block", "cut_flops", "cut", "graph_flops", "graph")
        heads = ["exit", "block", "plain net cut there: FLOPs", "time", "one graph to this exit: FLOPs", "time"]
        rows = result["exits"]["rows"]
        cells = [[f"{row[key]:.3f}" if isinstance(row[key], float) else str(row[key]) for key in keys] for row in rows]
        lines += [*dx.analysis.markdown([heads, *cells]), ""]
    return lines


def early_exit_table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Rows of `early_exit.row` as a table; the comparison with earlyon, memory and energy where there are any."""
    extra = {title: key for title, key in EXTRA.items() if any(key in row for row in rows)}
    head = ["arm", "budget", "images/s", "p50 ms", "p95 ms", "expected", "measured"]
    earlyon = any(row.get("earlyon") for row in rows)
    cells = [[*head, "like with like", "efficiency", *(["× earlyon"] if earlyon else []), *extra]]
    for row in rows:
        rate = f"{row['images_per_s']:.4g} ({row['lowest']:.4g}–{row['highest']:.4g})"
        against = ", ".join(f"{other} {value:.2f}" for other, value in row.get("earlyon", {}).items())
        ratios = [f"{row[key]:.2f}" if key in row else "" for key in ("expected", "speed_up", "like", "efficiency")]
        one_call = "refill" in row["arm"]
        latency = ["", ""] if one_call else [f"{row['p50_ms']:.3g}", f"{row['p95_ms']:.3g}"]
        more = [f"{row[key]:.4g}" if key in row else "" for key in extra.values()]
        cells.append([row["arm"], row["share"] or "", rate, *latency, *ratios, *([against] if earlyon else []), *more])
    return dx.analysis.markdown(cells)
