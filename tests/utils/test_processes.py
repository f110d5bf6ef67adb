"""torchrun's processes, as its environment names them: the first one alone holds a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from dmpo_explore.training.checkpoint import held_run
from dmpo_explore.utils.processes import is_main_process, n_processes


def test_the_first_process_alone_holds_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path))
    with held_run("mine"):
        monkeypatch.setenv("RANK", "1")
        monkeypatch.setenv("WORLD_SIZE", "2")
        assert not is_main_process() and n_processes() == 2
        with held_run("mine"):
            pass
