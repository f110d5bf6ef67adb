"""Copy the study's tables that notebooks and app read into the package: python notebooks/tables.py

In: benchmarks/results. Out: dmpo_explore/course/study/*.csv. A test compares them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from dmpo_explore.course.on_tokens import gain
from dmpo_explore.utils.files import read_json

ROOT = Path(__file__).resolve().parents[1]
RESULTS, FOLDER = ROOT / "benchmarks" / "results", ROOT / "dmpo_explore" / "course" / "study"
sys.path.append(str(ROOT / "benchmarks"))

from _study.tables import correctness

GRIDS = ("core", "predictor", "schedule")  # whose gains the notebooks show
ROOTS = "Newton–Schulz in place of the signed root"
STATIC = {  # question → budget of ``dmpo``, other arm and its number, of the second edition
    "a static net of 4 blocks": ("30%", "static-4", "exit 1"),
    "a static net of 6 blocks": ("50%", "static-6", "exit 1"),
    "a static net of 8 blocks": ("50%", "static-8", "exit 1"),
    "the full net with this head": ("50%", "single-head", "exit 1"),
    "naive exits with as many trained weights": ("30%", "naive-matched", "30%"),
}
STAGES = (2, 3, 4, 6)  # of the small CNN's static nets
WHOLE = {"whole method": "whole", "naive exits": "uniform"}  # name → arm of the small CNN
LENGTHS = {8: "", 24: "-24"}  # epochs of the small CNN → end of its arms' names


def gains() -> str:
    """Differences of accuracy between arms, the interval over images and trainings."""
    rows = []
    table = pd.read_csv(RESULTS / "gains.csv")
    for row in table[table["grid"].isin(GRIDS)].itertuples():
        sides = []
        for side in (row.a, row.b):
            arm, number = side.split(", ")
            sides.append(correctness(RESULTS, row.grid, arm, number) or correctness(RESULTS, "core", arm, number))
        shared = sorted(sides[0].keys() & sides[1].keys())
        question = row.question.replace("dmpo-isqrt against dmpo", ROOTS)
        question += ", score" if row.kind == "part" or question == ROOTS else ""
        both = (np.stack([side[seed] for seed in shared]) for side in sides)
        rows.append({"grid": row.grid, "a": row.a, "b": row.b} | gain(question, *both))
    return pd.DataFrame(rows).round(3).to_csv(index=False)


def claims() -> str:
    """What the second edition claims of each data set: differences of accuracy, over images and trainings."""
    parts = []
    for path in sorted(RESULTS.glob("second-*-claims.csv")):
        found = pd.read_csv(path, dtype=str).assign(study=path.stem.removeprefix("second-").removesuffix("-claims"))
        at = found["at"].where(found["at"].str.endswith("%"), "")  # else the rival's own compute
        found["question"] = (found["text"] + ", " + at).str.removesuffix(", ")
        parts.append(found.assign(over="images and trainings"))
    columns = ["study", "a", "b", "question", "points", "low", "high", "seeds", "holds", "over"]
    return pd.concat(parts)[columns].to_csv(index=False)


def learned_weights() -> str:
    """Loss weights that were learned on held-out images, by seed and epoch, as they are."""
    return (RESULTS / "neighbours" / "learned-fashion-lambda.csv").read_text(encoding="utf-8")


def static() -> str:
    """The second edition's ``dmpo`` against static nets with its head, and against naive exits as large as it.

    Every pair over the seeds that both have. ``allowed`` is the budget of ``dmpo``, ``used`` and ``theirs`` what it and
    the other took, shares of the compute.
    """
    folder = RESULTS / "second" / "fashion"

    def seeds(arm: str) -> set[str]:
        return {path.name.rpartition("-")[2] for path in folder.glob(f"{arm}-s[0-9]")}

    def hits(arm: str, number: str) -> npt.NDArray[np.bool_]:
        return np.stack([np.load(folder / f"{arm}-{seed}" / "outcomes.npz")[number] for seed in shared])

    def share(arm: str, number: str) -> float:
        column = "full_share" if number == "exit 1" else f"share_{number}"
        return float(np.mean([read_json(folder / f"{arm}-{seed}" / "row.json")[column] for seed in shared]))

    rows = []
    for question, (budget, other, number) in STATIC.items():
        shared = sorted(seeds("dmpo") & seeds(other))
        took = {"allowed": budget, "used": share("dmpo", budget), "theirs": share(other, number)}
        rows.append(took | gain(question, hits("dmpo", budget), hits(other, number)))
    return pd.DataFrame(rows).round(3).to_csv(index=False)


def last_exit() -> str:
    """Photographs (second edition, Caltech-101): the last exit of naive exits and of DMPO against a net of one exit.

    That net has DMPO's head behind the last block, and the same pixels; every pair over the seeds that both have.
    """
    folder, rows = RESULTS / "second" / "caltech", []
    for name, arm in {"naive exits": "naive", "naive exits with bypass": "naive-bypass", "DMPO": "dmpo"}.items():
        sides = []
        for one, number in ((arm, "exit 6"), ("single-head-84", "exit 1")):
            paths = folder.glob(f"{one}-s[0-9]")
            sides.append({path.name[-1]: np.load(path / "outcomes.npz")[number] for path in paths})
        shared = sorted(sides[0].keys() & sides[1].keys())
        rows.append(gain(f"{name}, last exit", *(np.stack([of[seed] for seed in shared]) for of in sides)))
    return pd.DataFrame(rows).round(3).to_csv(index=False)


def evidence() -> str:
    """Similarity and probes of the arms of the grid ``core``, means over the early stages, as they are."""
    return (RESULTS / "evidence.csv").read_text(encoding="utf-8")


def gradients() -> str:
    """Agreement of the gradients, of all arms and seeds of the grid ``core`` in one table."""
    files = sorted((RESULTS / "study" / "core").glob("*/gradients.csv"))
    names = [path.parent.name.rpartition("-s") for path in files]
    parts = [
        pd.read_csv(path).assign(arm=arm, seed=int(seed)) for path, (arm, _, seed) in zip(files, names, strict=True)
    ]
    return pd.concat(parts).to_csv(index=False)


def small_cnn() -> str:
    """Accuracies of the small CNN of notebooks 01 and 04, as they are."""
    return (RESULTS / "small-cnn.csv").read_text(encoding="utf-8")


def trainings(arm: str) -> list[dict[str, npt.NDArray[Any]]]:
    """What `benchmarks/small_cnn_schedules.py` wrote of ``arm``, a training per seed."""
    paths = sorted((RESULTS / "small-cnn").glob(f"{arm}-s[0-9].npz"))
    return [dict(np.load(path)) for path in paths]


def pixels() -> str:
    """Exits on photographs beside a ridge classifier on their pixels, as they are."""
    return (RESULTS / "photos-pixels.csv").read_text(encoding="utf-8")


def schedules() -> str:
    """Accuracies of the small CNN by schedule of its loss weights, with AdamW and with SGD."""
    arms = sorted({path.stem.rpartition("-s")[0] for path in (RESULTS / "small-cnn").iterdir()})
    rows = [
        {"arm": arm, "seed": seed, "exit": int(name[5:]), "accuracy": hits.mean()}
        for arm in arms
        for seed, found in enumerate(trainings(arm))
        for name, hits in found.items()
        if name.startswith("exit ")
    ]
    return pd.DataFrame(rows).round(4).to_csv(index=False)


def equal_compute() -> str:
    """Small CNNs at the compute of each static net: the net itself, the whole method, and naive exits."""
    rows = []
    for (epochs, end), stages in product(LENGTHS.items(), STAGES):
        for seed, net in enumerate(trainings(f"static-{stages}{end}")):
            where = {"epochs": epochs, "stages": stages, "compute": net["compute"][0], "seed": seed}
            rows.append({"arm": "static net"} | where | {"accuracy": net[f"exit {stages}"].mean()})
            for name, arm in WHOLE.items():
                found = trainings(arm + end)[seed]
                used = {"accuracy": found[f"at static {stages}"].mean(), "used": found[f"used at static {stages}"]}
                rows.append({"arm": name} | where | used)
    return pd.DataFrame(rows).round(4).to_csv(index=False)


def schedule_gains() -> str:
    """Differences between arms of the small CNN, the interval over images and trainings."""
    rows = []

    def add(part: str, question: str, *sides: tuple[str, list[str]]) -> None:
        hits = [[np.mean([of[name] for name in names], axis=0) for of in trainings(arm)] for arm, names in sides]
        rows.append({"part": part} | gain(question, *map(np.stack, hits)))

    every = [f"exit {k}" for k in range(1, 7)]
    places = {"exit 1": every[:1], "exit 6": every[5:], "mean of all exits": every}
    for epochs, end in LENGTHS.items():
        for arm, (place, names) in product(("linear", "deep-only", "early-only"), places.items()):
            add(f"AdamW, {epochs} epochs", f"{arm}, {place}", (f"{arm}{end}", names), (f"uniform{end}", names))
    for arm in ("linear", "linear-sum-6"):
        for place in ("exit 1", "exit 2", "exit 6"):
            add("SGD", f"{arm}, {place}", (f"sgd-{arm}", [place]), ("sgd-uniform", [place]))
    last = every[5:]
    for name, prefix in {"AdamW": "", "SGD": "sgd-"}.items():
        add("last exit", f"{name}, uniform over one exit", (f"{prefix}uniform", last), (f"{prefix}one-exit", last))
    add("last exit", "AdamW, 24 epochs, uniform over one exit", ("uniform-24", last), ("one-exit-24", last))
    for epochs, end in LENGTHS.items():
        part, whole = f"equal compute, {epochs} epochs", f"whole{end}"
        for stages in STAGES:
            budget, own = [f"at static {stages}"], [f"exit {stages}"]
            where = f"{trainings(f'static-{stages}')[0]['compute'][0]:.0%} of the compute"
            add(part, f"over a static net, {where}", (whole, budget), (f"static-{stages}{end}", own))
            add(part, f"over naive exits, {where}", (whole, budget), (f"uniform{end}", budget))
        add(part, "last exit, over the plain CNN with one exit", (whole, last), (f"one-exit{end}", last))
    return pd.DataFrame(rows).round(3).to_csv(index=False)


TABLES: dict[str, Callable[[], str]] = {
    "claims": claims,
    "equal-compute": equal_compute,
    "evidence": evidence,
    "gains": gains,
    "gradients": gradients,
    "last-exit": last_exit,
    "learned-weights": learned_weights,
    "photos-pixels": pixels,
    "schedule-gains": schedule_gains,
    "schedules": schedules,
    "small-cnn": small_cnn,
    "static": static,
}


def main() -> None:
    """Write all tables."""
    for name, make in TABLES.items():
        (FOLDER / f"{name}.csv").write_text(make(), encoding="utf-8")


if __name__ == "__main__":
    main()
