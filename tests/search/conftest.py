"""One finished search."""

from __future__ import annotations

from pathlib import Path

import pytest
from search_settings import make_space

from dmpo_explore.search.search_run import SearchStep, run_search
from dmpo_explore.search.study import SearchFront


@pytest.fixture(scope="session")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SearchFront, list[SearchStep]]:
    """Three trials of two epochs."""
    root, steps = tmp_path_factory.mktemp("search"), list[SearchStep]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DMPO_EXPLORE_RUNS", str(root))
        front = run_search("s", make_space(), trials=3, device="cpu", seed=0, progress=steps.append)
    return root, front, steps
