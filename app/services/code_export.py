"""Python programs and commands that reproduce what a page shows."""

from __future__ import annotations

import shlex

from dmpo_explore_app.services import own_runs

import dmpo_explore as dx

FITTING = ("calibration", "val")  # splits that policies of a run are fitted on


def python_code(run: dx.Run, split: str, policy: dx.Policy) -> str:
    """A program that prints the summary of ``policy``'s outcome on the run's record."""
    if isinstance(run, own_runs.OwnRun):
        fitted = run.scores.get(run.fitting_split)
        load = f"record = {run.scores[split].code}"
        return program(load, policy, fitted.code if fitted else "", target_of(policy))
    load = f"run = dx.load_run({run.reference!r})\nrecord = run.record({split!r})"
    return program(load, policy, fitting_record(run), target_of(policy))


def fitting_record(run: dx.Run) -> str:
    """The expression for the record that a run's policies are fitted on."""
    return f'run.record("{run.fitting_split}")'


def program(load: str, policy: dx.Policy, held_out: str, target: dx.Target | None) -> str:
    """The program: ``load`` makes ``record``; ``held_out``: expression for the record that it was fitted on, or empty;
    ``target``: None where thresholds were set by hand."""
    split = policy.fitted.get("split")
    if target is not None and held_out:
        fit = f"dx.fit_policy({held_out}, {policy.name!r}, {target.to_code()})  # fitted on {split}"
    elif is_bare(policy):
        fit = f"dx.fit_policy(record, {policy.name!r}, {_by_hand(policy).to_code()})  # set by hand"
    elif is_calibrated(policy) and held_out:
        arguments = _by_hand(policy).to_code()
        fit = f"dx.fit_policy({held_out}, {policy.name!r}, {arguments})  # set by hand; temperatures fitted on {split}"
    else:
        fit = f"dx.policy_from_dict({policy.to_dict()!r})"
    return f"{imports(policy.name)}{load}\npolicy = {fit}\nprint(dx.apply(policy, record).summary())"


def imports(policy: str) -> str:
    """The first lines of a program: the library, and the plug-in that ``policy`` came from."""
    file = dx.policies.policy_plugin(policy)
    return "import dmpo_explore as dx\n\n" + (f"dx.load_plugin({file!r})\n" if file else "")


def evaluate(policy: str) -> str:
    """The first words of a command that evaluates ``policy``."""
    file = dx.policies.policy_plugin(policy)
    return "dmpo-explore " + (f"--plugin {shlex.quote(file)} " if file else "") + "evaluate"


def command_line(run: dx.Run, split: str, policy: dx.Policy) -> str:
    """A command that prints the same; empty where there is none."""
    if own_runs.is_own(run):
        return ""
    target = target_of(policy)
    if target is None:
        if not is_bare(policy) and not is_calibrated(policy):
            return ""
        target = _by_hand(policy)
    options = shlex.join(["--policy", policy.name, *target.to_options(), "--split", split])
    return f"{evaluate(policy.name)} {run.quoted} {options}"


def target_of(policy: dx.Policy) -> dx.Target | None:
    """The target that ``policy`` was fitted to on one of `FITTING`; None for thresholds set by hand."""
    values = policy.fitted.get("target")
    if not values or policy.fitted.get("split") not in FITTING:
        return None
    target = dx.Target.from_dict(values)
    by_hand = target.kind in ("threshold", "full_depth") or bool(policy.temperatures) != target.calibrate
    return None if by_hand else target


def _by_hand(policy: dx.Policy) -> dx.Target:
    return dx.Target.threshold(policy.thresholds, calibrate=is_calibrated(policy))


def is_bare(policy: dx.Policy) -> bool:
    """Whether the policy consists of thresholds alone."""
    return not (policy.temperatures or policy.learned)


def is_calibrated(policy: dx.Policy) -> bool:
    """Whether the policy consists of thresholds and of temperatures that were fitted too (see `policies.base`)."""
    target = policy.fitted.get("target", {})
    fitted = policy.fitted.get("split") in FITTING and target.get("temperatures") == "fit"
    return bool(policy.temperatures) and fitted and not policy.learned
