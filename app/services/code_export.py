"""Python programs and commands that reproduce what a page shows."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dmpo_explore as dx

WISHES = {"flops", "accuracy_drop", "shares", "risk"}  # arguments of `dx.fit_policy` that are fitted


def python_code(run: dx.Run, split: str, policy: dx.Policy) -> str:
    """A program that prints `dx.summarise` of ``policy`` on the run's record."""
    load = f"run = dx.load_run({reference(run)!r})\nrecord = run.record({split!r})"
    return program(load, policy, 'run.record("val")')


def folder_code(record: Path, policy: dx.Policy, val: Path | None = None) -> str:
    """The same for record folders that belong to no run; ``val`` is what the policy was fitted on."""
    load = f"record = dx.ExitRecord.load({str(record)!r})"
    wish = wish_of(policy, policy.fitted.get("split")) if val else {}  # that folder's split may have any name
    return program(load, policy, f"dx.ExitRecord.load({str(val)!r})" if val else "", wish)


def program(load: str, policy: dx.Policy, val: str, wish: Mapping[str, Any] | None = None) -> str:
    """The program.

    Args:
        load: lines that make ``record``. val: expression for the record that the policy was fitted on; empty: none.
        wish: what it was fitted to there; None: `wish_of`.
    """
    wish = wish_of(policy) if wish is None else wish
    threshold = policy.thresholds[0] if len(policy.thresholds) == 1 else policy.thresholds
    if wish and val:
        arguments = ", ".join(f"{key}={value!r}" for key, value in wish.items())
        fit = f"dx.fit_policy({val}, {policy.name!r}, {arguments})  # fitted on val"
    elif is_plain(policy):
        fit = f"dx.fit_policy(record, {policy.name!r}, threshold={threshold!r})  # set by hand"
    elif is_calibrated(policy) and val:
        arguments = f"threshold={threshold!r}, temperatures='fit'"
        fit = f"dx.fit_policy({val}, {policy.name!r}, {arguments})  # set by hand; temperatures fitted on val"
    else:
        fit = f"dx.policy_from_dict({policy.to_dict()!r})"
    return f"import dmpo_explore as dx\n\n{load}\npolicy = {fit}\nprint(dx.summarise(record, policy.exits(record)))"


def command_line(run: dx.Run, split: str, policy: dx.Policy) -> str:
    """A command that prints the same; empty where there is none."""
    if not (wish := wish_of(policy)):
        if not is_plain(policy) and not is_calibrated(policy):
            return ""
        wish = {"threshold": list(policy.thresholds)} | _how(policy)
    options = " ".join(_option(key, value) for key, value in wish.items())
    return f"dmpo-explore evaluate {quoted(run)} --policy {policy.name} {options} --split {shlex.quote(split)}"


def _option(key: str, value: Any) -> str:
    if key == "temperatures":
        return "--calibrate"
    name = f"--{key.replace('_', '-')}"
    if value is True:
        return name
    text = ",".join(map(repr, value)) if isinstance(value, list) else str(value)
    return f"{name}={text}" if text.startswith("-") else f"{name} {text}"  # a minus would begin another option


def wish_of(policy: dx.Policy, split: str | None = "val") -> dict[str, Any]:
    """What ``policy`` was fitted to on ``split``; empty if its thresholds were set by hand or on another one."""
    target = policy.fitted.get("target", {})
    fitted = policy.fitted.get("split") == split and (not policy.temperatures or bool(_how(policy)))
    return dict(target) | _how(policy) if fitted and target.keys() & WISHES else {}


def is_plain(policy: dx.Policy) -> bool:
    """Whether thresholds are all that it holds."""
    return not (policy.temperatures or policy.learned)


def is_calibrated(policy: dx.Policy) -> bool:
    """Whether it holds thresholds, and temperatures that can be fitted again (see `loading.base`)."""
    return bool(_how(policy)) and not policy.learned


def _how(policy: dx.Policy) -> dict[str, Any]:
    refit = policy.temperatures and policy.fitted.get("split") == "val" and policy.fitted.get("temperatures") == "fit"
    return {"temperatures": "fit"} if refit else {}


def reference(run: dx.Run) -> str:
    """The run's name where that finds it, else its path."""
    try:
        return run.name if dx.load_run(run.name).path == run.path else str(run.path)
    except (OSError, ValueError):
        return str(run.path)


def quoted(run: dx.Run) -> str:
    """`reference` for a shell."""
    return shlex.quote(reference(run))
