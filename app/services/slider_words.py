"""The threshold slider in words: texts of its stops and ends, its rule, the title of its bars.

In: thresholds, a policy, a record. Out: plain text.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence

import dmpo_explore as dx

EARLIEST, LATEST = "all at exit 1", "none early"


def labels(stops: Sequence[float], first: str, last: str) -> list[str]:
    """A short text for each stop: three decimals, or as many as tell it from its neighbours; words at the ends."""
    texts, ranked = [], sorted(set(stops))  # a stop that another target gave need not lie between its neighbours
    for stop in stops:
        i = bisect.bisect_left(ranked, stop)
        near = [*ranked[max(0, i - 1) : i], *ranked[i + 1 : i + 2]]
        digits = next((d for d in range(3, 9) if all(f"{stop:.{d}f}" != f"{n:.{d}f}" for n in near)), 9)
        texts.append(f"{stop:g}" if float(stop).is_integer() or digits == 9 else f"{stop:.{digits}f}")
    return [first, *texts[1:-1], last]


def title(record: dx.ExitRecord, label: int | None) -> str:
    """Of the bars: the chosen class is named."""
    return "Images by exit" + ("" if label is None else f": {dx.figures.abbreviated(record.meta.class_names[label])}")


def ends_in_words(name: str) -> tuple[str, str]:
    """What the first and the last stop of a single threshold mean, as sentences."""
    return f"All images exit at exit 1; {name} is not used.", "No image exits early."


def rule(policy: dx.Policy, n_exits: int) -> str:
    """The policy's rule in words; {} stands for the threshold if there is a single one."""
    if n_exits == 1:
        return "This run has a single exit: there is nothing to choose."
    words = policy.rule.replace("**", "")
    return words if len(policy.thresholds) == 1 else words.replace("{}", "its own threshold")
