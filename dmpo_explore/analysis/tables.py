"""Evaluations as tables: rows of `evaluation` → lines of Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..fitting.fit import made_for
from ..fitting.target import Target
from ..policies.base import Policy
from ..policies.catalogue import POLICIES
from ..records.record import ExitRecord
from ..runs.run import Run
from ..utils.files import write_text
from ..utils.texts import abbreviated
from .evaluation import PROTOCOLS
from .metrics import apply, best_and_worst
from .shift import AWAY, HOME, Transfer

UNAVAILABLE = "unavailable"  # head of the column of reasons
ROUNDING = 1e-9  # difference of two accuracies that are the same


def table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """`evaluate_runs`'s rows as the lines of a Markdown table.

    Balanced accuracy gets a column where classes differ in size, GFLOPs where shares of compute are of different
    backbones or image sizes. Calibration error and early-exit failure prediction get columns in rows of single exits.

    Example:
        >>> import dmpo_explore as dx
        >>> for line in table(dx.evaluate_runs(["fashion"], targets=dx.Target.flops(0.30))):
        ...     print(line)
        | run     | target | accuracy | compute | mean exit | exit shares (%) | threshold |
        |---------|--------|----------|---------|-----------|-----------------|-----------|
        | fashion | 30 %   | 91.33 %  | 24.2 %  | 1.36      | 85 7 3 1 1 4    | 0.755     |
    """
    balanced = any(abs(row.get("balanced_accuracy", row["accuracy"]) - row["accuracy"]) > ROUNDING for row in rows)
    seen = [*rows, *(row["against"] for row in rows if row.get("against"))]
    wholes = {float(f"{row['gflops'] / row['flops_fraction']:.6g}") for row in seen if "gflops" in row}
    gflops = len(wholes) > 1  # what 100 % is differs
    head = ["run", "target", "accuracy", *["balanced"] * balanced, "compute", *["GFLOPs"] * gflops, "mean exit"]
    scored = any("ece" in row for row in rows)  # an exit each
    cells = [[*head, "exit shares (%)", "threshold", *(["ECE", "EEFP"] if scored else [])]]
    against = next((row["against"]["run"] for row in rows if row.get("against")), None)
    if against:
        cells[0].append(f"points above {against} [95 %]")
    for row in rows:
        shares = " ".join(f"{100 * share:.0f}" for share in row["exit_shares"])
        accuracy, compute = percent(row["accuracy"]), percent(row["flops_fraction"], 1)
        both = [accuracy, *([percent(row["balanced_accuracy"])] if balanced else [])]
        spent = [compute, *([f"{row['gflops']:.3g}"] if gflops else [])]
        line = [row["run"], describe(row["target"]), *both, *spent, f"{row['mean_exit']:.2f}", shares]
        line.append(_threshold(row))
        if scored:
            line += [percent(row["ece"]), "–" if row["eefp"] is None else f"{row['eefp']:.3f}"]
        if against:
            found = row["against"]
            numbers = [100 * found[key] for key in ("difference", "low", "high")] if found else []
            line.append("{:+.2f} [{:+.2f}, {:+.2f}]".format(*numbers) if found else "–")
        cells.append(line)
    return markdown(cells)


def policy_table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """`evaluate_policies`'s rows as a Markdown table: a line per policy, accuracy and realised FLOPs per target.

    A policy that is unavailable has its reason in a last column.

    Example:
        >>> import dmpo_explore as dx
        >>> lines = policy_table(dx.analysis.evaluate_policies(["demo-cnn"]))
        >>> [cell.strip() for cell in lines[2].split("|")[1:4]]
        ['demo-cnn', 'confidence', '85.92 % at 30.9 %']
    """
    lines: dict[tuple[str, str], dict[str, str]] = {}
    columns: dict[str, None] = {}
    for row in rows:
        target = Target.from_dict(row["target"])
        bound = "" if POLICIES[row["policy"]].deployable else " (bound)"
        name = ", ".join([row["policy"], *target.options()]) + bound
        column = target.without_options().describe()
        found = lines.setdefault((row["run"], name), {})
        columns[column] = None
        if "unavailable" in row:
            found[UNAVAILABLE] = row["unavailable"].replace("|", "/")
        else:
            found[column] = f"{percent(row['accuracy'])} at {percent(row['flops_fraction'], 1)}"
    last = [UNAVAILABLE] if any(UNAVAILABLE in found for found in lines.values()) else []
    cells = [["run", "policy", *columns, *last]]
    for (run, name), found in lines.items():
        cells.append([run, name, *(found.get(column, "–") for column in columns), *(found.get(c, "") for c in last)])
    return markdown(cells)


def transfer_lines(found: Transfer, home: str, away: str) -> list[str]:
    """A `Transfer` as two Markdown tables and a sentence for each target.

    Args:
        home, away: names of the two places.

    Example:
        >>> import dmpo_explore as dx
        >>> run = dx.load_run("fashion")
        >>> here = dx.analysis.HeldOut(run.record("calibration"), run.record("test"))
        >>> found = dx.analysis.transfer(here, here, [dx.Target.flops(0.3)])
        >>> print(transfer_lines(found, "this shop", "the other")[-1])
        30 %: thresholds of this shop have 92.20 % at 24.1 % of the compute on its calibration images and 91.33 % at \
24.2 % on test images of the other; made to follow the images there they have 91.25 % at 24.0 %, and fitted again on \
the other they have 91.33 % at 24.2 %.
    """
    cells = [["exit", home, away, "points lost"]]
    for row in found.exits.to_dict("records"):
        both = [
            f"{percent(row[name])} [{percent(row[f'{name}_low'], 1)}, {percent(row[f'{name}_high'], 1)}]"
            for name in (HOME, AWAY)
        ]
        cells.append([f"{row['exit']:.0f}", *both, f"{100 * row['lost']:.1f}"])
    names, lines = {HOME: home, AWAY: away}, markdown(cells)
    cells, said = [["target", "fitted on", "calibration", "tested on", "test", "early-exit error", "ECE"]], []
    for target, rows in found.thresholds.groupby("target", sort=False):
        found_there = {(row["fitted_on"], row["tested_on"], row["held"]): row for row in rows.to_dict("records")}
        for (fitted_on, tested_on, held), row in found_there.items():
            error = f"{percent(row['too_early'])}{' violated' * bool(row['violated'])}"
            places = names[fitted_on] + ", shares held" * held, _reached(row, "fitted_"), names[tested_on]
            cells.append([str(target), *places, _reached(row), error, percent(row["ece"])])
        frozen, again = (found_there[place, AWAY, False] for place in (HOME, AWAY))
        held = found_there.get((HOME, AWAY, True))
        said.append(
            f"{target}: thresholds of {home} have {_reached(frozen, 'fitted_')} of the compute on its calibration "
            f"images and {_reached(frozen)} on test images of {away}; "
            + (f"made to follow the images there they have {_reached(held)}, and " if held else "")
            + f"fitted again on {away} they have {_reached(again)}."
        )
    return [*lines, "", *markdown(cells), "", *said]


def _reached(row: Mapping[Any, Any], where: str = "") -> str:
    """Accuracy and compute in a row of a `Transfer`, on test or on the images that were fitted on."""
    compute = row["fitted_flops"] if where else row["flops_fraction"]
    return f"{percent(row[f'{where}accuracy'])} at {percent(compute, 1)}"


def class_table(row: Mapping[str, Any], n: int = 10) -> list[str]:
    """Tables of the classes of one row of `evaluate_runs` with ``classes``: the ``n`` best and worst, or all.

    Example:
        >>> import dmpo_explore as dx
        >>> (row,) = dx.evaluate_runs(["fashion"], targets=dx.Target.flops(0.30), per_class=True)
        >>> for line in class_table(row, n=2)[-3:]:
        ...     print(line)
        |-------|--------|----------|---------|-----------|---------------------------|
        | Shirt | 1,000  | 71.70 %  | 35.7 %  | 2.04      | 67 72 74 74 75 73         |
        | Coat  | 1,000  | 87.30 %  | 28.6 %  | 1.62      | 83 84 85 87 87 88         |
    """
    classes = row["classes"]
    best, worst = best_and_worst([math.nan if c["accuracy"] is None else c["accuracy"] for c in classes], n)
    lines = [
        f"{row['run']}, {describe(row['target'])}: accuracy {percent(row['accuracy'])}, balanced "
        f"{percent(row['balanced_accuracy'])}, mean over {sum(c['images'] > 0 for c in classes):,} classes.",
        f"At exits 1 to {len(row['exit_accuracy'])}: accuracy {_percents(row['exit_accuracy'], 2)} %, balanced "
        f"{_percents(row['exit_balanced_accuracy'], 2)} %.",
    ]
    if not worst:
        return [*lines, "", *_classes([classes[i] for i in best])]
    for places, which in ((best, "highest"), (worst, "lowest")):
        head = f"Of {len(classes):,} classes, the {len(places)} with the {which} accuracy:"
        lines += ["", head, "", *_classes([classes[i] for i in places])]
    return lines


def _classes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    cells = [["class", "images", "accuracy", "compute", "mean exit", "accuracy of each exit (%)"]]
    for row in rows:
        exits = [value for key, value in row.items() if key.startswith("accuracy_")]
        numbers = [percent(row["accuracy"]), percent(row["flops_fraction"], 1), f"{row['mean_exit']:.2f}"]
        cells.append([abbreviated(row["class"]), f"{row['images']:,}", *numbers, _percents(exits, 0)])
    return markdown(cells)


def percent(fraction: float, digits: int = 2) -> str:
    """A fraction in per cent."""
    return f"{100 * fraction:.{digits}f} %"


def _percents(fractions: Sequence[float], digits: int) -> str:
    return " ".join(f"{100 * value:.{digits}f}" for value in fractions)


def origin(policy: Policy) -> str:
    """Where a policy's thresholds come from: split and target in words; empty where they were set by hand."""
    split, target = policy.fitted.get("split"), policy.fitted.get("target")
    if not split or not target or Target.from_dict(target).kind == "threshold":
        return ""
    return f"fitted on {split}, target {describe(target)}"


def describe(target: Mapping[str, Any]) -> str:
    """A row's target in a few words: one of `Target`, or a protocol's setting."""
    if target.keys() <= PROTOCOLS.keys():
        ((protocol, setting),) = target.items()
        return f"exit {setting:g}" if protocol == "anytime" else f"{100 * setting:g} % continue"
    return Target.from_dict(target).describe()


def _threshold(row: Mapping[str, Any]) -> str:
    if row["target"].keys() & {"full_depth", "anytime", "budgeted"}:  # none, or it is the target itself
        return "–"
    if not row.get("certificate", {"certified": True})["certified"]:
        return "none certified"
    threshold: float | Sequence[float] = row["threshold"]
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


# The section "Results" of a run's model card: what its records show.
#
# In: a run's records and policies.json. Out: card.md with that section written again; everything before it stays.

HEADING = "## Results"
SPLITS = ("val", "calibration", "test")


def write_card_results(run: Run) -> None:
    """Write the results of a run's records into its card.md, in place of earlier ones.

    Nothing is written without a card, or where it has these results.

    Example:
        >>> import dmpo_explore as dx
        >>> "| 1 | 0.9048 | 0.9032 | 0.8932 |" in dx.load_run("fashion").card()
        True
    """
    if card := run.card():
        before, _, old = card.partition(f"\n{HEADING}\n")
        _, heading, after = old.partition("\n## ")  # what a reader of the card has added
        now = "".join([before.rstrip("\n"), "\n\n", card_results(run), heading, after])
        if now != card:
            write_text(run.path / "card.md", now)


def card_results(run: Run, splits: list[str] | None = None) -> str:
    """Accuracy of every exit on each recorded split, and the saved policies on test, as Markdown.

    Args:
        splits: by default val, calibration and test, as far as they are recorded with the run's present weights.

    Example:
        >>> import dmpo_explore as dx
        >>> print(card_results(dx.load_run("fashion-single"), ["val", "test"]))
        ## Results
        <BLANKLINE>
        Accuracy of every exit on the images of each record, written by `dmpo-explore record`.
        <BLANKLINE>
        | exit | val: 5,000 images | test: 10,000 images |
        |---|---|---|
        | 1 | 0.9182 | 0.9134 |
        <BLANKLINE>
    """
    found = _records(run, splits or [split for split in SPLITS if split in run.splits()])
    if not found:
        return ""
    accuracies = np.stack([record.correct.mean(axis=0) for record in found.values()], axis=1)  # (K, splits)
    rows = [f"| {k} | {' | '.join(f'{value:.4f}' for value in row)} |" for k, row in enumerate(accuracies, start=1)]
    lines = [
        HEADING,
        "",
        "Accuracy of every exit on the images of each record, written by `dmpo-explore record`.",
        "",
        f"| exit | {' | '.join(f'{split}: {record.n_images:,} images' for split, record in found.items())} |",
        "|---" * (1 + len(found)) + "|",
        *rows,
    ]
    if "test" in found:
        lines += _policy_lines(run, found["test"])
    return "\n".join([*lines, ""])


def _records(run: Run, splits: list[str]) -> dict[str, ExitRecord]:
    """The records that can be read; one that is damaged or of earlier weights is left out."""
    found = {}
    for split in splits:
        try:
            found[split] = run.record(split)
        except (ValueError, OSError):
            continue
    return found


def _policy_lines(run: Run, test: ExitRecord) -> list[str]:
    saved = run.policies(as_saved=True)
    policies = {name: policy for name, policy in saved.items() if _is_fitted(run, policy, test)}
    if not policies or test.n_exits == 1:
        return []
    return [
        "",
        f"The policies of `policies.json` on the {test.n_images:,} test images, which no threshold was fitted on. "
        f"`dmpo-explore evaluate {run.name} --flops 0.3` prints such a row again, and other targets.",
        "",
        "| policy | fitted on | accuracy | compute | exit shares (%) |",
        "|---|---|---|---|---|",
        *(_policy_row(name, policy, test) for name, policy in policies.items()),
    ]


def _is_fitted(run: Run, policy: Policy, test: ExitRecord) -> bool:
    """Whether it was fitted on the run's present val or calibration record, and can be applied."""
    split = policy.fitted.get("split")
    if split not in ("val", "calibration") or policy.unavailable_reason(test):
        return False
    found = _records(run, [split] if "record" in policy.fitted else [])
    return split not in found or made_for(policy, found[split])


def _policy_row(name: str, policy: Policy, test: ExitRecord) -> str:
    found = apply(policy, test).summary()
    shares = " ".join(f"{100 * share:.0f}" for share in found["exit_shares"])
    return f"| {name} | {policy.fitted['split']} | {found['accuracy']:.4f} | {found['flops_fraction']:.4f} | {shares} |"
