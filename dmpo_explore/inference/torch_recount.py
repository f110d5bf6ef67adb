"""Recount: the FLOPs of a run's records as deployed, and the policies and the card that depend on them.

In: a run, as of an earlier version that counted FLOPs as trained. Out: its records' meta.json, policies.json and
card.md, written again; scores, labels and the history stay. No image is read and no weights are needed: FLOPs depend on
shapes alone.
"""

from __future__ import annotations

from dataclasses import replace

from ..fitting.fit import fit_again
from ..models.flops import CONVENTION, ModelFlops, config_flops
from ..policies.catalogue import write_policies
from ..records.record import ExitRecord, RecordMeta
from ..runs.run import Run
from ..runs.store import BUNDLED_RUNS
from ..utils.files import write_json
from .torch_recording import fit_policies, trained_flops


def recount_run(run: Run) -> dict[str, RecordMeta]:
    """Count the FLOPs of a run's records again, as deployed, and fit its saved policies again.

    Policies are fitted on `Run.fitting_split`; those with given thresholds stay.

    Returns:
        split → the record's facts, as they are written now.

    Raises:
        ValueError: a bundled run, which is not changed; a run without records, or a record of other exits.

    Example:
        >>> import dmpo_explore as dx
        >>> recount_run(dx.load_run("demo"))
        Traceback (most recent call last):
        ValueError: run 'demo' is bundled and stays as it is...
    """
    if run.path.parent == BUNDLED_RUNS.resolve():
        raise ValueError(f"run {run.name!r} is bundled and stays as it is; copy {run.path} to runs/ and count that")
    if not run.splits():
        raise ValueError(f"run {run.name!r} has no record; make one with `dmpo-explore record {run.quoted}`")
    flops, found = run_flops(run), {split: run.record(split).meta for split in run.splits()}
    for split, meta in found.items():
        if len(meta.flops) != len(flops.cumulative):
            raise ValueError(
                f"the {split} record of run {run.name!r} has {len(meta.flops)} exits, its model {len(flops.cumulative)}"
            )
    found = {split: recounted(meta, flops) for split, meta in found.items()}
    for split, meta in found.items():
        write_json(run.path / "records" / split / "meta.json", meta.to_dict())
    if run.fitting_split in found:
        _refit(run, run.record(run.fitting_split))
    return found


def run_flops(run: Run) -> ModelFlops:
    """FLOPs of a run's model, from its config alone.

    Example:
        >>> import dmpo_explore as dx
        >>> run = dx.load_run("demo-cnn")
        >>> run_flops(run).cumulative == run.record("test").meta.flops
        True
    """
    return config_flops(run.config.model, len(run.class_names))


def recounted(meta: RecordMeta, flops: ModelFlops) -> RecordMeta:
    """The facts of a record with these FLOPs."""
    return replace(
        meta,
        flops=flops.cumulative,
        flops_trained=trained_flops(flops),
        reference_flops=flops.reference,
        flops_convention=CONVENTION,
    )


def _refit(run: Run, record: ExitRecord) -> None:
    """Fit the saved policies again, on ``record``, and those that every run has."""
    kept = {name: fit_again(policy, record) for name, policy in run.policies(as_saved=True).items()}
    write_policies(run.path / "policies.json", kept)
    fit_policies(run, record)
