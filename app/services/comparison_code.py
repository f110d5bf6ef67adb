"""A comparison of runs as a Python program and as commands, which print the numbers of the page."""

from __future__ import annotations

from collections.abc import Sequence

from dmpo_explore_app.services import code_export, own_runs
from dmpo_explore_app.services.comparison import AT_DEPTH, Side

import dmpo_explore as dx


def python_code(sides: Sequence[Side], base: Side, split: str, policy: str) -> str:
    """A program that prints accuracy, compute and the difference to ``base`` of every run."""
    lines = "".join(
        f"    {_name(side)!r}: (\n        {_record(side.point.run, split)},\n"
        f"        {_record(side.point.run, side.point.run.fitting_split if side.fitted else split)},\n"
        f"        {(policy if side.fitted else AT_DEPTH)!r},\n        dx.Target.{_target(side)},\n    ),\n"
        for side in [base, *(side for side in sides if side is not base)]
    )
    return (
        f"{code_export.imports(policy)}"
        "scores = {  # record, held-out record to fit on, policy, target; the others are compared with the first\n"
        f"{lines}}}\noutcomes = {{}}\n"
        "for name, (record, held_out, policy, target) in scores.items():\n"
        "    outcome = outcomes[name] = dx.apply(dx.fit_policy(held_out, policy, target=target), record)\n"
        "    s = outcome.summary()\n"
        "    difference = dx.bootstrap_difference(outcome.correct, next(iter(outcomes.values())).correct)\n"
        '    print(name, s["accuracy"], s["flops_fraction"], *difference, sep="\\t")'
    )


def _name(side: Side) -> str:
    return side.name if own_runs.is_own(side.point.run) else side.point.run.reference


def _record(run: dx.Run, split: str) -> str:
    if isinstance(run, own_runs.OwnRun):
        return run.scores[split].code
    return f"dx.load_run({run.reference!r}).record({split!r})"


def _target(side: Side) -> str:
    return f"from_arguments({target(side).to_code()})" if side.fitted else "full_depth()"


def target(side: Side) -> dx.Target:
    """What the side's thresholds were fitted to."""
    return dx.Target.from_dict(side.point.policy.fitted["target"])


def command_line(sides: Sequence[Side], split: str) -> str:
    """The numbers of every run from the shell; empty with own scores, which no command can name."""
    points = [side.point for side in sides]
    if any(own_runs.is_own(point.run) for point in points):
        return ""
    return "\n".join(filter(None, (code_export.command_line(point.run, split, point.policy) for point in points)))
