"""Trainings in the background: real processes, stopped, killed, resumed; names and numbers that pretend."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from tiny import tiny_config
from typer.testing import CliRunner

from dmpo_explore import jobs
from dmpo_explore.cli import root as root_module
from dmpo_explore.config import Config, DataConfig
from dmpo_explore.inference.torch_recording import record_run
from dmpo_explore.jobs import job as job_module
from dmpo_explore.jobs import jobs as jobs_module
from dmpo_explore.jobs.progress import read_progress
from dmpo_explore.jobs.status import PROCESS_GONE
from dmpo_explore.runs.store import list_runs, load_run
from dmpo_explore.runs.torch_weights import read_weights
from dmpo_explore.runs.weights_file import WEIGHTS

pytestmark = pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")
CONFIG = tiny_config(epochs=12)
# Commands in place of the real one where only the process matters.
SLEEPS = "import time; time.sleep(60)"
DEAF = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); open('deaf', 'w'); time.sleep(60)"
SPEAKS = "import json, sys; json.dump(sys.argv, open('argv.json', 'w')); sys.exit('error: no luck today')"
BREAKS = "raise KeyError('what')"


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty runs root and current folder; what still runs afterwards is ended."""
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    yield tmp_path / "runs"
    for job in jobs.list_jobs():
        jobs.stop(job.name, grace=0.5)


def become(code: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let jobs be ``code`` instead of the command line."""
    script = tmp_path / "script.py"
    script.write_text(code)
    for module in (job_module, jobs_module):
        monkeypatch.setattr(module, "MODULE", ["-u", str(script)])


def wait(condition: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, [(job.name, jobs.job_status(job), job.log()) for job in jobs.list_jobs()]
        time.sleep(0.05)


def state(name: str) -> str:
    return jobs.job_status(jobs.load_job(name)).state


# -- the real thing --


@pytest.mark.slow
def test_a_training_is_killed_goes_on_and_is_recorded(root: Path) -> None:
    job = jobs.start(CONFIG, "mine")
    assert jobs.load_job("mine") == job and job.config == CONFIG and jobs.job_status(job).active
    with pytest.raises(FileExistsError, match="'mine' is being trained; wait for it, stop it"):
        jobs.start(CONFIG, "other")
    with pytest.raises(FileExistsError, match="stop it first"):
        jobs.forget("mine")
    wait(lambda: jobs.job_status(job).epoch >= 2)
    seen = jobs.job_status(job)
    assert seen.progress and seen.progress.what == "training" and seen.progress.epochs == 12
    assert seen.memory > 50 << 20 and seen.progress.loss is not None and "epoch 2/12" in job.log()
    os.kill(job.pid, signal.SIGKILL)
    wait(lambda: not jobs.job_status(job).active)
    killed = jobs.job_status(job)
    assert (killed.state, killed.reason) == (jobs.FAILED, PROCESS_GONE) and killed.resumable and killed.epoch >= 2
    record_run(load_run("mine"), "val", device="cpu")  # of weights that are going to change
    assert jobs.job_status(job).recorded == ("val",)
    again = jobs.resume("mine")
    assert "--resume=mine" in again.arguments
    wait(lambda: not jobs.job_status(again).active)
    end = jobs.job_status(again)
    assert end.state == jobs.FINISHED and end.epoch == end.epochs == 12 and end.recorded == ("val", "test"), again.log()
    assert "mine" in list_runs() and load_run("mine").history()["epoch"].tolist() == list(range(1, 13))
    assert load_run("mine").record("test").n_images == 359 and read_weights(root / "mine")
    recorded = np.array(load_run("mine").record("val").confidence)
    assert np.allclose(recorded, record_run(load_run("mine"), "val", device="cpu", force=True).confidence, atol=1e-4)
    assert not end.reason and not end.resumable
    with pytest.raises(ValueError, match="is finished; there is nothing to go on with"):
        jobs.resume("mine")
    (root / "mine" / WEIGHTS).touch()  # as a training does that goes on without recording
    assert jobs.job_status(again).recorded == () and jobs.job_status(again).state != jobs.FINISHED
    anew = jobs.resume("mine")
    wait(lambda: not jobs.job_status(anew).active)
    assert jobs.job_status(anew).state == jobs.FINISHED, anew.log()
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


def test_train_records_and_says_how_far_it_is(root: Path, tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(tiny_config(epochs=1).to_json())
    options = ["--config", "c.json", "--name", "new", "--record", "--progress", "p.json", "--device", "cpu", "--json"]
    done = CliRunner().invoke(root_module.app, ["train", *options])
    assert done.exit_code == 0, done.output
    assert [row["split"] for row in json.loads(done.stdout)["records"]] == ["val", "test"]
    assert load_run("new").splits() == ["test", "val"]
    found = read_progress(tmp_path / "p.json")
    assert found and found.what == "done"


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
    wait(lambda: not jobs.job_status(job).active)
    _, command, progress, config, name, record = json.loads((tmp_path / "argv.json").read_text())
    folder = root / ".jobs" / "mine"
    assert (command, name, record) == ("train", "--name=mine", "--record")
    assert config == f"--config={folder / 'config.json'}" and progress.startswith(f"--progress={folder / 'progress-'}")
    assert job.config == hostile and not (tmp_path / "hacked").exists()
    assert jobs.job_status(job).reason == "no luck today"
    assert os.getpgid(os.getpid()) != job.pid and sorted(os.listdir(root)) == [".jobs"]


def test_a_run_of_that_name_is_not_touched(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    become(SLEEPS, monkeypatch, tmp_path)
    (root / "mine").mkdir(parents=True)
    (root / "mine" / "config.json").write_text(CONFIG.to_json())
    with pytest.raises(FileExistsError, match="'mine' exists"):
        jobs.start(CONFIG, "mine")
    (tmp_path / "elsewhere").mkdir()
    (root / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError, match="not a folder"):
        jobs.start(CONFIG, "link")
    assert not jobs.list_jobs()


# -- processes --


def test_a_recycled_number_is_neither_believed_nor_ended(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    become(SLEEPS, monkeypatch, tmp_path)
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


def test_one_at_a_time_unless_asked(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    become(SLEEPS, monkeypatch, tmp_path)
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
    with pytest.raises(FileExistsError, match="runs already"):
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


def test_a_job_outlives_who_started_it(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    become(SLEEPS, monkeypatch, tmp_path)
    code = (
        "from dmpo_explore.config import Config; from dmpo_explore.jobs import job, jobs\n"
        f"job.MODULE = jobs.MODULE = {job_module.MODULE!r}\n"
        "jobs.start(Config(), 'mine')"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ, timeout=60)
    job = jobs.load_job("mine")
    assert jobs.job_status(job).active and os.getsid(job.pid) == job.pid != os.getsid(0)
    assert psutil.Process(job.pid).nice() >= 10
    jobs.stop("mine")
    assert state("mine") == jobs.STOPPED


# -- files --


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
        "import sys\nfrom pathlib import Path\nfrom dmpo_explore.jobs.progress import ProgressFile\n"
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
        {"pid": "x"}, {"pid": -1}, {"pid": 0}, {"pid": True}, {"began": "x"}, {"log_from": None},
    ]  # fmt: skip
    for change in changes:
        path.write_text(json.dumps(good | change))
        with pytest.raises(ValueError, match="does not describe a job"):
            jobs.stop("mine")
