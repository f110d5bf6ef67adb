"""A comparison of runs as a Python program and as commands, which print the numbers of the page.

In: `comparison.Side`s, the split and the policy. Out: text.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from dmpo_explore_app.services import code_export, own_runs, policies
from dmpo_explore_app.services.comparison import AT_DEPTH, Side

import dmpo_explore as dx


def python_code(sides: Sequence[Side], base: Side, split: str, policy: str) -> str:
    """A program that prints accuracy, compute and the difference to ``base`` of every run."""
    if any(own_runs.is_own(side.point.run) for side in sides):
        return _with_own_scores(sides, base, split, policy)
    lines = "".join(
        f"    {code_export.reference(side.point.run)!r}: dx.Target.{_target(side)},\n"
        for side in [base, *(side for side in sides if side is not base)]
    )
    some = dx.POLICIES[policy].learns or not all(side.fitted for side in sides)  # at full depth not all have it
    name = f'{policy!r} if target.kind != "full_depth" else {AT_DEPTH!r}' if some else repr(policy)
    return (
        f"{code_export.imports(policy)}"
        f"targets = {{  # of calibration or val; the others are compared with the first\n{lines}}}\noutcomes = {{}}\n"
        "for name, target in targets.items():\n"
        "    run = dx.load_run(name)\n"
        f"    policy = dx.fit_run_policy(run, {name}, target)\n"
        f"    outcome = outcomes[name] = dx.apply(policy, run.record({split!r}))\n"
        "    s = outcome.summary()\n"
        "    difference = dx.bootstrap_difference(outcome.correct, next(iter(outcomes.values())).correct)\n"
        '    print(name, s["accuracy"], s["flops_fraction"], *difference)'
    )


def _with_own_scores(sides: Sequence[Side], base: Side, split: str, policy: str) -> str:
    """The same where some scores belong to no run folder: every record is named."""
    lines = "".join(
        f"    {side.name!r}: (\n        {_record(side.point.run, split)},\n"
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


def _record(run: dx.Run, split: str) -> str:
    if isinstance(run, own_runs.OwnRun):
        return run.scores[split].code
    return f"dx.load_run({code_export.reference(run)!r}).record({split!r})"


def _target(side: Side) -> str:
    return f"from_arguments({target(side).to_code()})" if side.fitted else "full_depth()"


def target(side: Side) -> dx.Target:
    """What the side's thresholds were fitted to."""
    return dx.Target.from_dict(side.point.policy.fitted["target"])


def command_line(sides: Sequence[Side], base: Side, split: str, policy: str) -> str:
    """The same from the shell: runs that are fitted to the same against ``base``; others in a line each.

    Empty with own scores, which no command can name.
    """
    if any(own_runs.is_own(side.point.run) for side in sides):
        return ""
    free, quoted = [side for side in sides if side.fitted], shlex.quote(split)
    names = {" ".join(target(side).to_options()): "" for side in free}
    for side in free:
        names[" ".join(target(side).to_options())] += f" {code_export.quoted(side.point.run)}"
    against = f" --against {code_export.quoted(base.point.run)}" if len(names) == 1 and _fits(base) else ""
    lines = [
        f"{code_export.evaluate(policy)}{some} --policy {shlex.quote(policy)} {options} --split {quoted}{against}"
        for options, some in names.items()
    ]
    lines += [
        f"dmpo-explore evaluate {code_export.quoted(side.point.run)} --split {quoted}"
        for side in sides
        if side.record.n_exits == 1 and policies.can_fit(side.point.run)
    ]
    return "\n".join(lines)


def _fits(base: Side) -> bool:
    return base.fitted or base.record.n_exits == 1
