"""The catalogue of exit policies, and their JSON files.

`POLICIES` is the only list: `fit_policy`, command line, app and documents read it. Plug-ins add their entries to it.
Policies that are not ``deployable`` read the labels and are bounds. Policies that ``learn`` need more than a threshold:
make them with `fit_policy` on a held-out record.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import joints
from ..plugin_needs import file_to_name
from ..records.record import ExitRecord
from ..records.scores import SCORES
from ..utils.files import read_json, write_json
from ..utils.registry import Joint, lookup, unknown
from ..utils.texts import short
from .base import Policy
from .learned import BudgetedPolicy, GatePolicy
from .ranking import ScorePolicy
from .rules import (
    ConfidencePolicy,
    EntropyPolicy,
    FixedPolicy,
    MarginPolicy,
    OraclePolicy,
    PatienceConfidencePolicy,
    PatiencePolicy,
    RandomPolicy,
)
from .running import RunningPolicy


def check_policy(name: str, kind: type[Policy]) -> None:
    """Raise ValueError for a policy class that contradicts itself; for those of plug-ins, when they are added."""
    wrong = ""
    if kind.name != name:
        wrong = f"its name is {kind.name!r}; register it under that"
    elif kind.rule.count("{}") != 1:
        wrong = f"rule={kind.rule!r} must hold one {{}}, for the threshold"
    elif (kind.threshold_all > kind.threshold_none) != kind.falling:
        wrong = (
            f"falling={kind.falling}, so threshold_all={kind.threshold_all}, at which all images exit at exit 1, must "
            f"be {'above' if kind.falling else 'below'} threshold_none={kind.threshold_none}"
        )
    elif (score := SCORES.get(kind.compared_score() or "")) and score.better == ("high" if kind.falling else "low"):
        wrong = f"falling={kind.falling} contradicts the score {score.name!r}, which is better={score.better!r}"
    elif (
        issubclass(kind, ScorePolicy)
        and (kind.threshold_all, kind.threshold_none) != (ScorePolicy.threshold_all, ScorePolicy.threshold_none)
        and not any("grid" in vars(base) for base in kind.__mro__[: kind.__mro__.index(ScorePolicy)])
    ):
        wrong = "its values are not those from 0 to 1, so it needs a grid(cls, n_exits, n_classes) of its own"
    if wrong:
        raise ValueError(f"policy {name!r}: {wrong}")


POLICIES: Joint[type[Policy]] = joints.POLICIES.fill(
    {
        kind.name: kind
        for kind in (
            ConfidencePolicy,
            EntropyPolicy,
            MarginPolicy,
            PatiencePolicy,
            PatienceConfidencePolicy,
            GatePolicy,
            BudgetedPolicy,
            RandomPolicy,
            FixedPolicy,
            OraclePolicy,
        )
    },
    check_policy,
)
MOST_NUMBER = 1e300  # of a temperature or a learned weight
_KEYS = ("policy", "thresholds", "fitted", "temperatures", "learned", "running")


def policy_from_dict(values: Any, where: str = "policy") -> Policy:
    """Read `Policy.to_dict`'s values; raises ValueError naming ``where`` and the problem.

    Example:
        >>> policy_from_dict({"policy": "confidence", "thresholds": [0.9]}).thresholds
        (0.9,)
    """
    if not isinstance(values, dict):
        raise ValueError(f"{where} must be a JSON object, not {type(values).__name__}")
    for key in values:
        if key not in _KEYS:
            raise ValueError(unknown(f"key in {where}", key, _KEYS))
    name, thresholds, fitted = values.get("policy"), values.get("thresholds"), values.get("fitted", {})
    if not isinstance(name, str) or not isinstance(thresholds, list) or not isinstance(fitted, dict):
        raise ValueError(f"{where} needs policy (a name), thresholds (a list) and, if at all, fitted (an object)")
    temperatures, learned = values.get("temperatures", []), values.get("learned", [])
    if not _numbers(temperatures) or not isinstance(learned, list) or not all(map(_numbers, learned)):
        raise ValueError(f"{where}: temperatures must be a list of numbers, learned a list of such lists")
    rows, held = tuple(tuple(row) for row in learned), values.get("running")
    try:
        policy = lookup(POLICIES, name, "policy")(tuple(thresholds), fitted, tuple(temperatures), rows)
        return policy if held is None else _held(policy, held)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def load_policy(path: str | Path) -> Policy:
    """Read a saved policy; FileNotFoundError or ValueError naming the file.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     ConfidencePolicy((0.9,)).save(Path(folder) / "policy.json")
        ...     load_policy(Path(folder) / "policy.json").name
        'confidence'
    """
    return policy_from_dict(read_json(Path(path)), str(path))


def write_policies(path: str | Path, policies: Mapping[str, Policy]) -> None:
    """Write named policies as one JSON object.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_policies(Path(folder) / "policies.json", {"mine": ConfidencePolicy((0.9,))})
        ...     list(read_policies(Path(folder) / "policies.json"))
        ['mine']
    """
    write_json(Path(path), {name: policy.to_dict() for name, policy in policies.items()})


def read_policies(path: str | Path) -> dict[str, Policy]:
    """Read `write_policies`'s file; FileNotFoundError or ValueError naming the file and the entry.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_policies(Path(folder) / "policies.json", {"mine": ConfidencePolicy((0.9,))})
        ...     read_policies(Path(folder) / "policies.json")["mine"].thresholds
        (0.9,)
    """
    values = read_json(Path(path))
    if not isinstance(values, dict):
        raise ValueError(f"{path} must hold a JSON object, not {type(values).__name__}")
    return {name: policy_from_dict(value, f"{path}: {short(name)}") for name, value in values.items()}


def _held(policy: Policy, values: Any) -> RunningPolicy:
    """A policy that keeps its shares, from what `RunningPolicy.to_dict` has of them."""
    if not isinstance(values, dict) or set(values) != {"shares", "window"}:
        raise ValueError("running must be an object with shares and window")
    if not _numbers(values["shares"]) or not isinstance(values["window"], int):
        raise ValueError("running needs shares, a list of numbers, and window, a whole number")
    return RunningPolicy(base=policy, shares=tuple(map(float, values["shares"])), window=values["window"])


def _numbers(values: Any) -> bool:
    plain = isinstance(values, list) and all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    return plain and all(abs(v) <= MOST_NUMBER for v in values)


def policy_plugin(name: str) -> str:
    """The file of the plug-in that has to be loaded for policy ``name``; empty where none has.

    Example:
        >>> policy_plugin("confidence")
        ''
    """
    return file_to_name(POLICIES, name)


def learned_policy(record: ExitRecord, name: str, temperatures: tuple[float, ...] = ()) -> Policy:
    """Policy ``name`` after learning from ``record`` (held out), with a threshold still to be chosen.

    Raises:
        ValueError: unknown policy, or ``record`` is of ``test`` and the policy would learn from it.

    Example:
        >>> import dmpo_explore as dx
        >>> policy = learned_policy(dx.load_run("demo").record("val"), "gate")
        >>> len(policy.learned)  # a logistic regression per exit but the last
        5
    """
    kind = lookup(POLICIES, name, "policy")
    return kind((kind.threshold_all,), temperatures=temperatures).learn(record)
