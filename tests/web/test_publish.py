"""`publish`: one HTML file without the model, a folder with it; nothing from elsewhere, and nothing half."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path

import pytest
from page_files import data_of

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
    with pytest.raises(FileExistsError, match="use --force"):
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
    with pytest.raises(ValueError, match="'caltech' has other images in its test record"):
        page_html(run, pictures=False, against=dx.load_run("caltech"))


@pytest.mark.parametrize("given", [{"weights": "int8"}, {"licence": "MIT"}])
def test_options_of_the_model_need_the_model(tmp_path: Path, given: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="weights and licence are of the model"):
        publish(dx.load_run("demo"), tmp_path / "page", **given)  # type: ignore[arg-type]
