"""The section "Results" of a run's model card: what its records show.

In: a run's records and policies.json. Out: card.md with that section written again; everything before it stays.
"""

from __future__ import annotations

import numpy as np

from ..fitting.fit import made_for
from ..policies.base import Policy
from ..records.record import ExitRecord
from ..runs.run import Run
from ..utils.files import write_text
from .outcome import apply

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
