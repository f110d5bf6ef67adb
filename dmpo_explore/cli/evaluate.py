"""`dmpo-explore evaluate` and `policies`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import refuse_beside, target_from, target_options
from .output import print_result, say
from .root import Flops, Json, app

if TYPE_CHECKING:
    from ..policies.base import Policy
    from ..runs.run import Run


@app.command()
@target_options
def evaluate(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Names of runs or their folders.")],
    flops: Flops = None,
    all_policies: Annotated[
        bool, typer.Option("--all-policies", help="Every policy at 30, 50, 70 % compute and at most 1 point lost.")
    ] = False,
    protocol: Annotated[
        str | None, typer.Option(help="anytime (a row per exit) or budgeted (a row per share that goes on).")
    ] = None,
    split: Annotated[str, typer.Option(help="Record that is judged.")] = "test",
    against: Annotated[
        str | None, typer.Option(metavar="RUN", help="Accuracy difference to this run, with a 95 % interval.")
    ] = None,
    as_json: Json = False,
    **settings: Any,
) -> None:
    """Fit a policy on val, apply it to test: accuracy, compute, exit shares.

    --flops is a ceiling: the threshold with the best accuracy on val among those that cost no more. Without a target:
    30, 50, 70 and 100 % of the plain backbone's compute (as far as the run can meet them),
    and "full": every image at the last exit. 100 % is a budget like the others: at most what the plain backbone costs.
    A run's full depth may cost more, since tuning, bypasses and predictors count.

    --against compares on the same images, by a paired bootstrap; the other run gets the same target, fitted on its own
    val (a run with a single exit is taken as it is). With --json one answer is an object, several are an array.

    --risk is Learn-then-Test risk control: with probability 1 - delta over the validation images, new images like them
    have at most the risk epsilon. Where no threshold can be certified no image exits early.
    """
    from ..analysis.evaluation import evaluate_policies, evaluate_protocol, evaluate_runs
    from ..analysis.tables import policy_table, table

    found = [target_from(settings | {"flops": budget}) for budget in flops or (None,)]
    targets = [target for target in found if target is not None]
    if all_policies or protocol:
        given = {
            "--protocol": all_policies and protocol,
            "--flops": flops,
            "--against": against,
            "other targets": targets,
        }
        refuse_beside("--all-policies" if all_policies else "--protocol", given)
    if all_policies:
        rows = evaluate_policies(runs, split=split)
        print_result(rows, as_json, policy_table(rows))
        return
    if protocol:
        rows = evaluate_protocol(runs, protocol, split=split)
    else:
        how = {name: settings[name] for name in ("per_exit", "calibrate")}
        rows = evaluate_runs(runs, settings["policy"], targets, split=split, against=against, **how)
    print_result(rows[0] if len(rows) == 1 else rows, as_json, table(rows))
    for row in rows:
        if row.get("note"):
            say(f"{row['run']}: {row['note']}")


def _fitted(run: Run, settings: dict[str, Any]) -> Policy:
    """The policy that a run is used with, fitted on val; by default the cheapest that loses no accuracy there."""
    from ..analysis.evaluation import fit_run_policy
    from ..fitting.target import Target

    how = {name: settings[name] for name in ("per_exit", "calibrate")}
    target = target_from(settings) or Target.accuracy_drop(0.0, **how)
    fitted = fit_run_policy(run, settings["policy"], target)
    if "note" in fitted.fitted:
        say(fitted.fitted["note"])
    return fitted


@app.command()
def policies(as_json: Json = False) -> None:
    """What each policy does; T is its threshold."""
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
