"""What `dmpo-explore probe` forecasts before any training, beside what trained models reach: `scripts/bench forecast`

In: the data sets of the third study (`_third.data`), its backbones and exits' parts, and its finished runs. Out:
``benchmarks/results/forecast.csv``, a row per set and backbone: the block from which frozen features know the classes
best, the share of the compute forecast at one point lost, the share and the loss of the trained DMPOs (thresholds that
lose at most a point on calibration, read on test; mean of the trainings), and the seconds of the forecast;
with ``--write`` the table of ``benchmarks/EVIDENCE.md``. Forecasts are made once and kept. Only training images are
probed.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

import dmpo_explore as dx
from _common.command import parser
from _common.results import PAGE, RESULTS, renew, write_table
from _common.rows import Rows
from _third import protocol
from _third.protocol import DROP, PARTS_OF_STUDY

NAME, PARTS = "forecast", ("a", "a-cnn")


def main(arguments: list[str] | None = None) -> int:
    """Make what is missing, then the table of all."""
    given = parser(__doc__)
    given.add_argument("--write", action="store_true", help="renew the table of EVIDENCE.md")
    given.add_argument("--results", type=Path, default=RESULTS, help="folder of the table and of the study's runs")
    options = given.parse_args(arguments)
    protocol.register()
    path = options.results / f"{NAME}.csv"
    before = pd.read_csv(path).to_dict("records") if path.is_file() else []
    rows = {(row["set"], row["backbone"]): row for row in before}
    wanted = [
        (name, PARTS_OF_STUDY[letter].base.model)
        for letter in PARTS
        for name in PARTS_OF_STUDY[letter].sets
        if (name, PARTS_OF_STUDY[letter].base.model.backbone) not in rows
    ]
    if options.list:
        print("\n".join(f"{name} {model.backbone}" for name, model in wanted) or "every forecast is there")
        return 0
    for name, model in tqdm(wanted, desc=NAME):
        rows[name, model.backbone] = forecast_of(name, model)
        write_table(NAME, pd.DataFrame([*rows.values()]), options.results)
    table = reached(pd.DataFrame([*rows.values()]), Rows(options.results / "third.parquet"))
    write_table(NAME, table, options.results)
    text = "\n".join(lines_of(pd.read_csv(path)))
    print(text)
    if options.write:
        renew(PAGE, NAME, text)
    return 0


def lines_of(table: pd.DataFrame) -> list[str]:
    """The table of EVIDENCE.md, by forecast, and the rank correlation below it."""
    cells = [["data", "backbone", "forecast", "reached", "points lost", "seconds"]]
    for row in table.sort_values("share").itertuples():
        backbone = "ViT-S/14" if "vit" in row.backbone else "EfficientNet-Lite0"
        forecast = f"{100 * row.share:.0f} % [{100 * row.low:.0f}, {100 * row.high:.0f}]"
        trained = [f"{100 * row.reached:.0f} %", f"{100 * row.lost:.1f}"] if row.trainings else ["", ""]
        cells.append([row.set, backbone, forecast, *trained, f"{row.seconds:.0f}"])
    both = table.dropna(subset=["reached"])
    ranks = f"Rank correlation of forecast and reached compute, {len(both)} models: {correlation(both):.2f}."
    return [*dx.analysis.markdown(cells), "", ranks]


def forecast_of(name: str, model: dx.ModelConfig) -> dict[str, Any]:
    """A row of one set and backbone, and how long it took."""
    start = time.perf_counter()
    found = dx.probe(dx.DataConfig(f"third-{name}"), model, drop=DROP)
    share, low, high = found.interval
    return {
        "set": name, "backbone": model.backbone, "images": found.n_train + found.record.n_images,
        "enough": found.enough, "blocks": found.record.meta.exit_blocks[-1], "share": share, "low": low, "high": high,
        "exits": " ".join(map(str, found.exits)), "seconds": time.perf_counter() - start,
    }  # fmt: skip


def reached(forecasts: pd.DataFrame, kept: Rows) -> pd.DataFrame:
    """The table with what trained DMPOs use and lose on test; NaN where none is finished."""
    more = []
    for row in forecasts.itertuples():
        part = next(part for letter in PARTS if (part := PARTS_OF_STUDY[letter]).base.model.backbone == row.backbone)
        last, runs = f"exit_{len(part.base.model.exits)}", kept.numbers(f"{row.set}{part.suffix}")
        runs = runs[runs["run"].str.match(r"dmpo-s\d")].reindex(columns=["share_drop", "accuracy_drop", last])
        lost = runs[last] - runs["accuracy_drop"]
        more.append({"reached": runs["share_drop"].mean(), "lost": lost.mean(), "trainings": len(runs)})
    forecasts = forecasts.drop(columns=["reached", "lost", "trainings"], errors="ignore")
    return pd.concat([forecasts, pd.DataFrame(more)], axis=1)


def correlation(table: pd.DataFrame) -> float:
    """Spearman's, of forecast and reached shares of the compute."""
    return float(table["share"].corr(table["reached"], method="spearman"))


if __name__ == "__main__":
    sys.exit(main())
