"""How RESULTS.md opens: three sentences, one figure and one table of the study's second edition.

In: the claims and rows that are committed of every study of `protocol.STUDIES`, and how often their intervals hold the
true difference (`interval_coverage`). Out: Markdown, and the figure.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go

import dmpo_explore as dx
from _photos.claims import PARTS, table
from _photos.protocol import STUDIES
from _photos.run import BUDGETS
from _third import comparisons
from _third.protocol import PARTED
from dmpo_explore.figures.style import panels

NAMES = {
    "fashion": "Fashion-MNIST, ViT-S/14, 2,000 images",
    "caltech": "Caltech-101, ViT-S/14, 2,500 images",
    "fashion-cnn": "Fashion-MNIST, EfficientNet-Lite0, 10,000 images",
}  # by training images
FIGURE = "second"
FAMILIES = ("dmpo", "naive", "single", "static")  # arms whose names begin so have one colour
HOLDS = {"yes": "yes", "no": "undecided", "opposite": "no, the opposite"}
SENTENCES = {  # how a part was tried → the claim
    "left out": "`dmpo` is above `dmpo` without {part}",
    "added": "naive exits with {part} are above naive exits",
}
EXPLAINED = (
    "Points of test accuracy at deployed compute; in brackets a 95 % interval over seeds and test images. A claim "
    "holds (*yes*) where its interval lies above 0, or above −1 and −3 for *within 1 point* and *within 3 points*. "
    "*Preliminary*: seeds are missing, or all of them agree and the interval does not (three agree by chance in one "
    "of four cases). Arms and claims were fixed in [protocol.py](_photos/protocol.py) before the runs. Made by "
    "`scripts/bench second_study STUDY` and `scripts/bench study_report`; rows, claims and the correctness of every "
    "test image: [results](results). 100 % is the plain backbone with a linear predictor at the study's image size."
)
BY_EXIT = (
    "The same parts by exit, in points: what `dmpo` loses with the part *left out*, what naive exits gain with it "
    "*added*. Three trainings of each; intervals as above, not corrected for their number. Not in the protocol: added "
    "after the runs, because the budgets lie where curves are flat."
)
COVERED = (
    "How often an interval that states 95 % holds the true difference, per cent of simulated studies (`scripts/bench "
    "interval_coverage`, [table](results/interval_coverage.csv)): the lowest and the highest over the part of an "
    "image's difference that all trainings share, for normal differences and for those of correct answers. The spread "
    "between trainings is in standard errors of one training over the images. *Crossed* is the interval above "
    "(`dx.analysis.seeds_interval`): too wide where trainings differ little beyond their images. *Resampled* draws "
    "seeds and images together, as the protocol had it: too narrow where few trainings differ. *Images* takes the "
    "trainings' mean for one model."
)


def _found(results: Path) -> dict[str, pd.DataFrame]:
    """Study → its claims, of the studies that have any."""
    tables = {name: table(results / "second" / name, study) for name, study in STUDIES.items()}
    return {name: claims for name, claims in tables.items() if len(claims)}


def lines(results: Path) -> list[str]:
    """The lines; none while no claim can be read."""
    tables = _found(results)
    if not tables:
        return []
    sentences = (_statics(tables), _whole(tables), _parts(tables))
    made = [f"{number}. {text}" for number, text in enumerate(filter(None, sentences), 1)]
    if missing := [NAMES[name] for name in STUDIES.keys() - tables.keys()]:
        made += ["", f"Not finished: {'; '.join(sorted(missing))}."]
    if (results / f"{FIGURE}.png").is_file():
        title = "Accuracy over deployed compute, means over seeds"
        made += ["", f"![{title}](results/{FIGURE}.png)", "", f"{title}; one exit is a point."]
    made += ["", _markdown(tables), "", EXPLAINED]
    if by_exit := parts_by_exit(results):
        made += ["", BY_EXIT, "", *by_exit]
    if (path := results / "interval_coverage.csv").is_file():
        made += ["", COVERED, "", coverage_table(pd.read_csv(path))]
    return made


def parts_by_exit(results: Path) -> list[str]:
    """A row per data set and part, a column per exit that any row has; none while no pair of arms is finished."""
    parts = [comparison.text for comparison in PARTED if comparison.text.rpartition(", ")[0] in PARTS]
    found = comparisons.table(results / "second")
    found = found[found["comparison"].isin(parts)] if len(found) else found
    if not len(found):
        return []
    places = [at for at in found["at"].unique() if at.startswith("exit ") or at == comparisons.LAST]
    cells = [["part", *places]]
    for (name, text), rows in found.groupby(["set", "comparison"], sort=False):
        points = rows.set_index("at").reindex(places)[["points", "low", "high"]]
        cells.append(
            [f"{text}: {_short(str(name))}", *("{:+.2f} [{:+.2f}, {:+.2f}]".format(*row) for row in points.to_numpy())]
        )
    return dx.analysis.markdown(cells)


def coverage_table(found: pd.DataFrame) -> str:
    """A row per interval and number of seeds, a column per spread between trainings."""
    groups = found.assign(coverage=100 * found["coverage"]).groupby(["interval", "seeds", "spread"], sort=False)
    ends = groups["coverage"].agg(["min", "max"])
    cells = ends.apply(lambda row: f"{row['min']:.1f} – {row['max']:.1f}", axis=1).unstack("spread")
    cells.index = pd.Index([f"{name}, {seeds} seeds" for name, seeds in cells.index], name="spread")
    return str(cells.to_markdown(disable_numparse=True))


def looks() -> dict[str, tuple[int, int]]:
    """Arm → number of its colour (its family, of `FAMILIES`) and of its symbol and dash (its place in the family)."""
    arms = list(dict.fromkeys(arm for study in STUDIES.values() for arm in study.arms))
    parts = {arm for pair in PARTS.values() for arm in pair}
    families = [[arm for arm in arms if arm.startswith(name) and arm not in parts] for name in FAMILIES]
    return {arm: (colour, place) for colour, family in enumerate(families) for place, arm in enumerate(family)}


def figure(results: Path) -> go.Figure | None:
    """Accuracy over compute, a panel per study that has rows; None while none has."""
    drawn, look = {}, looks()
    for name in STUDIES:
        if not (path := results / f"second-{name}.csv").is_file():
            continue
        rows = pd.read_csv(path)
        arms = rows["run"].str.replace(r"-s\d$", "", regex=True)
        own = {"full_flops": rows["full_share"], "exits": rows.filter(regex=r"^exit_\d+$").notna().sum(axis=1)}
        own |= {"last_exit": rows["exit_1"]} | {f"flops_{b}": rows[f"share_{b}"] for b in BUDGETS}
        means = rows.assign(**own).groupby(arms, sort=False).mean(numeric_only=True)
        kept = [arm for arm in look if arm in means.index]
        drawn[NAMES[name].replace(", ", "<br>", 1)] = dx.figures.budgets_figure(
            means.loc[kept], list(BUDGETS.values()), looks=look
        )
    if not drawn:
        return None
    joined = side_by_side(drawn)
    for rank, arm in enumerate(look):  # by family in the legend, which a later panel's arms would end
        joined.update_traces(legendrank=rank, selector={"name": arm})
    return joined


def side_by_side(figures: Mapping[str, go.Figure]) -> go.Figure:
    """Figures (by title) of the same quantities as panels in a row, each with a vertical scale of its own.

    Lines and bands come along, annotations do not. A name must look the same in all; it stands in the legend once.
    """
    first = next(iter(figures.values()))
    joined, named = panels(None, 1, len(figures), list(figures), shared_yaxes=False), set[str]()
    for column, figure in enumerate(figures.values(), start=1):
        for trace in figure.data:
            shown = trace.showlegend is not False and trace.name not in named
            named |= {trace.name} if shown else set()
            joined.add_trace(copy.copy(trace).update(showlegend=shown), 1, column)
        for shape in figure.layout.shapes:
            joined.add_shape(shape, row=1, col=column)
        joined.update_xaxes(title=figure.layout.xaxis.title, col=column)
    y = first.layout.yaxis
    kept = {name: y[name] for name in ("categoryorder", "categoryarray", "rangemode", "tickformat")}
    joined.update_xaxes(matches="x", tickformat=first.layout.xaxis.tickformat)
    return joined.update_yaxes(kept).update_yaxes(title=y.title, col=1)


def _statics(tables: dict[str, pd.DataFrame]) -> str:
    parts = []
    for name, claims in tables.items():
        rows = claims[claims["claim"] == 1]
        if len(rows):
            best, worst = rows.loc[rows["points"].idxmax()], rows.loc[rows["points"].idxmin()]
            ahead = f"ahead of {_count(rows)} on {_short(name)}"
            ends = (f"{_points(row)} (`{row['b']}`)" for row in (worst, best))
            parts.append(f"{ahead}, {' to '.join(ends)}")
    return f"**At a static net's own compute** `dmpo` is {'; '.join(parts)}." if parts else ""


def _whole(tables: dict[str, pd.DataFrame]) -> str:
    parts = []
    for name, claims in tables.items():
        full = claims[claims["claim"] == 2].set_index("at")
        naive = claims[(claims["claim"] == 3) & (claims["text"] == "above the strongest naive arm")].set_index("at")
        said = [f"{_points(full.loc[at])} at {at[:-1]} %" for at in ("40%", "30%") if at in full.index]
        text = f"{' and '.join(said)} of the compute on {_short(name)}{_preliminary(full)}"
        if "30%" in naive.index:
            points = _points(naive.loc["30%"])
            text += f" ({points} against the strongest naive exits at 30 %{_preliminary(naive, ', preliminary')})"
        parts.append(text)
    return f"**Against the best full model** `dmpo` stands at {'; '.join(parts)}."


def _parts(tables: dict[str, pd.DataFrame]) -> str:
    said = []
    for name, claims in tables.items():
        rows = claims[claims["claim"] == 4]
        counts = []
        for part in PARTS:
            own = rows[rows["text"].str.startswith(part)]
            if len(own):
                counts.append(f"{part} in {_count(own)}")
        if counts:
            said.append(f"on {_short(name)} {', '.join(counts)}")
    how = "left out of `dmpo` and added to naive exits, at 30 and at 40 %"
    return f"**Where a part earns its place** ({how}): {'; '.join(said)} comparisons." if said else ""


def _markdown(tables: dict[str, pd.DataFrame]) -> str:
    """A row per claim, a column per study."""
    columns = {}
    for name, claims in tables.items():
        titles = [_title(row) for _, row in claims.iterrows()]
        cells = [_cell(row) for _, row in claims.iterrows()]
        columns[NAMES[name]] = pd.Series(cells, index=titles)
    wide = pd.DataFrame(columns).fillna("–").rename_axis("claim")
    order = dict.fromkeys(title for column in columns.values() for title in column.index)
    return str(wide.reindex(order).to_markdown(disable_numparse=True))


def _title(row: pd.Series[Any]) -> str:
    """The claim as a sentence."""
    part, _, how = row["text"].rpartition(", ")
    said = SENTENCES.get(how, "`dmpo` is {text}").format(part=part, text=row["text"])
    return said if row["claim"] == 1 else f"{said}, at {row['at'][:-1]} %"


def _cell(row: pd.Series[Any]) -> str:
    """``b`` is named where val chose it."""
    notes = [f"`{row['b']}`"] if row["claim"] == 2 or "strongest" in row["text"] else []
    notes += [f"{len(row['seeds'].split())} seeds"] + (["preliminary"] if row["preliminary"] else [])
    return f"**{HOLDS[row['holds']]}** {_points(row)} ({', '.join(notes)})"


def _points(row: pd.Series[Any]) -> str:
    return f"{row['points']:+.2f} [{row['low']:+.2f}, {row['high']:+.2f}]"


def _count(rows: pd.DataFrame) -> str:
    """How many hold, of how many, and how many are preliminary."""
    open_ = rows["preliminary"].sum()
    return f"{(rows['holds'] == 'yes').sum()} of {len(rows)}" + (f" ({open_} preliminary)" if open_ else "")


def _preliminary(rows: pd.DataFrame, words: str = " (preliminary)") -> str:
    return words if rows["preliminary"].any() else ""


def _short(name: str) -> str:
    return NAMES[name].partition(",")[0] + (" with a CNN" if name == "fashion-cnn" else "")
