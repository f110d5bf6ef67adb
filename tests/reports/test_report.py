"""A report is the page without the model, with the run's images, in one file that needs no other."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from calls import call, fails
from made_up import HOSTILE, save_run
from single_page import arrays_of, data_of

import dmpo_explore as dx
from dmpo_explore.reports.report import report_html, write_report
from dmpo_explore.web.export import NOT_HERE


def test_every_position_has_the_numbers_of_its_threshold() -> None:
    run = dx.load_run("demo")
    record = run.record("test")
    policy = dx.fit_policy(run.record("calibration"), flops=0.3)
    data = data_of(report_html(run, policy, images=0))
    slider = data["slider"]
    assert slider["thresholds"][slider["place"]] == pytest.approx(policy.thresholds[0], abs=1e-4)
    assert slider["counts"] == dx.analysis.slider_counts(record, policy).sliders[0].counts.tolist()
    assert [f / data["reference_flops"] for f in data["flops"]] == pytest.approx(record.flops_fraction.tolist())
    assert "pictures" not in data


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("confidence", {"flops": 0.3, "per_exit": True}),
        ("random", {"threshold": 0.3}),
        ("budgeted", {"shares": (0.5, 0.1, 0.1, 0.1, 0.1, 0.1)}),
    ],
)
def test_images_and_counts_are_the_policys_own(name: str, how: dict[str, Any]) -> None:
    run = dx.load_run("demo")
    record, policy = run.record("test"), dx.fit_policy(run.record("calibration"), name, **how)
    data, outcome = data_of(report_html(run, policy, images=60)), dx.apply(policy, record)
    place, rows = data["slider"]["place"], data["tiles"]["rows"]
    exits = arrays_of(data)["exits"].reshape(-1, 60)
    assert len(rows) == 60 and exits[place].tolist() == outcome.exits[rows].tolist()
    assert sum(data["slider"]["counts"][place][::2]) == outcome.correct.sum()
    assert all(file["picture"]["data"] for file in data["running"])


def test_thresholds_by_hand_are_not_called_fitted() -> None:
    run = dx.load_run("demo")
    policy = dx.fit_policy(run.record("calibration"), threshold=0.73)
    assert "policy confidence, its threshold set by hand" in report_html(run, policy, images=0)


def test_scores_are_at_the_policys_temperatures() -> None:
    run = dx.load_run("demo")
    policy = dx.fit_run_policy(run, "confidence", dx.Target.flops(0.3, calibrate=True))
    data = data_of(report_html(run, policy, images=100))
    found, outcome = arrays_of(data), dx.apply(policy, run.record("test"))
    scores = found["scores"].reshape(100, -1)
    assert (scores == outcome.record.confidence[data["tiles"]["rows"]]).all()


def test_a_run_with_a_test_record_alone_has_a_report(tmp_path: Path) -> None:
    save_run(tmp_path, "mine", images=60)
    shutil.rmtree(tmp_path / "mine" / "records" / "val")
    run = dx.load_run(str(tmp_path / "mine"))
    assert run.splits() == ["test"]
    data = data_of(report_html(run, dx.POLICIES["confidence"]((0.9,)), images=0))
    assert "targets" not in data["story"] and "training" not in data["story"]


def test_words_of_others_are_text(tmp_path: Path) -> None:
    evil = f"</script>{HOSTILE}"
    save_run(tmp_path, "mine", images=60, class_name=evil)
    page = report_html(dx.load_run(str(tmp_path / "mine")), images=60)
    assert HOSTILE not in page and evil in data_of(page)["class_names"]
    assert NOT_HERE in page  # the class has another name than in the data


def test_no_path_of_this_machine_is_in_it(tmp_path: Path) -> None:
    save_run(tmp_path, "mine", images=60)
    for split in ("test", "val"):
        path = tmp_path / "mine" / "records" / split / "meta.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"data": str(tmp_path / "my photos")}))
    page = report_html(dx.load_run(str(tmp_path / "mine")))
    assert str(tmp_path) not in page and "on my photos," in page


def test_a_threshold_for_every_exit_and_a_single_exit_have_one_position() -> None:
    run = dx.load_run("demo")
    policy = dx.fit_policy(run.record("calibration"), flops=0.5, per_exit=True)
    data = data_of(report_html(run, policy, images=2))
    assert len(data["policy"]["thresholds"]) == 5 and len(data["slider"]["counts"]) == 1
    single = data_of(report_html(dx.load_run("demo-single"), images=2))
    assert single["running"] == [] and len(single["slider"]["counts"]) == 1


def test_wrong_arguments_are_refused(tmp_path: Path) -> None:
    run = dx.load_run("demo")
    with pytest.raises(ValueError, match="ends in .html"):
        write_report(run, tmp_path / "report.pdf")
    with pytest.raises(ValueError, match="images=-1"):
        report_html(run, images=-1)
    with pytest.raises(ValueError, match="no record of split 'train'"):
        report_html(run, split="train")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_command_writes_one_file_and_replaces_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = call("report", "demo", "--flops", "0.3", "--images", "4", "--json")
    said, path = json.loads(done.stdout), tmp_path / "demo-report.html"
    assert "`report` is `dmpo-explore publish` now" in done.stderr
    assert said["path"] == path.name and said["bytes"] == path.stat().st_size and "thresholds" in said["policy"]
    before = path.stat().st_mtime_ns
    again = call("report", "demo", "--flops", "0.3", "--images", "4").stdout
    assert "kept as it is" in again and path.stat().st_mtime_ns == before
    assert "use --force" in fails("report", "demo")
    call("report", "demo", "--images", "0", "--force")
    assert path.stat().st_mtime_ns > before and [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_target_of_a_single_exit_is_full_depth_and_noted(tmp_path: Path) -> None:
    path = tmp_path / "single.html"
    done = call("report", "fashion-single", "--flops", "0.3", "--images", "0", "--out", path)
    assert "has a single exit: all images exit there, whatever the target" in done.stderr
    assert "91.34 %" in path.read_text(encoding="utf-8")
