"""The counts of one kind of fault."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Outcome:
    """Trials, those that did not end as they must, finished files that were lost, and the first failures in words.

    Example:
        >>> outcome = Outcome(trials=3)
        >>> outcome.wrong("train, kill 1: history.csv differs")
        >>> outcome.survived
        2
    """

    trials: int = 0
    failed: int = 0
    lost: int = 0  # finished files that were damaged, mixed up or gone
    note: str = ""  # a figure of this kind alone
    skipped: str = ""  # why there was no trial
    examples: list[str] = field(default_factory=list)

    @property
    def survived(self) -> int:
        return self.trials - self.failed

    def wrong(self, what: str) -> None:
        """Count a trial that did not end as it must."""
        self.failed += 1
        if len(self.examples) < 10:
            self.examples.append(what)
