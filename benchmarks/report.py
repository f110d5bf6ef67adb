"""What the study found, from its runs and tables: `scripts/bench report`.

In: ``benchmarks/results/study-*.csv`` and, where they are at hand, the run folders under ``--root``. Out: the paired
comparisons as ``benchmarks/results/gains.csv``, then ``benchmarks/RESULTS.md`` and its figures from the CSVs alone. How
arms are judged stands in `grids`. Nothing here trains or chooses.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from grids import BUDGETS, GRIDS, SEEDS
from study import RESULTS, at_budget

import dmpo_explore as dx
from dmpo_explore.files import atomic_file, write_text

RESAMPLES = 2000
PARTS = {  # of DMPO: what is taken away → arm without it
    "bypass": "dmpo-no-bypass",
    "second-order predictors": "dmpo-no-second-order",
    "two-phase loss weights": "dmpo-uniform",
}
NAIVE = ("naive-cls", "naive-mean", "naive-both", "naive-equilibrium", "mixed")
Rights = npt.NDArray[np.float64]  # (S, B): how right each seed's run is on each test image


# -- paired comparisons --


def rights(root: Path, arm: str, what: str) -> Rights | None:
    """(S, B) of arm's runs: mean correctness over `BUDGETS` (``score``), at one budget (``30 %``), or at an exit.

    Args:
        what: ``score``, ``first exit``, ``last exit``, or a budget such as ``30 %``. None if a run is missing.
    """
    rows = []
    for seed in SEEDS:
        folder = root / f"{arm}-s{seed}"
        if not (folder / "row.json").is_file():
            return None
        run = dx.load_run(folder)
        val, test = run.record("val"), run.record("test")
        if what in ("first exit", "last exit"):
            rows.append(test.correct[:, 0 if what == "first exit" else -1].astype(float))
            continue
        budgets = BUDGETS if what == "score" else (float(what.removesuffix(" %")) / 100,)
        exits = [at_budget(val, test, budget) for budget in budgets]
        if any(e is None for e in exits):
            return None
        rows.append(np.mean([test.correct[np.arange(test.images), e] for e in exits], axis=0))
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


def strongest_naive(table: pd.DataFrame) -> str:
    """The naive arm with the best mean score on val."""
    return str(by_arm(table).loc[list(NAIVE), "score_val"].idxmax())


def questions(grid: str, root: Path) -> Iterator[tuple[str, str, str, str, str]]:
    """(question, arm a, number of a, arm b, number of b) of a grid; b may lie in the core grid."""
    if grid in ("core", "headline"):
        table = pd.read_csv(RESULTS / "study-core.csv")
        naive = strongest_naive(table) if grid == "core" else max(("naive-mean", "naive-both"), key=_val_score)
        if grid == "core":
            for part, without in PARTS.items():
                yield f"gain of {part}", "dmpo", "score", without, "score"
            for arm in (naive, "naive-equilibrium", "mixed"):
                yield f"dmpo against {arm}", "dmpo", "score", arm, "score"
        yield "against the strongest naive exits", "dmpo", "score", naive, "score"
        yield "first exit against naive", "dmpo", "first exit", naive, "first exit"
        yield "30 % of the compute against the full single model", "dmpo", "30 %", "single", "last exit"
        yield "last exit against the single model", "dmpo", "last exit", "single", "last exit"
        return
    for arm in GRIDS[grid]:
        yield f"{arm} against dmpo", arm, "score", "core/dmpo", "score"


def _val_score(arm: str) -> float:
    return float(by_arm(pd.read_csv(RESULTS / "study-headline.csv")).loc[arm, "score_val"])


def write_gains(root: Path, path: Path) -> None:
    """All comparisons whose runs are at hand; a grid without runs keeps the rows that it had."""
    old = pd.read_csv(path) if path.is_file() else pd.DataFrame(columns=["grid"])
    rows = []
    for grid in GRIDS:
        if not (RESULTS / f"study-{grid}.csv").is_file():
            continue
        found = []
        for question, a, what_a, b, what_b in dict.fromkeys(questions(grid, root)):
            home = root / "core" if b.startswith("core/") else root / grid
            ours, theirs = rights(root / grid, a, what_a), rights(home, b.removeprefix("core/"), what_b)
            if ours is not None and theirs is not None:
                names = {"grid": grid, "question": question, "a": f"{a}, {what_a}", "b": f"{b}, {what_b}"}
                found.append(names | paired(ours, theirs))
        rows += found or old[old["grid"] == grid].to_dict("records")
    with atomic_file(path) as temporary:
        pd.DataFrame(rows).to_csv(temporary, index=False, float_format="%.4f")


# -- the document --


def by_arm(table: pd.DataFrame) -> pd.DataFrame:
    """Mean over seeds of every number, an arm per row, in the table's order."""
    arms = table["run"].str.replace(r"-s\d+$", "", regex=True)
    return table.drop(columns="run").groupby(arms, sort=False).mean()


def arms_table(table: pd.DataFrame) -> pd.DataFrame:
    """The columns that people read, in per cent, mean (lowest–highest seed)."""
    arms = table["run"].str.replace(r"-s\d+$", "", regex=True)
    columns = {
        "score": "score",
        "first exit": "first_exit",
        "last exit": "last_exit",
        **{f"at {b} %": f"accuracy_{b}%" for b in (30, 50, 70, 100)},
    }
    groups = table.groupby(arms, sort=False)
    shown = {title: groups[name].apply(_spread) for title, name in columns.items() if name in table}
    shown["trainable"] = groups["parameters"].mean().map(lambda n: f"{n / 1e3:,.0f} k")
    shown["seeds"] = groups.size()
    return pd.DataFrame(shown).rename_axis("arm")


def _spread(values: pd.Series[float]) -> str:
    if values.isna().any():
        return "–"
    low, mean, high = 100 * values.min(), 100 * values.mean(), 100 * values.max()
    return f"{mean:.2f} ({low:.1f}–{high:.1f})"


def document() -> str:
    """RESULTS.md, from the CSVs alone."""
    gains = pd.read_csv(RESULTS / "gains.csv")
    lines = ["# What the study found", "", *verdict(gains), ""]
    lines += [
        "How arms are judged was fixed before the runs, in [grids.py](grids.py). Made by `scripts/bench study GRID`, "
        "then `scripts/bench report`; every number comes from the CSVs in [results](results).",
        "",
    ]
    for grid in GRIDS:
        path = RESULTS / f"study-{grid}.csv"
        if path.is_file():
            lines += [f"## {grid.capitalize()}", "", arms_table(pd.read_csv(path)).to_markdown(), ""]
            lines += [_gains_table(gains[gains["grid"] == grid]), ""]
    return "\n".join(lines)


def verdict(gains: pd.DataFrame) -> list[str]:
    """Which parts earn their place, in plain words."""
    core = gains[gains["grid"] == "core"].set_index("question")
    words = {"yes": "earns its place", "no": "is not shown to help", "opposite": "does harm here"}
    lines = []
    for part in PARTS:
        row = core.loc[f"gain of {part}"]
        lines.append(f"- **{part.capitalize()}**: {words[row['holds']]} ({_points(row)}).")
    for question in core.index[~core.index.str.startswith("gain of")]:
        lines.append(f"- {question.capitalize()}: {_points(core.loc[question])}.")
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path("runs/study"), help="folder of the runs")
    options = parser.parse_args(arguments)
    write_gains(options.root, RESULTS / "gains.csv")
    text = document()
    write_text(RESULTS.parent / "RESULTS.md", text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
