"""A page for oneself, ``private``: it has the run's images, and the numbers of its policy."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from made_up import HOSTILE, save_run
from page_files import arrays_of, data_of

import dmpo_explore as dx
from dmpo_explore.web.export import NOT_HERE
from dmpo_explore.web.publish import page_html


def test_every_position_has_the_numbers_of_its_threshold() -> None:
    run = dx.load_run("demo")
    record = run.record("test")
    policy = dx.fit_policy(run.record("calibration"), flops=0.3)
    data = data_of(page_html(run, policy, pictures=False))
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
    data, outcome = data_of(page_html(run, policy, private=True, tiles=60)), dx.apply(policy, record)
    place, rows = data["slider"]["place"], data["tiles"]["rows"]
    exits = arrays_of(data)["exits"].reshape(-1, 60)
    assert len(rows) == 60 and exits[place].tolist() == outcome.exits[rows].tolist()
    assert sum(data["slider"]["counts"][place][::2]) == outcome.correct.sum()
    assert all(file["picture"]["data"] for file in data["running"])


def test_thresholds_by_hand_are_not_called_fitted() -> None:
    run = dx.load_run("demo")
    policy = dx.fit_policy(run.record("calibration"), threshold=0.73)
    assert "policy confidence, its threshold set by hand" in page_html(run, policy, pictures=False)


def test_scores_are_at_the_policys_temperatures() -> None:
    run = dx.load_run("demo")
    policy = dx.fit_run_policy(run, "confidence", dx.Target.flops(0.3, calibrate=True))
    data = data_of(page_html(run, policy, private=True, tiles=100))
    found, outcome = arrays_of(data), dx.apply(policy, run.record("test"))
    scores = found["scores"].reshape(100, -1)
    assert (scores == outcome.record.confidence[data["tiles"]["rows"]]).all()


def test_a_run_with_a_test_record_alone_has_a_page(tmp_path: Path) -> None:
    save_run(tmp_path, "mine", images=60)
    shutil.rmtree(tmp_path / "mine" / "records" / "val")
    run = dx.load_run(str(tmp_path / "mine"))
    assert run.splits() == ["test"]
    data = data_of(page_html(run, dx.POLICIES["confidence"]((0.9,)), pictures=False))
    assert "targets" not in data["story"] and "training" not in data["story"]


def test_words_of_others_are_text(tmp_path: Path) -> None:
    evil = f"</script>{HOSTILE}"
    save_run(tmp_path, "mine", images=60, class_name=evil)
    page = page_html(dx.load_run(str(tmp_path / "mine")), private=True, tiles=60)
    assert HOSTILE not in page and evil in data_of(page)["class_names"]
    assert NOT_HERE in page  # the class has another name than in the data


def test_no_path_of_this_machine_is_in_it(tmp_path: Path) -> None:
    save_run(tmp_path, "mine", images=60)
    for split in ("test", "val"):
        path = tmp_path / "mine" / "records" / split / "meta.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"data": str(tmp_path / "my photos")}))
    page = page_html(dx.load_run(str(tmp_path / "mine")), private=True)
    assert str(tmp_path) not in page and "on my photos," in page


def test_a_threshold_for_every_exit_and_a_single_exit_have_one_position() -> None:
    run = dx.load_run("demo")
    policy = dx.fit_policy(run.record("calibration"), flops=0.5, per_exit=True)
    data = data_of(page_html(run, policy, private=True, tiles=2))
    assert len(data["policy"]["thresholds"]) == 5 and len(data["slider"]["counts"]) == 1
    single = data_of(page_html(dx.load_run("demo-single"), private=True, tiles=2))
    assert single["running"] == [] and len(single["slider"]["counts"]) == 1


def test_a_split_without_a_record_is_refused() -> None:
    with pytest.raises(ValueError, match="no record of split 'train'"):
        page_html(dx.load_run("demo"), split="train")
