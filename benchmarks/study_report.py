"""Report of the study: comparisons, evidence, figures and RESULTS.md from its runs. `scripts/bench study_report`

In: what `study` keeps in ``benchmarks/results``. Out: comparisons (``gains.csv``, ``contrasts.csv``) and evidence
(``evidence.csv``) beside it, ``benchmarks/RESULTS.md`` with its figures, and the table of parts in ``EVIDENCE.md``. How
arms are judged: `_study.grids`. Nothing here trains or chooses.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import Any

import pandas as pd

import dmpo_explore as dx
from _common.results import RESULTS, with_part, write_figure, write_table
from _photos import opening
from _study.gains import AGAINST, CLAIMS, PARTS, SEEN, all_gains, choices, contrasts, evidence
from _study.grids import NEVER_RUN, REPORTED, SEEDS, SPLITS
from _study.tables import cannot_meet, kept, strongest_naive, tables, unfinished, with_references
from _study.texts import (
    ABOUT_ARMS,
    ABOUT_GRIDS,
    BRACKETS,
    CHOICES_ARE,
    CLAIMED,
    FIGURES,
    HOW,
    LIMITS,
    MADE,
    SEEN_IS,
    SHORT,
    TITLES,
)
from dmpo_explore.utils.files import write_text

NUMBERS = {"score": "score", "first exit": "first_exit", "last exit": "last_exit", "area": "area"}  # title → column
TABLES = {"gains": all_gains, "contrasts": contrasts, "evidence": evidence, "choices": choices}


# -- the document --


def document() -> str:
    """RESULTS.md, from what is kept in `RESULTS` alone."""
    gains, against, seen, tried = (pd.read_csv(RESULTS / f"{name}.csv", dtype={"seeds": str}) for name in TABLES)
    lines = ["# What the study found", "", *opening.lines(RESULTS), "", "## The first edition", "", *verdict(gains), ""]
    lines += [BRACKETS, "", HOW, "", MADE, "", "**What it cannot show.** " + LIMITS, ""]
    lines += [f"Planned and never run: {'; '.join(NEVER_RUN.values())}.", ""]
    for grid, table in tables(RESULTS).items():
        lines += [*_grid_lines(grid, table, gains[gains["grid"] == grid], against[against["grid"] == grid])]
        if grid == "core" and len(seen):
            lines += ["### Are the two tasks decoupled?", "", *_evidence_lines(seen), ""]
            lines += [text for name in ("gradients", "stages") if (text := _figure(grid, name))]
    if len(tried):
        lines += ["## A better recipe, chosen on val", "", CHOICES_ARE, "", _choices_table(tried), ""]
    return "\n".join(lines)


def _grid_lines(grid: str, table: pd.DataFrame, gains: pd.DataFrame, against: pd.DataFrame) -> Iterator[str]:
    yield from (f"## {TITLES[grid]}", "", ABOUT_GRIDS[grid], "")
    if grid == "core":
        yield from (*(f"- `{arm}`: {text}." for arm, text in ABOUT_ARMS.items()), "")
    if missing := unfinished(grid, table):
        yield from (f"Not finished: {missing}.", "")
    if diverged := table.loc[table["diverged"], "arm"].value_counts().to_dict():
        yield from ("Diverged: " + ", ".join(f"{arm} ({n} of {len(SEEDS)})" for arm, n in diverged.items()) + ".", "")
    if too_large := cannot_meet(table):
        yield from (f"Even the first exit uses more than 30 % of the compute, so no score: {', '.join(too_large)}.", "")
    if "card" in table:
        yield from (f"Made on {', '.join(sorted(table['card'].dropna().unique()))}.", "")
    measured = with_references(RESULTS, grid, table)
    if measured.empty:
        return
    yield from (_markdown(arms_table(measured, training_time(grid))), "")
    if len(gains):
        yield from (_gains_table(gains), "")
    if len(against):
        naive = strongest_naive(grid, table)
        best = f"; the best naive arm of this grid on val is `{naive}`" if naive else ""
        yield from (f"Every arm, in points{best}.", "", _contrasts_table(against, naive or ""), "")
    yield from (text for name in ("gains", "budgets") if (text := _figure(grid, name)))
    if (measured["exits"] > 1).any():
        yield from ("Accuracy of every exit (calibration error), per cent.", "", _markdown(exits_table(measured)), "")


def verdict(gains: pd.DataFrame) -> list[str]:
    """A line per part, and the table of claims about the whole."""
    words = {"yes": "helps", "no": "may help or not", "opposite": "harms"}
    parts = gains[(gains["grid"] == "core") & (gains["kind"] == "part")].set_index("question")
    lines = []
    for part in PARTS:
        row = parts.loc[f"gain of {part}"] if f"gain of {part}" in parts.index else None
        if row is None or row["holds"] == "open":
            lines.append(f"- **{part.capitalize()}**: not known yet, its runs are not finished.")
        else:
            lines.append(f"- **{part.capitalize()}**: {words[row['holds']]} ({_points(row)}).")
    return [*lines, "", *_claims_table(gains).splitlines()]


def _claims_table(gains: pd.DataFrame) -> str:
    """The claims about the whole: a row per grid, a column per claim."""
    words = {"yes": "ahead", "no": "no difference shown", "opposite": "behind", "open": "preliminary"}
    claims = gains[gains["kind"] == "claim"]
    texts = [f"**{words[row.holds]}** {_interval(row)}{_marked(row)}" for row in claims.itertuples()]
    cells = claims.assign(cell=texts, number=claims["a"].str.removeprefix("dmpo, "))
    wide = cells.pivot(index="grid", columns="number", values="cell")
    wide = wide.reindex(index=[grid for grid in CLAIMS if grid in wide.index], columns=list(CLAIMED)).fillna("–")
    naive = cells.loc[cells["number"] == "score"].set_index("grid")["b"].str.removesuffix(", score")
    names = [f"{SHORT[grid]} (`{naive[grid]}`)" if grid in naive else SHORT[grid] for grid in wide.index]
    return _markdown(wide.set_axis(names).rename_axis("`dmpo`, points (strongest naive arm)").rename(columns=CLAIMED))


def _points(row: Any) -> str:
    return f"{row['points']:+.2f} points [{row['low']:+.2f}, {row['high']:+.2f}], seeds {row['seeds']}"


# -- its tables --


def _markdown(table: pd.DataFrame, index: bool = True) -> str:
    return str(table.to_markdown(index=index, disable_numparse=True))


def arms_table(table: pd.DataFrame, time: pd.DataFrame | None = None) -> pd.DataFrame:
    """The report's columns by arm, in per cent, mean (lowest–highest seed); ``time``: see `training_time`."""
    table = table.copy()
    table.loc[table["exits"] == 1, ["first_exit", "area"]] = None  # it has neither
    groups = table.groupby("arm", sort=False)
    shown = {title: groups[name].apply(_spread) for title, name in NUMBERS.items() if name in table}
    for budget in REPORTED:
        if f"accuracy_{budget:.0%}" in table:
            shown[f"at most {budget:.0%}"] = groups.apply(_at_budget, budget)
    shown["trainable"] = groups["parameters"].mean().map(lambda n: f"{n / 1e3:,.0f} k")
    if time is not None:
        ratios = time.apply(lambda row: f"{row.relative:.2f} ({row.relative_lowest:.2f}–{row.relative_highest:.2f})", 1)
        shown["training time"] = ratios.reindex(groups.size().index)
    shown["calibration error, first / last"] = groups.apply(_calibration)
    shown["seeds"] = groups.size()
    return pd.DataFrame(shown).rename_axis("arm")


def exits_table(table: pd.DataFrame) -> pd.DataFrame:
    """Arm → accuracy of every exit and its calibration error, per cent, means over seeds."""
    means = table[table["exits"] > 1].groupby("arm", sort=False).mean(numeric_only=True)
    shown = {}
    for k in range(1, int(means["exits"].max()) + 1):
        if f"exit_{k}" in means:
            pairs = zip(means[f"exit_{k}"], means[f"ece_{k}"], strict=True)
            shown[f"exit {k}"] = ["–" if pd.isna(a) else f"{100 * a:.2f} ({100 * e:.1f})" for a, e in pairs]
    return pd.DataFrame(shown, index=means.index)


def _at_budget(rows: pd.DataFrame, budget: float) -> str:
    used = rows[f"flops_{budget:.0%}"]
    return f"{_spread(rows[f'accuracy_{budget:.0%}'])}, used {100 * used.mean():.1f}" if used.notna().all() else "–"


def _calibration(rows: pd.DataFrame) -> str:
    last = rows[f"ece_{rows['exits'].iloc[0]:.0f}"].mean()
    return f"{100 * rows['ece_1'].mean():.1f} / {100 * last:.1f}"


def _spread(values: pd.Series[float], times: float = 100, digits: int = 2) -> str:
    if values.isna().any():
        return "–"
    mean = f"{times * values.mean():.{digits}f}"
    if len(values) == 1:
        return mean
    return f"{mean} ({times * values.min():.{digits}f}–{times * values.max():.{digits}f})"


def training_time(grid: str) -> pd.DataFrame | None:
    """Arm → seconds per training image relative to the single model with their range, where they were measured."""
    path = RESULTS / f"training-time-{grid}.csv"
    return pd.read_csv(path).set_index("arm") if path.is_file() else None


def _gains_table(gains: pd.DataFrame) -> str:
    shown = {
        "question": gains["question"],
        "a": gains["a"],
        "less b": gains["b"],
        "points [95 %]": [_interval(row) for row in gains.itertuples()],
        "seeds": gains["seeds"],
        "holds": gains["holds"],
    }
    return _markdown(pd.DataFrame(shown), index=False)


def summary_table(gains: pd.DataFrame) -> str:
    """The core grid's parts, also at the first exit, and claims, as EVIDENCE.md shows them."""
    of_parts = (gains["kind"] == "part") | gains["question"].str.match("gain of .*, first exit$")
    return _gains_table(gains[(gains["grid"] == "core") & (of_parts | (gains["kind"] == "claim"))])


def _contrasts_table(against: pd.DataFrame, naive: str) -> str:
    cells = against.assign(cell=[_interval(row) + _marked(row) for row in against.itertuples()])
    wide = cells.pivot(index="arm", columns="number", values="cell").reindex(columns=list(AGAINST))
    wide = wide.reindex(dict.fromkeys(against["arm"])).dropna(axis=1, how="all").fillna("–")
    return _markdown(wide.rename(columns=lambda title: title.replace("NAIVE", naive)))


def _choices_table(tried: pd.DataFrame) -> str:
    shown = tried.assign(points=tried["points"].map("{:+.2f}".format))
    return _markdown(shown.rename(columns={"points": "points on val"}), index=False)


def _marked(row: Any) -> str:
    """The number of seeds, where it is not all of them."""
    many = len(str(row.seeds).split())
    return "" if many == len(SEEDS) else f" ({many} of {len(SEEDS)} seeds)"


def _interval(row: Any) -> str:
    return f"{row.points:+.2f} [{row.low:+.2f}, {row.high:+.2f}]"


def _evidence_lines(seen: pd.DataFrame) -> list[str]:
    """Means over the early stages, then what `dmpo` changes against each arm and whether all seeds agree on it."""
    columns = list(SEEN)
    shown = seen.groupby("arm", sort=False)[columns].agg(lambda values: _spread(values, 1, 3))
    wide = seen.set_index(["arm", "seed"])[columns]
    rows = {}
    for arm in dict.fromkeys(seen["arm"]):
        if arm != "dmpo" and "dmpo" in wide.index:
            change = (wide.loc["dmpo"] - wide.loc[arm]).dropna(how="all")
            rows[f"dmpo less {arm}"] = change.apply(_agreed)
    return [
        SEEN_IS,
        "",
        _markdown(shown),
        "",
        f"What `dmpo` changes, mean over seeds; \\* where all {len(SEEDS)} seeds agree in sign, which one in four does "
        "by chance.",
        "",
        _markdown(pd.DataFrame(rows).T),
    ]


def _agreed(values: pd.Series[float]) -> str:
    if values.isna().any() or not len(values):
        return "–"
    agreed = len(values) == len(SEEDS) and abs(values.map(lambda v: (v > 0) - (v < 0)).sum()) == len(values)
    return f"{values.mean():+.3f}{' *' if agreed else ''}"


# -- its figures --


def _figure(grid: str, name: str) -> str:
    path = RESULTS / f"study-{grid}-{name}.png"
    return f"![{FIGURES[name]}](results/{path.name})\n\n{FIGURES[name]}.\n" if path.is_file() else ""


def write_figures(gains: pd.DataFrame) -> None:
    """The figure of the opening and every grid's; needs a Chromium."""
    if (first := opening.figure(RESULTS)) is not None:
        write_figure(opening.FIGURE, first, 1200, 560, RESULTS)
    for grid, table in tables(RESULTS).items():
        found = gains[gains["grid"] == grid]
        if len(found):
            figure = dx.figures.gains_figure(found).update_layout(margin={"l": 330})
            write_figure(f"study-{grid}-gains", figure, 1000, 150 + 34 * len(found), RESULTS)
        if "test" in SPLITS[grid]:
            means = with_references(RESULTS, grid, table).groupby("arm", sort=False).mean(numeric_only=True)
            write_figure(f"study-{grid}-budgets", dx.figures.budgets_figure(means, REPORTED), 1000, 520, RESULTS)
        if gradients := kept(RESULTS, grid, "gradients"):
            write_figure(f"study-{grid}-gradients", dx.figures.gradient_epochs_figure(gradients), 1200, 420, RESULTS)
        if stages := kept(RESULTS, grid, "stages"):
            write_figure(f"study-{grid}-stages", dx.figures.stages_figure(stages), 1000, 1050, RESULTS)


def write_tables() -> None:
    """All of `TABLES` as CSV."""
    for name, table in TABLES.items():
        write_table(name, table(RESULTS), RESULTS)


def main(arguments: list[str] | None = None) -> int:
    argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0]).parse_args(arguments)
    write_tables()
    gains, evidence_page = pd.read_csv(RESULTS / "gains.csv", dtype={"seeds": str}), RESULTS.parent / "EVIDENCE.md"
    write_figures(gains)
    text = document()
    write_text(RESULTS.parent / "RESULTS.md", text)
    shown = evidence_page.read_text(encoding="utf-8")
    write_text(evidence_page, with_part(shown, "study parts", summary_table(gains)))
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
