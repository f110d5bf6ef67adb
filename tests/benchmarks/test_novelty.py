"""The generated images are reproducible, and the table has a row for every kind and detector."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import novelty


def test_generated_images_are_reproducible() -> None:
    for kind in novelty.KINDS.values():
        once, again = (kind(np.random.default_rng(3)) for _ in range(2))
        assert once.dtype == np.uint8 and once.ndim == 3 and once.shape[2] == 3
        assert np.array_equal(once, again)


def test_the_page_shows_the_committed_table() -> None:
    table, page = pd.read_csv(novelty.TABLE), novelty.PAGE.read_text(encoding="utf-8")
    assert "\n".join(novelty.lines_of(table)) in page
    flagged = table.set_index(["by", "kind", "run"])["flagged"].sort_index()
    assert all(flagged["logits", kind].eq(1).all() for kind in ("noise", "digits"))  # as the text below says
    assert flagged["scores", "noise", "demo"] == 0 and flagged["scores", "noise", "fashion"] == 0.015


@pytest.mark.slow
def test_a_table_of_the_bundled_run(fetched_backbone: Path) -> None:
    rows = list(novelty.measure("demo", 6))
    kinds = {str(row["kind"]) for row in rows}
    assert {row["by"] for row in rows} == {"logits", "scores"} and len(rows) == 2 * len(kinds) == 2 * 7
    assert all(0 <= float(str(row["flagged"])) <= 1 for row in rows)
    noise = next(row for row in rows if (row["kind"], row["by"]) == ("noise", "logits"))
    assert float(str(noise["flagged"])) > 0.5
