"""Trainings in the background: real ones, killed and resumed; their processes and files; names that start nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from background import BREAKS, CONFIG, DEAF, SPEAKS, become, job_end, state, wait

import dmpo_explore.jobs.jobs as starting
from dmpo_explore import jobs
from dmpo_explore.config import Config, DataConfig
from dmpo_explore.jobs.jobs import NOT_KNOWN, PROCESS_GONE, child_environment, process_of
from dmpo_explore.runs import WEIGHTS, list_runs, load_run, read_weights

pytestmark = pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")


# -- the real thing --


@pytest.mark.slow
def test_a_training_is_followed_recorded_and_forgotten(root: Path) -> None:
    """One that is killed and goes on: test_kill_points.py."""
    job = jobs.start(CONFIG, "mine")
    assert jobs.load_job("mine") == job and job.config == CONFIG and jobs.job_status(job).active
    with pytest.raises(FileExistsError, match="'mine' is being trained; wait for it, stop it"):
        jobs.start(CONFIG, "other")
    with pytest.raises(FileExistsError, match="stop it first"):
        jobs.forget("mine")
    wait(lambda: jobs.job_status(job).epoch >= 2 and "epoch 2/12" in job.log())  # the log follows the history
    seen = jobs.job_status(job)
    assert seen.progress and seen.progress.what == "training" and seen.progress.epochs == 12
    assert seen.memory > 50 << 20 and seen.progress.loss is not None
    end = job_end()
    assert end.state == jobs.FINISHED and end.epoch == end.epochs == 12 and end.recorded == ("val", "test"), job.log()
    assert not end.reason and not end.resumable
    assert load_run("mine").record("test").n_images == 359 and read_weights(root / "mine")
    with pytest.raises(ValueError, match="is finished; there is nothing to resume"):
        jobs.resume("mine")
    (root / "mine" / WEIGHTS).touch()
    assert job_end().recorded == ("val", "test")  # of these very weights
    content = bytearray((root / "mine" / WEIGHTS).read_bytes())
    content[-1] ^= 1  # as a training does that goes on without recording
    (root / "mine" / WEIGHTS).write_bytes(content)
    os.utime(root / "mine" / WEIGHTS, (0, 0))  # a clock that was set back
    assert job_end().recorded == () and job_end().resumable
    assert {"record", "--force"} <= {*jobs.resume("mine").arguments}
    assert job_end().recorded == ("val", "test"), jobs.load_job("mine").log()
    jobs.forget("mine")
    assert not jobs.list_jobs() and "mine" in list_runs()


@pytest.mark.slow
def test_measuring_is_real_and_what_is_missing_names_the_way_out(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates = jobs.measure(CONFIG)
    assert len(rates.steps) == 4 and rates.train == 1295 and rates.memory > 50 << 20 and rates.start > 0.2
    assert not list(root.glob("*"))
    monkeypatch.setenv("DMPO_EXPLORE_CACHE", str(root / "cache"))
    absent = Config(DataConfig("cifar10"), CONFIG.model, CONFIG.training)
    with pytest.raises(FileNotFoundError, match="dmpo-explore fetch --data cifar10"):
        jobs.check_ready(absent)


# -- names and arguments --


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../x", "a/b", "/abs", "-x", "--force", "-", "a b", "a\nb", "$(touch x)", ";ls", "x" * 101, ".jobs",
     "\0", "a\\b", "ü", "demo", "demo-cnn"],
)  # fmt: skip
def test_a_bad_name_starts_nothing(root: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **o: pytest.fail("something was started"))
    with pytest.raises(ValueError, match="choose another name|must be 1 to 100"):
        jobs.start(CONFIG, name)
    assert not root.exists()
    if not name.startswith("demo"):
        for ask in (jobs.load_job, jobs.stop, jobs.forget, jobs.resume):
            with pytest.raises(ValueError, match="there is no job"):
                ask(name)


def test_nothing_typed_becomes_an_option(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    become(SPEAKS, monkeypatch, tmp_path)
    hostile = Config(DataConfig("--force; touch hacked", root="$(touch hacked)"))
    job = jobs.start(hostile, "mine")
    assert job_end().reason == "no luck today"
    _, command, progress, config, name, record = json.loads((tmp_path / "argv.json").read_text())
    folder = root / ".jobs" / "mine"
    assert (command, name, record) == ("train", "--name=mine", "--record")
    assert config == f"--config={folder / 'config.json'}" and progress.startswith(f"--progress={folder / 'progress-'}")
    assert job.config == hostile and not (tmp_path / "hacked").exists()
    assert os.getpgid(os.getpid()) != job.pid and sorted(os.listdir(root)) == [".jobs"]


def test_a_run_of_that_name_is_not_touched(root: Path, tmp_path: Path, sleeping: None) -> None:
    (root / "mine").mkdir(parents=True)
    (root / "mine" / "config.json").write_text(CONFIG.to_json())
    with pytest.raises(FileExistsError, match="'mine' exists"):
        jobs.start(CONFIG, "mine")
    (tmp_path / "elsewhere").mkdir()
    (root / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError, match="not a folder"):
        jobs.start(CONFIG, "link")
    assert not jobs.list_jobs()


# -- processes: one at a time, ended when asked, never mistaken for another --


def test_a_recycled_number_is_neither_believed_nor_ended(root: Path, sleeping: None) -> None:
    job = jobs.start(CONFIG, "mine")
    jobs.stop("mine")
    stranger = subprocess.Popen([sys.executable, *job.arguments[:-1], "--progress=another"])  # nearly its command line
    try:
        path = root / ".jobs" / "mine" / "job.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"pid": stranger.pid, "stop_asked": False}))
        assert state("mine") == jobs.FAILED
        jobs.stop("mine", grace=0.1)
        assert stranger.poll() is None and not jobs.load_job("mine").stop_asked
        assert jobs.start(CONFIG, "other").pid != stranger.pid  # it does not count as running
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_one_at_a_time_unless_asked(root: Path, sleeping: None) -> None:
    outcomes: list[object] = []

    def try_it(name: str) -> None:
        try:
            outcomes.append(jobs.start(CONFIG, name))
        except FileExistsError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=try_it, args=(name,)) for name in ("a", "b", "c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (first,) = [outcome for outcome in outcomes if isinstance(outcome, jobs.Job)]
    with pytest.raises(FileExistsError, match="is already running"):
        jobs.start(CONFIG, first.name, beside=True)
    second = jobs.start(CONFIG, "second", beside=True)
    assert [job.name for job in jobs.list_jobs()] == ["second", first.name]
    assert jobs.job_status(first).active and jobs.job_status(second).active
    jobs.stop(second.name)
    assert jobs.job_status(first).active and state("second") == jobs.STOPPED


def test_who_does_not_hear_ctrl_c_is_ended(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    become(DEAF, monkeypatch, tmp_path)
    job = jobs.start(CONFIG, "mine")
    wait((tmp_path / "deaf").exists)
    start = time.monotonic()
    jobs.stop("mine", grace=0.3)
    assert 0.3 <= time.monotonic() - start < 10 and state("mine") == jobs.STOPPED
    wait(lambda: not psutil.pid_exists(job.pid))  # nor does it stay a zombie
    jobs.stop("mine")  # twice does no harm


@pytest.mark.slow
def test_a_job_outlives_who_started_it(root: Path, sleeping: None) -> None:
    code = (
        "from dmpo_explore.config import Config; from dmpo_explore.jobs import jobs\n"
        f"jobs.MODULE = {starting.MODULE!r}\n"
        "jobs.start(Config(), 'mine')"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ, timeout=60)
    job = jobs.load_job("mine")
    assert jobs.job_status(job).active and os.getsid(job.pid) == job.pid != os.getsid(0)
    assert psutil.Process(job.pid).nice() == min(19, os.nice(0) + 10)
    jobs.stop("mine")
    assert state("mine") == jobs.STOPPED


def test_a_job_sees_the_runs_root_of_who_starts_it(root: Path) -> None:
    environment = child_environment()
    assert environment["DMPO_EXPLORE_RUNS"] == str(root.resolve()) and environment["PYTHONUNBUFFERED"] == "1"
    assert environment["OMP_NUM_THREADS"] == os.environ["OMP_NUM_THREADS"]


def test_only_its_own_command_is_a_jobs_process_also_where_its_starter_died_first(root: Path, sleeping: None) -> None:
    job = jobs.start(CONFIG, "mine")
    path = job.folder / "job.json"
    unknown = replace(job, pid=NOT_KNOWN)
    for known in (job, unknown):
        found = process_of(known)
        assert found is not None and found.pid == job.pid
    assert process_of(replace(job, pid=os.getpid())) is None
    path.write_text(json.dumps(json.loads(path.read_text()) | {"pid": NOT_KNOWN}))
    with pytest.raises(FileExistsError, match="'mine' is already running"):
        jobs.start(CONFIG, "mine")
    jobs.stop("mine", grace=0.5)
    assert process_of(job) is None and state("mine") == jobs.STOPPED


def test_a_process_that_cannot_be_started_leaves_a_job_that_says_why(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(root / "no-python"))
    monkeypatch.setattr("dmpo_explore.jobs.jobs.KIND", [])
    with pytest.raises(FileNotFoundError):
        jobs.start(CONFIG, "mine")
    status = jobs.job_status(jobs.load_job("mine"))
    assert status.state == jobs.FAILED and "no-python" in status.reason


# -- files: why a job failed, what was removed or broken, names and numbers that pretend --


def test_why_a_job_failed_is_its_own_last_word(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    become(BREAKS, monkeypatch, tmp_path)
    jobs.start(CONFIG, "mine")
    assert job_end().reason == "KeyError: 'what'"
    become("", monkeypatch, tmp_path)
    job = jobs.resume("mine")
    assert job_end().reason == PROCESS_GONE and job.log().count("dmpo-explore train") == 2
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
    jobs.start(CONFIG, "mine")
    assert job_end().state == jobs.DELETED and not job_end().resumable


def test_broken_jobs_are_left_out(root: Path, sleeping: None) -> None:
    jobs.start(CONFIG, "good")
    texts = ["", "[]", "{}", '{"pid": 1, "arguments": []}', '{"pid": "x"}', "null", "\x00"]
    for number, text in enumerate(texts):
        (root / ".jobs" / f"bad-{number}").mkdir()
        (root / ".jobs" / f"bad-{number}" / "job.json").write_text(text)
        with pytest.raises(ValueError, match="job"):
            jobs.load_job(f"bad-{number}")
    assert [job.name for job in jobs.list_jobs()] == ["good"]


@pytest.mark.slow
def test_a_job_cannot_name_another_process_or_file(root: Path, sleeping: None) -> None:
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
