"""Cascades: models that run one after another are exits of one record.

In: records of the same images by different models, the cheapest first. Out: one `ExitRecord`, whose exits are theirs in
turn. A model starts where the one before it was not believed, so that all that ran is counted.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .record import ExitRecord
from .scores import STORED


def cascade(*records: ExitRecord) -> ExitRecord:
    """The record of models that answer in turn; policies, certificates, tables and figures read it as any other.

    Args:
        records: of the same images in the same order and with the same classes, one per model, the first one to run
            first. A record of several exits brings all of them.

    Returns:
        Exits in order; ``flops`` of everything that has run before and then; blocks numbered on; the last model is
        100 % of the compute.

    Raises:
        ValueError: fewer than two records, other images or classes.

    Example:
        >>> import dmpo_explore as dx
        >>> small, large = (dx.load_run(name).record("test") for name in ("demo-cnn", "demo-single"))
        >>> both = cascade(small, large)
        >>> both.n_exits, both.meta.exit_blocks, both.flops_fraction.round(2).tolist()
        (6, (3, 5, 8, 11, 16, 28), [0.01, 0.02, 0.02, 0.04, 0.06, 1.06])
    """
    if len(records) < 2:
        raise ValueError(f"a cascade has at least 2 models, not {len(records)}")
    first = records[0]
    for record in records[1:]:
        if record.meta.class_names != first.meta.class_names:
            raise ValueError(f"{record.described} has other classes than that of {first.meta.model}, or another order")
        if not may_be_same_images(first, record):
            raise ValueError(f"{record.described} is of other images than that of {first.meta.model}")
    blocks, flops = list[int](), list[float]()
    for record in records:
        last, spent = (blocks[-1], flops[-1]) if blocks else (0, 0.0)
        blocks += [last + block for block in record.meta.exit_blocks]
        flops += [spent + cost for cost in record.meta.flops]
    meta = replace(
        first.meta, exit_blocks=tuple(blocks), flops=tuple(flops), reference_flops=records[-1].meta.reference_flops,
        flops_trained=(), model=", then ".join(record.meta.model for record in records), image_size=None,
        weights_sha256="",
    )  # fmt: skip
    more = set.intersection(*({*record.more} for record in records))
    arrays = {name: np.concatenate([record.score(name) for record in records], axis=1) for name in (*STORED, *more)}
    logits = [record.logits for record in records if record.logits is not None]
    if len(logits) == len(records):
        arrays["logits"] = np.concatenate(logits, axis=1)
    found = ExitRecord.of_arrays({"labels": first.labels, **arrays}, meta)
    if not any(record.temperatures for record in records):
        return found
    heats = [record.temperatures or (1.0,) * record.n_exits for record in records]
    return replace(found, temperatures=tuple(heat for some in heats for heat in some))


def may_be_same_images(one: ExitRecord, other: ExitRecord) -> bool:
    """Whether two records are of the same images in the same order, as far as they tell; data may have two names."""
    if one is other:
        return True
    prints = {record.meta.images_sha256 for record in (one, other)} - {""}
    rows = [record.meta.indices for record in (one, other) if record.meta.indices is not None]
    same = len(prints) < 2 and (one.labels is other.labels or np.array_equal(one.labels, other.labels))
    return same and (len(rows) < 2 or np.array_equal(rows[0], rows[1]))
