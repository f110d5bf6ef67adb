"""Evaluations as tables: rows of `evaluation` → lines of Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..fitting.target import Target
from ..policies.catalogue import POLICIES
from .evaluation import PROTOCOLS


def table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """`evaluate_runs`'s rows as the lines of a Markdown table.

    Example:
        >>> import dmpo_explore as dx
        >>> for line in table(dx.evaluate_runs(["demo"], targets=dx.Target.flops(0.30))):
        ...     print(line)
        | run  | target | accuracy | compute | mean exit | exit shares (%) | threshold |
        |------|--------|----------|---------|-----------|-----------------|-----------|
        | demo | 30 %   | 91.50 %  | 27.1 %  | 1.49      | 82 7 3 1 1 6    | 0.8086    |
    """
    cells = [["run", "target", "accuracy", "compute", "mean exit", "exit shares (%)", "threshold"]]
    against = next((row["against"]["run"] for row in rows if row.get("against")), None)
    if against:
        cells[0].append(f"points above {against} [95 %]")
    for row in rows:
        shares = " ".join(f"{100 * share:.0f}" for share in row["exit_shares"])
        accuracy, compute = f"{100 * row['accuracy']:.2f} %", f"{100 * row['flops_fraction']:.1f} %"
        line = [row["run"], _describe(row["target"]), accuracy, compute, f"{row['mean_exit']:.2f}", shares]
        line.append(_threshold(row))
        if against:
            seen = row["against"]
            numbers = [100 * seen[key] for key in ("difference", "low", "high")] if seen else []
            line.append("{:+.2f} [{:+.2f}, {:+.2f}]".format(*numbers) if seen else "–")
        cells.append(line)
    return markdown(cells)


def policy_table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """`evaluate_policies`'s rows as a Markdown table: a line per policy, accuracy and realised FLOPs per target.

    Example:
        >>> import dmpo_explore as dx
        >>> lines = policy_table(dx.analysis.evaluate_policies(["demo-cnn"]))
        >>> [cell.strip() for cell in lines[2].split("|")[1:4]]
        ['demo-cnn', 'confidence', '87.81 % at 29.6 %']
    """
    lines: dict[tuple[str, str], dict[str, str]] = {}
    columns: dict[str, None] = {}
    for row in rows:
        target = Target.from_dict(row["target"])
        bound = "" if POLICIES[row["policy"]].deployable else " (bound)"
        name = ", ".join([row["policy"], *target.options()]) + bound
        column = target.without_options().describe()
        cell = f"{100 * row['accuracy']:.2f} % at {100 * row['flops_fraction']:.1f} %"
        columns[column] = None
        lines.setdefault((row["run"], name), {})[column] = cell
    cells = [["run", "policy", *columns]]
    cells += [[run, name, *(found.get(column, "–") for column in columns)] for (run, name), found in lines.items()]
    return markdown(cells)


def _describe(target: Mapping[str, Any]) -> str:
    """A row's target in a few words: one of `Target`, or a protocol's setting."""
    if target.keys() <= PROTOCOLS.keys():
        ((protocol, setting),) = target.items()
        return f"exit {setting:g}" if protocol == "anytime" else f"{100 * setting:g} % go on"
    return Target.from_dict(target).describe()


def _threshold(row: Mapping[str, Any]) -> str:
    if "full_depth" in row["target"]:
        return "–"
    if not row.get("certificate", {"certified": True})["certified"]:
        return "none certified"
    return _short(row["threshold"])


def _short(threshold: float | Sequence[float]) -> str:
    return f"{threshold:.4g}" if isinstance(threshold, int | float) else " ".join(f"{t:.3g}" for t in threshold)


def markdown(cells: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table, its columns as wide as they need; the first row is the head.

    Example:
        >>> markdown([["exit", "accuracy"], ["1", "0.9"]])
        ['| exit | accuracy |', '|------|----------|', '| 1    | 0.9      |']
    """
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |" for line in cells]
    return [lines[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *lines[1:]]
