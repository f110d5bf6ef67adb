"""`publish`: one HTML file, for all or for oneself, or a folder with the model; nothing half, nothing private."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from made_up import HOSTILE, change_meta, save_run
from page_files import arrays_of, data_of

import dmpo_explore as dx
from dmpo_explore.runs.run import Run
from dmpo_explore.web.export import NOT_HERE, NOT_PUBLISHED
from dmpo_explore.web.facts import story_numbers
from dmpo_explore.web.publish import page_html, publish
from dmpo_explore.web.single import PAGE, joined_modules


@pytest.mark.slow
def test_the_page_is_one_small_file(tmp_path: Path) -> None:
    folder = publish(dx.load_run("demo"), tmp_path / "page")
    (index,) = folder.iterdir()
    assert index.name == "index.html" and index.stat().st_size < 6e6
    for kind in ("lock", "part"):  # of a page whose writer was killed
        (folder / f".index.html.0123abcd.{kind}").touch()
    publish(dx.load_run("demo"), folder, force=True)
    assert [path.name for path in folder.iterdir()] == ["index.html"]
    file = publish(dx.load_run("demo"), tmp_path / "one.html")
    assert file.read_bytes() == index.read_bytes()


@pytest.mark.slow
def test_its_policy_admits_its_own_script_and_style_and_no_connection() -> None:
    text = page_html(dx.load_run("demo"))
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', text)
    assert "default-src 'none'" in policy and "unsafe" not in policy and "connect-src" not in policy
    (script,), (style,) = (
        re.findall(r"<script>(.*?)</script>", text, re.DOTALL),
        re.findall(r"<style>(.*?)</style>", text, re.DOTALL),
    )
    for part in (script, style):
        assert f"'sha256-{base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()}'" in policy
    own = text.replace(json.dumps(data_of(text)), "")
    assert not re.search(r"(?:src|href)=\"(?!data:)|@import|url\(\"?http", own)


def test_modules_are_joined_whole() -> None:
    """Every one that page.js imports is in the script once, and none that needs the model."""
    script = joined_modules(PAGE, "page")
    assert not re.search(r"^(?:import|export) ", script, re.MULTILINE)
    found = re.findall(r"^const \$(\w+) = ", script, re.MULTILINE)
    assert len(found) == len(set(found)) and found[-1] == "page" and "engine" not in found


@pytest.mark.slow
def test_images_are_published_only_where_that_is_known_to_be_permitted(
    mine: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "pictures" in data_of(page_html(dx.load_run("demo")))
    assert "pictures" not in data_of(page_html(mine))  # scikit-learn's digits
    assert "pictures" in data_of(page_html(mine, pictures=True))
    assert "pictures" in data_of(page_html(mine, private=True))  # for oneself
    monkeypatch.setenv("DMPO_EXPLORE_DATA", str(tmp_path))  # the photographs are not here
    photos = dx.load_run("caltech")
    assert NOT_PUBLISHED in data_of(page_html(photos))["notes"]
    assert NOT_HERE in data_of(page_html(photos, private=True))["notes"]


@pytest.mark.slow
def test_only_a_page_is_replaced(tmp_path: Path) -> None:
    run, place = dx.load_run("demo"), tmp_path / "page"
    publish(run, place)
    before = (place / "index.html").stat().st_mtime_ns
    publish(run, place)  # the very same is kept
    assert (place / "index.html").stat().st_mtime_ns == before
    other = dx.fit_policy(run.record("calibration"), threshold=0.9)
    with pytest.raises(FileExistsError, match="replace it with --force"):
        publish(run, place, other)
    publish(run, place, other, force=True)
    (place / "diary.txt").write_text("dear diary")
    with pytest.raises(FileExistsError, match=r"holds more than a page \(diary.txt\)"):
        publish(run, place, force=True)


def test_what_early_exits_lose_and_win_is_the_difference_to_full_depth() -> None:
    run = dx.load_run("fashion")
    outcome = dx.apply(dx.fit_run_policy(run), run.record("test"))
    story, found = story_numbers(run, outcome), outcome.summary()
    assert story["rescued"] > 0 and story["too_early"] > 0
    assert story["rescued"] - story["too_early"] == pytest.approx(found["accuracy"] - found["full_accuracy"])


def test_another_run_stands_beside_in_the_story() -> None:
    run, other = dx.load_run("demo"), dx.load_run("demo-naive")
    found = data_of(page_html(run, pictures=False, against=other))["story"]["against"]
    record = other.record("test")
    assert found["name"] == "demo-naive" and found["flops"] == list(record.meta.flops)
    assert found["accuracies"] == record.correct.mean(axis=0).tolist()


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"weights": "int8"}, "weights and licence are of the model"),
        ({"licence": "MIT"}, "weights and licence are of the model"),
        ({"split": "train"}, "no record of split 'train'"),
        ({"against": dx.load_run("caltech")}, "'caltech' has other images in its test record"),
    ],
)
def test_what_a_page_cannot_have_is_refused(tmp_path: Path, given: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        publish(dx.load_run("demo"), tmp_path / "page", **given)
    assert list(tmp_path.iterdir()) == []


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
        ("confidence", {"flops": 0.3, "temperatures": "fit"}),
        ("random", {"threshold": 0.3}),
        ("budgeted", {"shares": (0.5, 0.1, 0.1, 0.1, 0.1, 0.1)}),
    ],
)
def test_images_and_counts_are_the_policys_own(name: str, how: dict[str, Any]) -> None:
    run = dx.load_run("demo")
    record, policy = run.record("test"), dx.fit_policy(run.record("calibration"), name, **how)
    data, outcome = data_of(page_html(run, policy, private=True, tiles=60)), dx.apply(policy, record)
    place, rows = data["slider"]["place"], data["tiles"]["rows"]
    found = arrays_of(data)
    assert len(rows) == 60 and found["exits"].reshape(-1, 60)[place].tolist() == outcome.exits[rows].tolist()
    assert (found["scores"].reshape(60, -1) == outcome.record.confidence[rows]).all()  # at the policy's temperatures
    assert sum(data["slider"]["counts"][place][::2]) == outcome.correct.sum()
    assert all(file["picture"]["data"] for file in data["running"])


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
    change_meta(tmp_path / "mine", data=str(tmp_path / "my photos"))
    page = page_html(dx.load_run(str(tmp_path / "mine")), private=True)
    assert str(tmp_path) not in page and "on my photos," in page


def test_a_threshold_for_every_exit_and_a_single_exit_have_one_position() -> None:
    run = dx.load_run("demo")
    policy = dx.fit_policy(run.record("calibration"), flops=0.5, per_exit=True)
    data = data_of(page_html(run, policy, private=True, tiles=2))
    assert len(data["policy"]["thresholds"]) == 5 and len(data["slider"]["counts"]) == 1
    single = data_of(page_html(dx.load_run("demo-single"), private=True, tiles=2))
    assert single["running"] == [] and len(single["slider"]["counts"]) == 1
