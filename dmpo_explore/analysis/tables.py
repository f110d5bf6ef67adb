"""Evaluations as tables: rows → Markdown and text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..fitting.target import _HOW, FULL, describe
from ..policies.catalogue import POLICIES
from .evaluation import _wanted


def table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """`evaluate_runs`'s rows as the lines of a Markdown table."""
    cells = [["run", "wish", "accuracy", "compute", "mean exit", "left at exits 1, 2, … (%)", "threshold"]]
    against = next((row["against"]["run"] for row in rows if row.get("against")), None)
    if against:
        cells[0].append(f"points above {against} [95 %]")
    for row in rows:
        shares = " ".join(f"{100 * share:.0f}" for share in row["exit_shares"])
        accuracy, compute = f"{100 * row['accuracy']:.2f} %", f"{100 * row['flops_fraction']:.1f} %"
        line = [row["run"], describe(row["target"]), accuracy, compute, f"{row['mean_exit']:.2f}", shares]
        line.append(_threshold(row))
        if against:
            seen = row["against"]
            numbers = [100 * seen[key] for key in ("difference", "low", "high")] if seen else []
            line.append("{:+.2f} [{:+.2f}, {:+.2f}]".format(*numbers) if seen else "–")
        cells.append(line)
    return markdown(cells)


def policy_table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """`evaluate_policies`'s rows as a Markdown table: a line per policy, accuracy and realised compute per wish."""
    wishes = list(dict.fromkeys(describe(_wanted(row["target"])) for row in rows))
    lines: dict[tuple[str, str], dict[str, str]] = {}
    for row in rows:
        how = ", ".join(_HOW[key] for key in row["target"] if key in _HOW)
        bound = "" if POLICIES[row["policy"]].deployable else " (bound)"
        name = row["policy"] + (f", {how}" if how else "") + bound
        cell = f"{100 * row['accuracy']:.2f} % at {100 * row['flops_fraction']:.1f} %"
        lines.setdefault((row["run"], name), {})[describe(_wanted(row["target"]))] = cell
    cells = [["run", "policy", *wishes]]
    cells += [[run, name, *(found.get(wish, "–") for wish in wishes)] for (run, name), found in lines.items()]
    return markdown(cells)


def _threshold(row: Mapping[str, Any]) -> str:
    if row["target"] == FULL:
        return "–"
    if not row.get("certificate", {"certified": True})["certified"]:
        return "none certified"
    return _short(row["threshold"])


def _short(threshold: float | Sequence[float]) -> str:
    return f"{threshold:.4g}" if isinstance(threshold, int | float) else " ".join(f"{t:.3g}" for t in threshold)


def markdown(cells: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table, its columns as wide as they need; the first row is the head."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |" for line in cells]
    return [lines[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *lines[1:]]
