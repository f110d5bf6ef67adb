"""One whole training per file that asks for it."""

from __future__ import annotations

import pytest
from tiny_training import CONFIG

from dmpo_explore import EpochResult, Run, train_epochs


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, list[EpochResult]]:
    """Three epochs without a stop."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path_factory.mktemp("straight")))
        results = list(train_epochs(CONFIG, "straight", device="cpu"))
    return results[-1].run, results
