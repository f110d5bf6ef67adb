"""The files of jobs: why one failed, what was removed or broken, names and numbers that pretend."""

from __future__ import annotations

import json
import os
from pathlib import Path

import psutil
import pytest
from background import BREAKS, CONFIG, SLEEPS, become, state, wait

from dmpo_explore import jobs
from dmpo_explore.jobs.jobs import PROCESS_GONE

pytestmark = pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")


def test_why_a_job_failed_is_its_own_last_word(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    become(BREAKS, monkeypatch, tmp_path)
    job = jobs.start(CONFIG, "mine")
    wait(lambda: not jobs.job_status(job).active)
    assert jobs.job_status(job).reason == "KeyError: 'what'"
    become("", monkeypatch, tmp_path)
    job = jobs.resume("mine")
    wait(lambda: not jobs.job_status(job).active)
    assert jobs.job_status(job).reason == PROCESS_GONE and job.log().count("dmpo-explore train") == 2
    assert len(job.log(most=10)) == 10
    with pytest.raises(ValueError, match="without an error message"):
        jobs.measure(CONFIG)


def test_a_run_that_was_removed_is_said(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    become(
        "import sys\nfrom pathlib import Path\nfrom dmpo_explore.jobs.progress_file import ProgressFile\n"
        "ProgressFile(Path(sys.argv[2].removeprefix('--progress='))).end()",
        monkeypatch,
        tmp_path,
    )
    job = jobs.start(CONFIG, "mine")
    wait(lambda: not jobs.job_status(job).active)
    assert state("mine") == jobs.DELETED and not jobs.job_status(job).resumable


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"pid": 1, "arguments": []}', '{"pid": "x"}', "null", "\x00"]
)  # fmt: skip
def test_a_broken_job_is_left_out(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    become(SLEEPS, monkeypatch, tmp_path)
    jobs.start(CONFIG, "good")
    (root / ".jobs" / "bad").mkdir()
    (root / ".jobs" / "bad" / "job.json").write_text(text)
    assert [job.name for job in jobs.list_jobs()] == ["good"]
    with pytest.raises(ValueError, match="job"):
        jobs.load_job("bad")


def test_a_job_cannot_name_another_process_or_file(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    become(SLEEPS, monkeypatch, tmp_path)
    jobs.start(CONFIG, "mine")
    jobs.stop("mine")
    path = root / ".jobs" / "mine" / "job.json"
    good = json.loads(path.read_text())
    ours = psutil.Process().cmdline()[1:]
    changes: list[dict[str, object]] = [
        {"arguments": ours, "pid": os.getpid()}, {"arguments": []}, {"progress": "../../../x.json"}, {"progress": 5},
        {"pid": "x"}, {"pid": -1}, {"pid": True}, {"began": "x"}, {"log_from": None},
    ]  # fmt: skip
    for change in changes:
        path.write_text(json.dumps(good | change))
        with pytest.raises(ValueError, match="does not describe a job"):
            jobs.stop("mine")
