"""`dmpo-explore evaluate` and `policies`: exit policies evaluated on recorded splits, as a table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import policy_from, refuse_beside, target_from, target_options, unused
from .output import print_result, say
from .root import Flops, Json, app

if TYPE_CHECKING:
    from ..fitting.target import Target
    from ..policies.base import Policy
    from ..runs.run import Run

RUNS = "Names of runs, their folders, or folders of own scores: val.npz and test.npz, as `dx.runs.read_scores` reads."
ALL_POLICIES = "Evaluate every policy, at 30, 50 and 70 % compute and at an accuracy drop of 1 point."
NO_AGAINST = (
    "has no target to compare under; leave out --protocol to compare at every budget, or leave out --against and name "
    "both runs to have their rows in one table"
)
PROTOCOL = "Standard protocol: anytime (a row per exit) or budgeted (a row per share of images that continue)."
FEW_EVALUATED = 1000  # images; with fewer, the interval of an accuracy of 90 % is about four points wide, or wider
ON_VAL = "it has no calibration record; thresholds are fitted on val, which also chose the epoch"
AGAINST = "Add the accuracy difference to this run, with a 95 % interval."
TRANSFER = "Tell what the exits and thresholds of one run do on these other images; see `record --other-data`."
PER_IMAGE = "Write one row per image to this file, for other tools: exit, answers of every exit. One run, one target."
PER_CLASS = "Write one line per class to this file, and print the best and the worst classes."


@app.command()
@target_options
def evaluate(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help=RUNS)],
    flops: Flops = None,
    all_policies: Annotated[bool, typer.Option("--all-policies", help=ALL_POLICIES)] = False,
    protocol: Annotated[str | None, typer.Option(help=PROTOCOL)] = None,
    split: Annotated[str, typer.Option(help="Split to evaluate on.")] = "test",
    against: Annotated[str | None, typer.Option(metavar="RUN", help=AGAINST)] = None,
    transfer: Annotated[str | None, typer.Option(metavar="NAME", help=TRANSFER)] = None,
    per_class: Annotated[Path | None, typer.Option(metavar="FILE.csv", help=PER_CLASS)] = None,
    per_image: Annotated[Path | None, typer.Option(metavar="FILE.parquet|FILE.csv", help=PER_IMAGE)] = None,
    as_json: Json = False,
    **settings: Any,
) -> None:
    """Fit an exit policy and evaluate it on test: accuracy, compute, exit shares.

    The policy is fitted on calibration, or on val if a run has no calibration split. Compute is a fraction of the plain
    backbone's FLOPs, as deployed (tuning merged). Bypasses and predictors count, so full depth may exceed 100 %.

    --flops is an upper bound: of the thresholds that meet it on calibration, the most accurate is taken. Without a
    target the table has the budgets 30, 50, 70 and 100 %, as far as the run can meet them, and full depth.

    --against compares two runs on the same images, with a paired interval. The other run gets the same target, fitted
    on its own calibration record. A run with a single exit is compared at full depth.

    --per-class writes images, accuracy, mean exit and compute of every class, and prints the ten best and the ten worst
    classes. Balanced accuracy, the mean over classes, gets a column where classes differ in size.

    --risk is Learn-then-Test risk control: with probability 1 - delta over the draw of the calibration images, the risk
    on new images of the same distribution is at most epsilon. If no threshold can be certified, no image exits early.

    --transfer NAME tells what happens on images of another place: what every exit loses there, how far the thresholds
    miss their target, and what fitting them again on calibration images of that place repairs.

    A RUN may also be a folder of own scores (docs/your-scores.md).

    With --json, one row is an object and several rows are an array.
    """
    from ..analysis.evaluation import evaluate_policies, evaluate_protocol, evaluate_runs
    from ..analysis.shift import TARGETS
    from ..analysis.tables import class_table, policy_table, table
    from ..fitting.target import BOUNDS

    how = {name: settings[name] for name in ("per_exit", "calibrate")}
    policy = policy_from(settings | {"flops": flops})
    found = [target_from(settings | {"flops": budget}) for budget in flops or (None,)]
    targets = [target for target in found if target is not None]
    beside: dict[str, Any] = {"--flops": flops, "--against": against, "targets": targets, **unused(settings)}
    if protocol and against:
        raise typer.BadParameter(NO_AGAINST, param_hint="--protocol")
    if all_policies or protocol:
        beside |= {"--protocol": all_policies and protocol, "--per-class": per_class, "--per-image": per_image}
        refuse_beside("--all-policies" if all_policies else "--protocol", beside)
    if transfer:
        others = {"--against": against, "--per-class": per_class, "--per-image": per_image, "--split": split != "test"}
        refuse_beside("--transfer", {"--all-policies": all_policies, "--protocol": protocol, **others})
        usual = [replace(target, **how) if target.kind in BOUNDS else target for target in TARGETS]
        _transfer(runs, transfer, policy, targets or usual, as_json)
        return
    if all_policies:
        rows = evaluate_policies(runs, split=split)
    elif protocol:
        rows = evaluate_protocol(runs, protocol, split=split)
    else:
        rows = evaluate_runs(
            runs, policy, targets, split=split, against=against, per_class=per_class is not None, **how
        )
    if per_image:
        write_images(per_image, runs, split, policy, targets)
    more = [line for row in rows for line in ("", *class_table(row))] if per_class else []
    if per_class:
        write_classes(per_class, rows)
    lines = policy_table(rows) if all_policies else table(rows) + more
    print_result(rows[0] if len(rows) == 1 else rows, as_json, lines)
    say_splits(rows, as_json)
    for row in rows:  # what limits a policy under its target, and an accuracy drop
        if row.get("note"):
            say(f"{row['run']}, {row['policy']}: {row['note']}")
    caution_all(runs, rows, fitted=not protocol)


def _transfer(runs: list[str], data: str, policy: str | Policy, targets: list[Target], as_json: bool) -> None:
    """Print what one run does on other data."""
    from ..analysis.shift import transfer_run
    from ..analysis.tables import transfer_lines
    from ..runs.store import load_run

    if len(runs) != 1 or not isinstance(policy, str):
        raise typer.BadParameter("needs one run, and a policy by name", param_hint="--transfer")
    run = load_run(runs[0])
    found = transfer_run(run, data, targets, policy)
    tables = {name: json.loads(table.to_json(orient="records")) for name, table in found._asdict().items()}
    print_result({"run": run.name, "data": data} | tables, as_json, transfer_lines(found, run.config.data.name, data))


def say_splits(rows: list[dict[str, Any]], as_json: bool) -> None:
    """Print below a table on which split its thresholds were fitted, by run where they differ; rows in JSON say it."""
    fitted: dict[str, dict[str, None]] = {}
    for row in rows:
        if row.get("fitted_on"):
            fitted.setdefault(row["fitted_on"], {})[row["run"]] = None
    if fitted and not as_json:
        on = " and ".join(split + f" ({', '.join(runs)})" * (len(fitted) > 1) for split, runs in fitted.items())
        say(f"thresholds fitted on {on}, numbers of {rows[0]['split']}")


def write_classes(path: Path, rows: list[dict[str, Any]]) -> None:
    """A CSV file with a line per run, target and class."""
    import pandas as pd

    from ..analysis.tables import describe
    from ..utils.files import atomic_file, begins_with, require_ours

    table = pd.DataFrame(
        {"run": row["run"], "target": describe(row["target"])} | line for row in rows for line in row["classes"]
    )
    require_ours(path, "a table of these classes' numbers", begins_with(",".join(table.columns)))
    with atomic_file(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")


def write_images(path: Path, names: list[str], split: str, policy: str | Policy, targets: list[Target]) -> None:
    """A Parquet or CSV file with a row per image, under the policy for the one target; wrong usage if it is not one."""
    from ..analysis.evaluation import fit_run_policy, target_of
    from ..analysis.image_table import image_paths, image_table, write_image_table
    from ..analysis.metrics import apply
    from ..fitting.target import Target
    from ..runs.score_folder import load_scored

    targets = targets if isinstance(policy, str) else [target_of(policy)]
    if (len(names), len(targets)) != (1, 1):
        raise typer.BadParameter("needs one run and one target, such as --flops 0.3", param_hint="--per-image")
    run = load_scored(names[0])
    record = run.record(split)
    target = targets[0] if record.n_exits > 1 else Target.full_depth()
    outcome = apply(fit_run_policy(run, policy, target), record)
    write_image_table(path, image_table(outcome, image_paths(run, split)))


def caution_all(runs: list[str], rows: Sequence[dict[str, Any]] = (), *, fitted: bool = True) -> None:
    """Print what limits these numbers: few images, thresholds fitted on val; of own scores also what was understood."""
    from ..runs.score_files import doubts, understood
    from ..runs.score_folder import ScoreFolder, load_scored

    for run in map(load_scored, runs):
        own = [row for row in rows if row["run"] == run.name and "unavailable" not in row]
        texts = _cautions(run) if fitted else []
        if few := next((row for row in own if row["images"] < FEW_EVALUATED), None):
            low, high = (f"{100 * end:.{0 if few['images'] < 100 else 1}f}" for end in few["interval"])
            interval = f"the 95 % interval of {100 * few['accuracy']:.1f} % is {low} to {high} %"
            texts = [f"{few['split']} has {few['images']} images: {interval}", *texts]
        asked = {run.fitting_split, *(row["split"] for row in own)} if isinstance(run, ScoreFolder) else set()
        for split in sorted(asked & {*run.splits()}):
            say(f"{run.name} {split}: {understood(record := run.record(split))}")
            texts = [*(f"{split}: {text}" for text in doubts(record)), *texts]
        for text in texts:
            say(f"caution: run {run.name!r}: {text}")


def _cautions(run: Run) -> list[str]:
    """Too few images to fit on, images that chose the epoch too; nothing where there is nothing to fit."""
    from ..fitting.fit import few_images
    from ..runs.score_folder import ScoreFolder

    split = run.fitting_split
    if split not in run.splits() or (record := run.record(split)).n_exits == 1:
        return []
    on_val = split == "val" and not isinstance(run, ScoreFolder)
    return [text for text in (few_images(record.n_images, split), ON_VAL * on_val) if text]


def fit_typed(run: Run, settings: dict[str, Any]) -> Policy:
    """The policy for the typed target, fitted on calibration; by default `DEFAULT_TARGET`.

    A run with a single exit gets full depth whatever the target, as in `evaluate`.
    """
    from ..analysis.evaluation import fit_run_policy
    from ..fitting.target import DEFAULT_TARGET, Target

    how = {name: settings[name] for name in ("per_exit", "calibrate")}
    policy, target = policy_from(settings), target_from(settings)
    if run.fitting_split in run.splits() and run.record(run.fitting_split).n_exits == 1:
        if target not in (None, Target.full_depth()):
            say(f"run {run.name!r} has a single exit: all images exit there, whatever the target")
        target = Target.full_depth()
    usual = replace(DEFAULT_TARGET, **how) if isinstance(policy, str) else None
    fitted = fit_run_policy(run, policy, target or usual)
    if "note" in fitted.fitted:
        say(fitted.fitted["note"])
    return fitted


@app.command()
def policies(as_json: Json = False) -> None:
    """List the exit policies and their rules; T is the threshold."""
    from ..policies.catalogue import POLICIES

    rows = [
        {
            "policy": name,
            "rule": kind.rule.replace("**{}**", "T"),
            "summary": kind.summary,
            "reads": list(kind.reads),
            "deployable": kind.deployable,
        }
        for name, kind in POLICIES.items()
    ]
    print_result(rows, as_json, [f"{row['policy']:<21}{row['rule']}" for row in rows])
