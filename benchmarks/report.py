"""What the study found, from its runs and tables: `scripts/bench report`.

In: what `study` keeps in ``benchmarks/results``. Out: the paired comparisons as ``benchmarks/results/gains.csv``, then
``benchmarks/RESULTS.md`` and its figures. How arms are judged stands in `grids`. Nothing here trains or chooses.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from _results import RESULTS, write_figure, write_table
from _study_figures import budgets_figure, gains_figure, gradients_figure, stages_figure
from grids import BUDGETS, GRIDS, SEEDS

from dmpo_explore.files import write_text

RESAMPLES = 2000
SEED = r"-s\d+$"  # of a run's name
PARTS = {  # of DMPO: what is taken away → arm without it
    "bypass": "dmpo-no-bypass",
    "second-order predictors": "dmpo-no-second-order",
    "two-phase loss weights": "dmpo-uniform",
}
CLAIMS = ("core", "headline", "cnn")  # grids that have naive arms and the single model
NAIVE = ("naive-cls", "naive-mean", "naive-both", "naive-equilibrium", "mixed")
Rights = npt.NDArray[np.float64]  # (S, B): how right each seed's run is on each test image


# -- paired comparisons --


def rights(grid: str, arm: str, what: str) -> Rights | None:
    """(S, B) of arm's runs: mean correctness over `BUDGETS` (``score``), at one budget (``30 %``), or at an exit.

    Args:
        what: ``score``, ``first exit``, ``last exit``, or a reported budget such as ``30 %``. None if a seed's run is
            missing or cannot meet the budget.
    """
    rows = []
    for seed in SEEDS:
        file = RESULTS / "study" / grid / f"{arm}-s{seed}" / "outcomes.npz"
        if not file.is_file():
            return None
        with np.load(file, allow_pickle=False) as kept:
            if what not in kept:
                return None
            rows.append(kept[what] / (len(BUDGETS) if what == "score" else 1))
    return np.stack(rows)


def paired(a: Rights, b: Rights) -> dict[str, Any]:
    """Points that a is above b: mean over seeds, every seed's, and a 95 % bootstrap interval over images."""
    by_seed = 100 * (a - b).mean(axis=1)
    image = 100 * (a - b).mean(axis=0)  # (B,)
    draw = np.random.default_rng(0)
    means = [image[draw.integers(image.size, size=image.size)].mean() for _ in range(RESAMPLES)]
    low, high = np.quantile(means, [0.025, 0.975])
    seeds = " ".join(f"{value:+.2f}" for value in by_seed)
    return {"points": by_seed.mean(), "low": low, "high": high, "seeds": seeds, "holds": _holds(by_seed, low, high)}


def _holds(by_seed: npt.NDArray[Any], low: float, high: float) -> str:
    """``yes`` or ``opposite`` where interval and all seeds lie on one side of 0, else ``no``."""
    if low > 0 and (by_seed > 0).all():
        return "yes"
    return "opposite" if high < 0 and (by_seed < 0).all() else "no"


def strongest_naive(table: pd.DataFrame) -> str | None:
    """The naive arm with the best mean score on val, of those with all seeds; None if there is none."""
    arms = table["run"].str.replace(SEED, "", regex=True)
    whole = arms.isin(NAIVE) & (arms.map(arms.value_counts()) == len(SEEDS))
    return str(by_arm(table[whole])["score_val"].idxmax()) if whole.any() else None


def questions(grid: str, table: pd.DataFrame) -> Iterator[tuple[str, str, str, str, str]]:
    """(question, arm a, number of a, arm b, number of b) of a grid with rows ``table``; b may lie in the core grid."""
    if grid not in CLAIMS:
        for arm in GRIDS[grid]:
            yield f"{arm} against dmpo", arm, "score", "core/dmpo", "score"
        return
    naive = strongest_naive(table)
    if grid == "core":
        for part, without in PARTS.items():
            yield f"gain of {part}", "dmpo", "score", without, "score"
        for arm in ("naive-equilibrium", "mixed"):
            yield f"dmpo against {arm}", "dmpo", "score", arm, "score"
    if naive is not None:
        yield f"dmpo against the strongest naive arm here ({naive})", "dmpo", "score", naive, "score"
        yield "its first exit against that arm's", "dmpo", "first exit", naive, "first exit"
    yield "30 % of the compute against the full single model", "dmpo", "30 %", "single", "last exit"
    yield "50 % of the compute against the full single model", "dmpo", "50 %", "single", "last exit"
    yield "its last exit against the single model", "dmpo", "last exit", "single", "last exit"


def all_gains() -> pd.DataFrame:
    """Every comparison whose runs are all there."""
    rows = []
    for grid, table in tables().items():
        for question, a, what_a, b, what_b in questions(grid, table):
            home = "core" if b.startswith("core/") else grid
            ours, theirs = rights(grid, a, what_a), rights(home, b.removeprefix("core/"), what_b)
            if ours is not None and theirs is not None:
                names = {"grid": grid, "question": question, "a": f"{a}, {what_a}", "b": f"{b}, {what_b}"}
                rows.append(names | paired(ours, theirs))
    return pd.DataFrame(rows, columns=["grid", "question", "a", "b", "points", "low", "high", "seeds", "holds"])


def tables() -> dict[str, pd.DataFrame]:
    """Grid → its rows, for the grids that have any."""
    paths = {grid: RESULTS / f"study-{grid}.csv" for grid in GRIDS}
    return {grid: pd.read_csv(path) for grid, path in paths.items() if path.is_file()}


# -- the document --


def by_arm(table: pd.DataFrame) -> pd.DataFrame:
    """Mean over seeds of every number, an arm per row, in the table's order."""
    arms = table["run"].str.replace(SEED, "", regex=True)
    return table.drop(columns="run").groupby(arms, sort=False).mean()


def arms_table(table: pd.DataFrame, time: pd.Series[float] | None = None) -> pd.DataFrame:
    """The columns that people read, in per cent, mean (lowest–highest seed); ``time``: see `training_time`."""
    arms = table["run"].str.replace(SEED, "", regex=True)
    columns = {
        "score": "score",
        "first exit": "first_exit",
        "last exit": "last_exit",
        "area": "area",
        **{f"at {b} %": f"accuracy_{b}%" for b in (30, 50, 70, 100)},
    }
    groups = table.groupby(arms, sort=False)
    shown = {title: groups[name].apply(_spread) for title, name in columns.items() if name in table}
    shown["trainable"] = groups["parameters"].mean().map(lambda n: f"{n / 1e3:,.0f} k")
    if time is not None:
        shown["training time"] = time.map(lambda ratio: f"{ratio:.2f}").reindex(groups.size().index)
    shown["calibration error, first / last"] = groups.apply(_calibration)
    shown["seeds"] = groups.size()
    return pd.DataFrame(shown).rename_axis("arm")


def _calibration(rows: pd.DataFrame) -> str:
    last = rows[f"ece_{rows['exits'].iloc[0]:.0f}"].mean()
    return f"{100 * rows['ece_1'].mean():.1f} / {100 * last:.1f}"


def _spread(values: pd.Series[float]) -> str:
    if values.isna().any():
        return "–"
    low, mean, high = 100 * values.min(), 100 * values.mean(), 100 * values.max()
    return f"{mean:.2f} ({low:.1f}–{high:.1f})"


def document() -> str:
    """RESULTS.md, from what is kept in `RESULTS` alone."""
    gains = pd.read_csv(RESULTS / "gains.csv")
    lines = ["# What the study found", "", *verdict(gains), ""]
    lines += [
        "How arms are judged was fixed before the runs, in [grids.py](grids.py). Made by `scripts/bench study GRID` "
        "and `scripts/bench training_time GRID`, then `scripts/bench report`; every number comes from the CSVs in "
        "[results](results). Numbers are means over seeds, in brackets the lowest and the highest.",
        "",
    ]
    for grid, table in tables().items():
        lines += [f"## {grid.capitalize()}", "", arms_table(table, training_time(grid)).to_markdown(), ""]
        if len(found := gains[gains["grid"] == grid]):
            lines += [_gains_table(found), ""]
        if missing := unfinished(grid, table):
            lines += [f"Not finished: {missing}.", ""]
        lines += [text for name in PICTURES if (text := _picture(grid, name))]
    return "\n".join(lines)


def training_time(grid: str) -> pd.Series[float] | None:
    """Arm → seconds per training image relative to the single model, where they were measured."""
    path = RESULTS / f"training-time-{grid}.csv"
    return pd.read_csv(path).set_index("arm")["relative"] if path.is_file() else None


PICTURES = {
    "gains": "Points gained, with 95 % intervals over images",
    "budgets": "Accuracy under four budgets, mean over seeds",
    "gradients": "Cosine between an early exit's gradient and the last one's, on the tuned weights that they share",
    "stages": "What every stage knows: how much of the untuned backbone its trunk keeps, and what ridge probes read",
}


def _picture(grid: str, name: str) -> str:
    path = RESULTS / f"study-{grid}-{name}.png"
    return f"![{PICTURES[name]}](results/{path.name})\n\n{PICTURES[name]}.\n" if path.is_file() else ""


def kept(grid: str, what: str) -> dict[str, pd.DataFrame]:
    """Arm → all its seeds' tables of ``gradients`` or ``stages``, for the arms that have any."""
    found = {}
    for arm in GRIDS[grid]:
        files = [RESULTS / "study" / grid / f"{arm}-s{seed}" / f"{what}.csv" for seed in SEEDS]
        if parts := [pd.read_csv(file) for file in files if file.is_file()]:
            found[arm] = pd.concat(parts)
    return found


def write_pictures(gains: pd.DataFrame) -> None:
    """Every grid's figures; needs a Chromium."""
    for grid, table in tables().items():
        found = gains[gains["grid"] == grid]
        if len(found):
            write_figure(f"study-{grid}-gains", gains_figure(found), 1000, 150 + 34 * len(found), RESULTS)
        if grid in CLAIMS:
            write_figure(f"study-{grid}-budgets", budgets_figure(by_arm(table)), 1000, 520, RESULTS)
        if gradients := kept(grid, "gradients"):
            write_figure(f"study-{grid}-gradients", gradients_figure(gradients), 1200, 420, RESULTS)
        if stages := kept(grid, "stages"):
            write_figure(f"study-{grid}-stages", stages_figure(stages), 1000, 760, RESULTS)


def unfinished(grid: str, table: pd.DataFrame) -> str:
    """The arms that lack seeds, with how many they have."""
    have = table["run"].str.replace(SEED, "", regex=True).value_counts()
    return ", ".join(
        f"{arm} ({have.get(arm, 0)} of {len(SEEDS)})" for arm in GRIDS[grid] if have.get(arm, 0) < len(SEEDS)
    )


def verdict(gains: pd.DataFrame) -> list[str]:
    """Which parts earn their place, in plain words."""
    core = gains[gains["grid"] == "core"].set_index("question")
    words = {"yes": "earns its place", "no": "is not shown to help", "opposite": "does harm here"}
    lines = []
    for part in PARTS:
        question = f"gain of {part}"
        if question not in core.index:
            lines.append(f"- **{part.capitalize()}**: not known yet, its runs are not finished.")
            continue
        row = core.loc[question]
        lines.append(f"- **{part.capitalize()}**: {words[row['holds']]} ({_points(row)}).")
    for question in core.index[~core.index.str.startswith("gain of")]:
        lines.append(f"- {question[0].upper()}{question[1:]}: {_points(core.loc[question])}.")
    return lines


def _points(row: Any) -> str:
    return f"{row['points']:+.2f} points [{row['low']:+.2f}, {row['high']:+.2f}], seeds {row['seeds']}"


def _gains_table(gains: pd.DataFrame) -> str:
    shown = {
        "question": gains["question"],
        "a": gains["a"],
        "b": gains["b"],
        "points [95 %]": [f"{r.points:+.2f} [{r.low:+.2f}, {r.high:+.2f}]" for r in gains.itertuples()],
        "seeds": gains["seeds"],
        "holds": gains["holds"],
    }
    return str(pd.DataFrame(shown).to_markdown(index=False))


def main(arguments: list[str] | None = None) -> int:
    argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0]).parse_args(arguments)
    write_table("gains", all_gains(), RESULTS)
    write_pictures(pd.read_csv(RESULTS / "gains.csv"))
    text = document()
    write_text(RESULTS.parent / "RESULTS.md", text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
