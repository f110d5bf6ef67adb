"""Names of run folders and of their files, `runs.run_files`: a whole run has no others."""

from __future__ import annotations

from pathlib import Path

import pytest

import dmpo_explore as dx
from dmpo_explore.data.manifest import MANIFESTS
from dmpo_explore.runs.run_files import RECORD_FILES, RUN_FILES, RUN_NAME

BUNDLED = Path(dx.__file__).parent / "runs" / "bundled"


@pytest.mark.parametrize("name", ["demo", "fashion"])
def test_the_files_of_a_whole_run_are_known(name: str) -> None:
    run = dx.Run(BUNDLED / name)
    found = {file.relative_to(run.path).as_posix() for file in run.path.rglob("*") if file.is_file()}
    records = {f"records/{split}/{file}" for split in run.splits() for file in RECORD_FILES}
    assert records and found - {*RUN_FILES, *MANIFESTS} <= records and RUN_NAME.fullmatch(name)
