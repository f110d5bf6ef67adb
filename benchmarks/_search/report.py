"""Report of the comparison of search methods, as Markdown.

In: a paragraph of facts, paired differences (``way``, ``against``, ``epochs``, ``difference``, ``low``, ``high``) and
mean curves (``way``, ``epochs``, ``mean``, ``low``, ``high``), as `search.paired` and `search.mean_curves` give them.
"""

from __future__ import annotations

import pandas as pd

READ_AT = (60, 120, 180)  # epochs
NAMES = {str(at): f"after {at} epochs" for at in READ_AT} | {"all": "mean over all budgets"}
OURS = ("trajectory", "trajectory + stopping")


def verdict(facts: str, table: pd.DataFrame, curves: pd.DataFrame) -> str:
    """The report: comparisons with equal counting first, then those with unequal counting, then shares."""
    count = len({frozenset(pair) for pair in zip(table["way"], table["against"], strict=True)}) * len(NAMES)
    last = table["against"].str.endswith("last epoch")
    whole = table[(table["way"] == OURS[0]) & (table["epochs"] == "all")].set_index("against")["difference"]
    added = {way: whole[f"{way}, last epoch"] - whole[f"{way}, every epoch"] for way in ("random", "TPE")}
    counting = " and ".join(f"{_points(value)} to {way}" for way, value in added.items())
    return "\n".join(
        [
            f"{facts} No interval covers other trainings or images. Numbers are points of the best "
            "reachable hypervolume, in brackets 95 % intervals, paired by seed; ahead means that 0 lies outside. The "
            f"{count} different intervals are not corrected for their number: if all methods were equal, about "
            f"{0.05 * count:.0f} would leave 0 out by chance.",
            "",
            "## Every epoch counts on both sides",
            "",
            *_bullets(table[~last]),
            _stopping(table),
            *_tables(table[~last]),
            "",
            "## Against methods that count last epochs only",
            "",
            f"Of this, the counting alone adds on average over all budgets {counting}.",
            "",
            *_bullets(table[last]),
            *_tables(table[last]),
            "",
            "## Share of the best reachable hypervolume",
            "",
            *_shares(curves),
        ]
    )


def _bullets(table: pd.DataFrame) -> list[str]:
    lines = []
    for ours, rows in table.groupby("way", sort=False):
        for word, found in (("ahead of", rows[rows["low"] > 0]), ("behind", rows[rows["high"] < 0])):
            others = [f"{r.against} ({NAMES[r.epochs]})" for r in found.itertuples()]
            lines.append(f"- `{ours}` is {word} {'; '.join(others) or 'no other method'}.")
    means = table[(table["epochs"] == "all") & ~table["against"].isin(OURS)]
    shown = int(((means["low"] > 0) | (means["high"] < 0)).sum())
    return [f"- On average over all budgets {shown} of {len(means)} comparisons show a difference.", *lines]


def _stopping(table: pd.DataFrame) -> str:
    """The difference that early stopping of trials makes to the same search."""
    rows = table[(table["way"] == OURS[1]) & (table["against"] == OURS[0])]
    word = "loses" if (rows["high"] < 0).any() else "gains something" if (rows["low"] > 0).any() else "gains nothing"
    cells = [f"{_cell(r.difference, r.low, r.high)} {NAMES[r.epochs]}" for r in rows.itertuples()]
    return f"- Stopping {word}: {', '.join(cells)}."


def _tables(table: pd.DataFrame) -> list[str]:
    lines = []
    for ours, rows in table.groupby("way", sort=False):
        lines += ["", f"| `{ours}` minus | {' | '.join(NAMES.values())} |", "|---|" + "---|" * len(NAMES)]
        for other, cells in rows.groupby("against", sort=False):
            lines.append(f"| {other} | {' | '.join(_cell(r.difference, r.low, r.high) for r in cells.itertuples())} |")
    return lines


def _shares(curves: pd.DataFrame) -> list[str]:
    lines = [f"| in % | {' | '.join(NAMES[str(at)] for at in READ_AT)} |", "|---|" + "---|" * len(READ_AT)]
    for way, rows in curves[curves["epochs"].isin(READ_AT)].groupby("way", sort=False):
        cells = [f"{100 * r.mean:.2f} [{100 * r.low:.2f}, {100 * r.high:.2f}]" for r in rows.itertuples()]
        lines.append(f"| {way} | {' | '.join(cells)} |")
    return lines


def _cell(mean: float, low: float, high: float) -> str:
    return f"{_points(mean)} [{_points(low)}, {_points(high)}]"


def _points(share: float) -> str:
    return f"{100 * share:+.2f}"
