"""The table of backbones, as text and as the part of benchmarks/BACKBONES.md between its markers."""

from __future__ import annotations

from typing import Any

import pandas as pd

from _common.results import between

BEGIN, END = "<!-- begin: scripts/bench backbones -->", "<!-- end: scripts/bench backbones -->"


def render_summary(table: pd.DataFrame) -> str:
    """How many are accepted, and what is wrong with the rest."""
    cut = table[table["layout"] != ""]
    whole = cut[cut["problem"] == ""]
    first = cut["shares"].str.partition(" ")[0].replace("", "9").astype(float)
    good = int(((first <= 0.5) & (cut["recorded"] == "yes")).sum())
    exported = int((whole["exported"] == "yes").sum())
    return (
        f"Of {len(table)} model classes of timm {len(cut)} are accepted ({len(cut) / len(table):.0%}), "
        f"{int((table['reason'] != '').sum())} refused. {good} have three exits of which the first costs at most half, "
        f"and execute the exits that they record; {exported} are exported to ONNX and answer the same there."
    )


def with_table(page: str, table: pd.DataFrame) -> str:
    """The page with its part between the markers made anew; ValueError without markers."""
    return between(page, BEGIN, END, f"\n{render_table(table)}\n")


def render_table(table: pd.DataFrame) -> str:
    """Accepted backbones, then refused ones with the reason, as Markdown."""
    cut, refused = table[table["layout"] != ""], table[table["layout"] == ""]
    lines = [
        render_summary(table), "",
        "| timm class | smallest, at pixels | state at the exits | blocks: exits | compute | tuned layers | ONNX |",
        "|---|---|---|---|---|---|---|",
        *(_row(row) for row in cut.to_dict("records")),
        "", "Refused, or not finished:", "", "| timm class | smallest | why |", "|---|---|---|",
        *(_why(row) for row in refused.to_dict("records")),
    ]  # fmt: skip
    return "\n".join(lines)


def _why(row: dict[Any, Any]) -> str:
    return f"| `{row['class']}` | `{row['backbone']}` | {row['reason'] or row['problem']} |"


def _row(row: dict[str, object]) -> str:
    kind = {"tokens": "tokens", "channels_first": "maps", "channels_last": "maps, channels last"}[str(row["layout"])]
    prefix = f", {row['prefix']} before the patches" if str(row["prefix"]) not in ("0", "") else ""
    shares = ", ".join(f"{float(share):.0%}" for share in str(row["shares"]).split())
    exits = ", ".join(str(row["exits"]).split())
    onnx = "same" if row["exported"] == "yes" else f"not: {row['problem']}" if row["problem"] else "not tried"
    state, blocks = ", ".join(str(row["state"]).split()), f"{row['blocks']}: {exits}"
    return (
        f"| `{row['class']}` | `{row['backbone']}`, {row['image_size']} | {kind} {state}{prefix} | {blocks} "
        f"| {shares} | {row['tuned']} | {onnx} |"
    )
