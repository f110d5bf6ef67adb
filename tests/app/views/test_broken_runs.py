"""Edited and broken runs on the pages: a message that names the file, and the other runs stay in reach."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from background import SLEEPS, become, wait
from made_up import MAIN, save_run
from run_folders import BROKEN, Broken, whole_run
from tiny import tiny_config
from visiting import checked, opened

from dmpo_explore import jobs
from dmpo_explore.utils.files import read_json, write_json, write_text

PAGES = {
    "explore.py": (
        "config deeply nested", "flops 10^400", "half a pair in a class name", "labels of 800 GB, sparse",
        "a header nested too deeply", "folder records/test/meta.json",
    ),
    "training.py": ("history with words", "history of 10^6 columns", "endless history.csv"),
}  # fmt: skip
WAYS = {broken.name: broken for broken in BROKEN}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A runs root with a whole run to break, and another."""
    whole_run(tmp_path / "broken")
    save_run(tmp_path, "other", images=40)
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path))
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("view", "broken"),
    [(view, WAYS[name]) for view, names in PAGES.items() for name in names],
)
def test_a_message_names_the_file(root: Path, view: str, broken: Broken) -> None:
    broken.change(root / "broken")
    app = opened(MAIN.parent / "views" / view, run="broken")
    (said,) = [element.value.replace("\\", "") for element in app.error]
    assert broken.file is not None and broken.file in said and len(said) < 1000
    assert {"broken", "other"} <= set(app.selectbox(key="run").options)
    checked(app.selectbox(key="run").set_value("other").run())
    assert view == "training.py" or (not app.error and len(app.metric) == 2)


def test_one_image_needs_no_val_where_thresholds_are_fitted_elsewhere(root: Path) -> None:
    records = root / "other" / "records"
    shutil.copytree(records / "val", records / "calibration")
    meta = read_json(records / "val" / "meta.json")
    write_json(records / "calibration" / "meta.json", meta | {"split": "calibration"})
    write_text(records / "val" / "meta.json", "{")
    app = opened(MAIN.parent / "views" / "image.py", run="other")
    assert not app.error and [header.value for header in app.header][-1] == "Images with similar answers"


def test_a_run_at_work_says_what_it_does(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    become(SLEEPS, monkeypatch, tmp_path)
    monkeypatch.setattr(jobs, "check_ready", lambda config: None)
    jobs.start(tiny_config(), "mine")
    try:
        write_text(root / "mine" / "config.json", tiny_config().to_json())
        app = opened(MAIN, run="mine")
        assert ["at work in the background" in text.value for text in app.warning] == [True]
        jobs.stop("mine", grace=0.5)
        wait(lambda: not jobs.job_status(jobs.load_job("mine")).active)
        assert ["`dmpo-explore record mine` makes it" in text.value for text in checked(app.run()).warning] == [True]
    finally:
        jobs.stop("mine", grace=0.5)
