"""What the study found, from its runs and tables: `scripts/bench report`.

In: what `study` keeps in ``benchmarks/results``. Out: comparisons (``gains.csv``, ``contrasts.csv``) and evidence
(``evidence.csv``) beside it, ``benchmarks/RESULTS.md`` and its figures. How arms are judged stands in `grids`. Nothing
here trains or chooses.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import pandas as pd
from _results import RESULTS, write_figure, write_table
from _study_gains import AGAINST, CLAIMS, EVIDENCE, PARTS, all_gains, choices, contrasts, evidence
from _study_tables import kept, strongest_naive, tables, unfinished
from grids import REPORTED, SEEDS

from dmpo_explore.figures_study import budgets_figure, gains_figure, gradients_figure, stages_figure
from dmpo_explore.files import write_text

TITLES = {
    "core": "Which part earns its place: 2,000 training images",
    "headline": "The claim: 10,000 training images",
    "gpu": "The claim on a GPU: 55,000 training images at 98 pixels",
    "cnn": "The claim on a CNN: EfficientNet-Lite0, 10,000 training images",
    "bypass": "Other bypasses",
    "predictor": "Other predictors",
    "schedule": "Other schedules and losses",
    "tuning": "Other tuning",
    "exits": "Fewer and more exits",
    "recipe": "Other recipes, read on val alone",
}
NUMBERS = {  # title → column of a grid's table
    "score": "score",
    "first exit": "first_exit",
    "last exit": "last_exit",
    "area": "area",
    **{f"at {budget} %": f"accuracy_{budget}%" for budget in (30, 50, 70, 100)},
}
PICTURES = {
    "gains": "Points gained, with 95 % intervals over images",
    "budgets": "Accuracy under four budgets, mean over seeds",
    "gradients": "Cosine between an early exit's gradient and the last one's, on the tuned weights that they share",
    "stages": "What every stage knows: how much of the untuned backbone its trunk keeps, and what ridge probes read",
}


HOW = (
    "How arms are judged was fixed before the runs, in [grids.py](grids.py): by the *score*, test accuracy "
    "averaged over the budgets 30, 35, … 100 % of the plain backbone's compute, thresholds from val, everything "
    "counted. A part earns its place if the 95 % interval over images lies above 0 and all seeds agree. Made by "
    "`scripts/bench study GRID` and `scripts/bench training_time GRID`, then `scripts/bench report`; every number "
    "comes from the CSVs in [results](results). Numbers are means over seeds, in brackets the lowest and the "
    "highest. Intervals are over images; how much another training changes is what the seeds show."
)
EVIDENCE_IS = (
    "On validation images, each number the mean over a run's early stages (all but the last): the cosine between "
    "an early exit's gradient and the last one's, on the tuned weights that they share, after the first and the "
    "last epoch; linear CKA of the trunk with the untuned backbone; what ridge probes read from its patch tokens "
    "(brightness of the picture under a patch, label); the label, and the likeness to the last stage, of what the "
    "predictor reads. Lowest and highest seed in brackets."
)
CHOICES_ARE = (
    "Every change to `dmpo` that was tried on the core grid's data: points of score on val, and whether it enters the "
    "recipe (every seed gains). Nothing here has read test to choose."
)


# -- the document --


def document() -> str:
    """RESULTS.md, from what is kept in `RESULTS` alone."""
    names = ("gains", "contrasts", "evidence", "choices")
    gains, against, seen, tried = (pd.read_csv(RESULTS / f"{name}.csv", dtype={"seeds": str}) for name in names)
    lines = ["# What the study found", "", *verdict(gains), "", HOW, ""]
    for grid, table in tables(RESULTS).items():
        lines += [f"## {TITLES[grid]}", "", _markdown(arms_table(table, training_time(grid))), ""]
        if missing := unfinished(grid, table):
            lines += [f"Not finished: {missing}.", ""]
        if "card" in table:
            lines += [f"Made on {', '.join(sorted(table['card'].dropna().unique()))}.", ""]
        if len(found := gains[gains["grid"] == grid]):
            lines += [_gains_table(found), ""]
        if len(found := against[against["grid"] == grid]):
            naive = strongest_naive(grid, table)
            best = f"; the strongest naive arm on val is `{naive}`" if naive else ""
            lines += [f"Every arm, in points [95 %]{best}.", "", _contrasts_table(found, naive or ""), ""]
        lines += [text for name in ("gains", "budgets") if (text := _picture(grid, name))]
        if grid == "core" and len(seen):
            lines += ["### Are the two tasks decoupled?", "", *_evidence_lines(seen), ""]
            lines += [text for name in ("gradients", "stages") if (text := _picture(grid, name))]
    if len(tried):
        lines += ["## A better recipe, chosen on val", "", CHOICES_ARE, "", _choices_table(tried), ""]
    return "\n".join(lines)


def verdict(gains: pd.DataFrame) -> list[str]:
    """Which parts earn their place, and what the whole is worth, in plain words."""
    core = gains[gains["grid"] == "core"].set_index("question")
    words = {"yes": "earns its place", "no": "is not shown to help", "opposite": "does harm here"}
    lines = []
    for part in PARTS:
        row = core.loc[f"gain of {part}"] if f"gain of {part}" in core.index else None
        if row is None or row["holds"] == "open":
            lines.append(f"- **{part.capitalize()}**: not known yet, its runs are not finished.")
        else:
            lines.append(f"- **{part.capitalize()}**: {words[row['holds']]} ({_points(row)}).")
    for grid in CLAIMS:
        rows = gains[(gains["grid"] == grid) & ~gains["question"].str.startswith(("gain of", "50 %"))]
        said = [f"{row.question}: {_points(row._asdict())}" for row in rows.head(4).itertuples()]
        if said:
            lines.append(f"- **{TITLES[grid]}.** {'; '.join(said)}.")
    return lines


def _points(row: Any) -> str:
    many = len(str(row["seeds"]).split())
    seeds = f"seeds {row['seeds']}" if many > 1 else "one seed"
    return f"{row['points']:+.2f} points [{row['low']:+.2f}, {row['high']:+.2f}], {seeds}"


# -- its tables --


def _markdown(table: pd.DataFrame, index: bool = True) -> str:
    return str(table.to_markdown(index=index, disable_numparse=True))


def arms_table(table: pd.DataFrame, time: pd.Series[float] | None = None) -> pd.DataFrame:
    """The columns that people read, in per cent, mean (lowest–highest seed); ``time``: see `training_time`."""
    groups = table.groupby("arm", sort=False)
    shown = {title: groups[name].apply(_spread) for title, name in NUMBERS.items() if name in table}
    if "flops_30%" in table:
        shown["spent at 30 %"] = groups["flops_30%"].apply(_spread, digits=1)
    shown["trainable"] = groups["parameters"].mean().map(lambda n: f"{n / 1e3:,.0f} k")
    if time is not None:
        shown["training time"] = time.map(lambda ratio: f"{ratio:.2f}").reindex(groups.size().index)
    shown["calibration error, first / last"] = groups.apply(_calibration)
    shown["seeds"] = groups.size()
    return pd.DataFrame(shown).rename_axis("arm")


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


def training_time(grid: str) -> pd.Series[float] | None:
    """Arm → seconds per training image relative to the single model, where they were measured."""
    path = RESULTS / f"training-time-{grid}.csv"
    return pd.read_csv(path).set_index("arm")["relative"] if path.is_file() else None


def _gains_table(gains: pd.DataFrame) -> str:
    shown = {
        "question": gains["question"],
        "a": gains["a"],
        "b": gains["b"],
        "points [95 %]": [_interval(row) for row in gains.itertuples()],
        "seeds": gains["seeds"],
        "holds": gains["holds"],
    }
    return _markdown(pd.DataFrame(shown), index=False)


def _contrasts_table(against: pd.DataFrame, naive: str) -> str:
    cells = against.assign(cell=[_interval(row) for row in against.itertuples()])
    wide = cells.pivot(index="arm", columns="number", values="cell").reindex(columns=list(AGAINST))
    wide = wide.reindex(dict.fromkeys(against["arm"])).dropna(axis=1, how="all").fillna("–")
    return _markdown(wide.rename(columns=lambda title: title.replace("NAIVE", naive)))


def _choices_table(tried: pd.DataFrame) -> str:
    shown = tried.assign(points=tried["points"].map("{:+.2f}".format))
    return _markdown(shown.rename(columns={"points": "points on val"}), index=False)


def _interval(row: Any) -> str:
    return f"{row.points:+.2f} [{row.low:+.2f}, {row.high:+.2f}]"


def _evidence_lines(seen: pd.DataFrame) -> list[str]:
    """Means over the early stages, then what `dmpo` changes against each arm and whether all seeds agree on it."""
    columns = list(EVIDENCE)
    shown = seen.groupby("arm", sort=False)[columns].agg(lambda values: _spread(values, 1, 3))
    wide = seen.set_index(["arm", "seed"])[columns]
    rows = {}
    for arm in dict.fromkeys(seen["arm"]):
        if arm != "dmpo" and "dmpo" in wide.index:
            change = (wide.loc["dmpo"] - wide.loc[arm]).dropna(how="all")
            rows[f"dmpo less {arm}"] = change.apply(_agreed)
    return [
        EVIDENCE_IS,
        "",
        _markdown(shown),
        "",
        f"What `dmpo` changes, mean over seeds; \\* where all {len(SEEDS)} seeds agree in sign.",
        "",
        _markdown(pd.DataFrame(rows).T),
    ]


def _agreed(values: pd.Series[float]) -> str:
    if values.isna().any() or not len(values):
        return "–"
    agreed = len(values) == len(SEEDS) and abs(values.map(lambda v: (v > 0) - (v < 0)).sum()) == len(values)
    return f"{values.mean():+.3f}{' *' if agreed else ''}"


# -- its pictures --


def _picture(grid: str, name: str) -> str:
    path = RESULTS / f"study-{grid}-{name}.png"
    return f"![{PICTURES[name]}](results/{path.name})\n\n{PICTURES[name]}.\n" if path.is_file() else ""


def write_pictures(gains: pd.DataFrame) -> None:
    """Every grid's figures; needs a Chromium."""
    for grid, table in tables(RESULTS).items():
        found = gains[gains["grid"] == grid]
        if len(found):
            figure = gains_figure(found).update_layout(margin={"l": 330})
            write_figure(f"study-{grid}-gains", figure, 1000, 150 + 34 * len(found), RESULTS)
        if grid in CLAIMS:
            means = table.groupby("arm", sort=False).mean(numeric_only=True)
            write_figure(f"study-{grid}-budgets", budgets_figure(means, REPORTED), 1000, 520, RESULTS)
        if gradients := kept(RESULTS, grid, "gradients"):
            write_figure(f"study-{grid}-gradients", gradients_figure(gradients), 1200, 420, RESULTS)
        if stages := kept(RESULTS, grid, "stages"):
            write_figure(f"study-{grid}-stages", stages_figure(stages), 1000, 760, RESULTS)


def write_tables() -> None:
    """`all_gains`, `contrasts`, `evidence` and `choices` as CSV."""
    made = {"gains": all_gains, "contrasts": contrasts, "evidence": evidence, "choices": choices}
    for name, table in made.items():
        write_table(name, table(RESULTS), RESULTS)


def main(arguments: list[str] | None = None) -> int:
    argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0]).parse_args(arguments)
    write_tables()
    write_pictures(pd.read_csv(RESULTS / "gains.csv", dtype={"seeds": str}))
    text = document()
    write_text(RESULTS.parent / "RESULTS.md", text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
