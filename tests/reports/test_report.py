"""A report holds the library's numbers at every position of its slider, in one file that needs no other."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from calls import call, fails
from made_up import HOSTILE, save_run

import dmpo_explore as dx
from dmpo_explore.reports.report import report_html, write_report
from dmpo_explore.reports.shown_images import shown_images


def data_of(text: str) -> Any:
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    return json.loads(found)


def test_every_position_has_the_numbers_of_its_threshold() -> None:
    run = dx.load_run("demo")
    record = run.record("test")
    policy = dx.fit_policy(run.record("calibration"), flops=0.3)
    data = data_of(report_html(run, policy, images=0))
    slider = data["slider"]
    assert float(slider["thresholds"][slider["place"]]) == pytest.approx(policy.thresholds[0], abs=1e-4)
    assert len(slider["thresholds"]) == len(slider["counts"]) > 50
    outcome = dx.apply(policy, record)
    own = np.reshape(slider["counts"][slider["place"]], (record.n_exits, 2))
    assert own.sum(axis=1).tolist() == np.bincount(outcome.exits, minlength=record.n_exits).tolist()
    assert own[:, 0].sum() == outcome.correct.sum()
    assert np.allclose(data["flops"], record.flops_fraction)


def test_an_image_exits_where_the_policy_says_at_every_position() -> None:
    run = dx.load_run("demo")
    policy = dx.fit_run_policy(run, "entropy", dx.Target.flops(0.5, calibrate=True))
    record = run.record("test")
    found = shown_images(run, "test", record, 30)
    data = data_of(report_html(run, policy, images=30))
    assert len(data["images"]) == 30 and all(image["address"].startswith("data:image/") for image in data["images"])
    place = data["slider"]["place"]
    exits = policy.exits(record)[found.rows]
    assert [image["exits"][place] for image in data["images"]] == exits.tolist()
    names = np.asarray(record.meta.class_names)
    assert [image["label"] for image in data["images"]] == names[record.labels[found.rows]].tolist()
    assert [image["correct"] for image in data["images"]] == record.correct[found.rows].tolist()
    assert all(set(image["exits"]) <= set(range(6)) for image in data["images"])


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
    found = shown_images(run, "test", record, 60)
    data, outcome = data_of(report_html(run, policy, images=60)), dx.apply(policy, record)
    place = data["slider"]["place"]
    assert [image["exits"][place] for image in data["images"]] == outcome.exits[found.rows].tolist()
    assert sum(data["slider"]["counts"][place][::2]) == outcome.correct.sum()
    assert ("curve" in data["figures"]) == policy.sweeps


def test_thresholds_by_hand_are_not_called_fitted() -> None:
    run = dx.load_run("demo")
    policy = dx.fit_policy(run.record("calibration"), threshold=0.73)
    assert "policy confidence, its threshold set by hand" in report_html(run, policy, images=0)


def test_confidences_are_at_the_policys_temperatures() -> None:
    run = dx.load_run("demo")
    policy = dx.fit_run_policy(run, "confidence", dx.Target.flops(0.3, calibrate=True))
    data = data_of(report_html(run, policy, images=100))
    place, level = data["slider"]["place"], policy.thresholds[0] + 0.001
    for image in data["images"]:
        assert all(c < level for c in image["confidence"][: image["exits"][place]])


def test_a_run_with_a_test_record_alone_has_a_report(tmp_path: Path) -> None:
    save_run(tmp_path, "mine", images=60)
    shutil.rmtree(tmp_path / "mine" / "records" / "val")
    run = dx.load_run(str(tmp_path / "mine"))
    assert run.splits() == ["test"]
    page = report_html(run, dx.POLICIES["confidence"]((0.9,)), images=0)
    assert "No record to fit targets on." in page


def test_nothing_is_loaded_from_elsewhere() -> None:
    page = report_html(dx.load_run("demo"), images=3)
    own = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert "default-src 'none'" in own and not re.search(r"(?:src|href)=|url\(\"?http|@import", own)


def test_words_of_others_are_text(tmp_path: Path) -> None:
    evil = f"</script>{HOSTILE}"
    save_run(tmp_path, "mine", images=60, class_name=evil)
    page = report_html(dx.load_run(str(tmp_path / "mine")), images=60)
    assert HOSTILE not in page and evil in {image["label"] for image in data_of(page)["images"]}
    assert "Names of classes stand for the images" in page  # the class has another name than in the data


def test_no_path_of_this_machine_is_in_it(tmp_path: Path) -> None:
    save_run(tmp_path, "mine", images=60)
    for split in ("test", "val"):
        path = tmp_path / "mine" / "records" / split / "meta.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"data": str(tmp_path / "my photos")}))
    page = report_html(dx.load_run(str(tmp_path / "mine")))
    assert str(tmp_path) not in page and "on my photos," in page


def test_a_threshold_for_every_exit_and_a_single_exit_have_no_slider() -> None:
    run = dx.load_run("demo")
    policy = dx.fit_policy(run.record("calibration"), flops=0.5, per_exit=True)
    page = report_html(run, policy, images=2)
    assert len(policy.thresholds) == 5 and '<div class="slider" hidden>' in page
    counts = data_of(page)["slider"]["counts"]
    assert len(counts) == 1 and sum(counts[0][::2]) == dx.apply(policy, run.record("test")).correct.sum()
    single = report_html(dx.load_run("demo-single"), images=2)
    assert "Every image runs to the last exit." in single and '<div class="slider" hidden>' in single
    assert {"curve", "exits", "classes"}.isdisjoint(data_of(single)["figures"])


def test_wrong_arguments_are_refused(tmp_path: Path) -> None:
    run = dx.load_run("demo")
    with pytest.raises(ValueError, match="ends in .html"):
        write_report(run, tmp_path / "report.pdf")
    with pytest.raises(ValueError, match="images=-1"):
        report_html(run, images=-1)
    with pytest.raises(ValueError, match="no record of split 'train'"):
        report_html(run, split="train")
    assert not list(tmp_path.iterdir())


def test_the_command_writes_one_file_and_replaces_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said = json.loads(call("report", "demo", "--flops", "0.3", "--images", "4", "--json").stdout)
    path = tmp_path / "demo-report.html"
    assert said["path"] == path.name and said["bytes"] == path.stat().st_size and "thresholds" in said["policy"]
    before = path.stat().st_mtime_ns
    again = call("report", "demo", "--flops", "0.3", "--images", "4").stdout
    assert "kept as it is" in again and path.stat().st_mtime_ns == before
    assert "use --force" in fails("report", "demo")
    call("report", "demo", "--images", "0", "--force")
    assert path.stat().st_mtime_ns > before and [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_target_of_a_single_exit_is_full_depth_and_noted(tmp_path: Path) -> None:
    path = tmp_path / "single.html"
    done = call("report", "demo-single", "--flops", "0.3", "--images", "0", "--out", path)
    assert "has a single exit: all images exit there, whatever the target" in done.stderr
    assert "91.34 %" in path.read_text(encoding="utf-8")
