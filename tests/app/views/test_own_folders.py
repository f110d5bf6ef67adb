"""Your own scores from a record folder: every problem at once, read in place, and only where that is allowed."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dmpo_explore_app.services import record_folder
from explore_page import cards, checked, expected_of
from made_up import HOSTILE, MAIN
from own_scores_page import PAGE, can_open, errors, explore, packed, page, texts
from streamlit.testing.v1 import AppTest
from synthetic import make_record
from visiting import listen

import dmpo_explore as dx
from dmpo_explore.records.validation import FILES, problems

pytestmark = pytest.mark.slow  # seconds each: scripts/check runs them


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """A record to look at and one to fit thresholds on."""
    for seed, split in enumerate(("test", "val")):
        make_record(120, seed=seed, split=split, with_logits=False).save(tmp_path / "mine" / split)
    return tmp_path / "mine" / "test", tmp_path / "mine" / "val"


def opened(folder: object, val: object = "") -> AppTest:
    return page(own_folder=folder, own_val=val)


def test_the_files_named_are_those_that_are_needed() -> None:
    assert list(record_folder.FILES) == ["meta.json", *FILES]
    assert all(np.dtype(FILES[file]).name in text for file, text in record_folder.FILES.items() if file in FILES)


def test_the_example_file_is_the_demo_s_scores() -> None:
    record = dx.load_run("demo").record("test").subset(slice(300))
    read = dx.runs.read_scores(record_folder.example_file(), "example.npz")
    assert all(np.array_equal(read.score(name), record.score(name)) for name in dx.records.SCORE_TYPES)
    assert np.array_equal(read.flops_fraction, record.flops_fraction)
    assert read.meta.class_names == record.meta.class_names


def test_every_problem_is_shown(folders: tuple[Path, Path]) -> None:
    folder, _ = folders
    (folder / "labels.npy").unlink()
    np.save(folder / "scores/confidence.npy", np.full((120, 4), 70, np.float32))
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps(meta | {"flops": [3, 2, 1, 0], "class_names": HOSTILE}))
    app = opened(folder)
    (error,) = app.error
    found = problems(folder)
    assert len(found) == 4 and "4 things keep this folder from being a record" in error.value
    assert all(problem.replace(f"{folder}/", "") in errors(app) for problem in found)
    assert "<img" not in error.value.replace(r"\<", "")  # Markdown shows it as text
    assert not can_open(app)
    shutil.rmtree(folder)
    make_record(120).save(folder)
    assert not checked(app.run()).error and can_open(app)


def test_one_level_too_high_offers_the_records(folders: tuple[Path, Path], runs: Path) -> None:
    app = opened(folders[0].parent)
    assert "meta.json" in errors(app)
    buttons = {button.label.replace("\\", ""): button for button in app.button}
    assert {"test", "val"} <= set(buttons)
    checked(buttons["test"].click().run())
    assert can_open(app) and app.session_state["own_folder"] == str(folders[0])
    assert record_folder.records_below(runs / "four") == [runs / "four/records/test", runs / "four/records/val"]


@pytest.mark.parametrize("text", ["/nowhere/at all", "no\0pe", "~nobody-has-this-name/x", "x" * 5000])
def test_what_is_no_folder_is_one_line(text: str) -> None:
    app = opened(text)
    assert len(app.error) == 1 and not can_open(app)


def test_quotes_and_blanks_around_a_path_do_not_matter(folders: tuple[Path, Path]) -> None:
    assert record_folder.find(f' "{folders[0]}" ') == folders[0].resolve()


def test_thresholds_are_fitted_on_the_second_folder(folders: tuple[Path, Path]) -> None:
    app = explore(opened(*folders))
    assert app.selectbox(key="run").value == "synthetic (yours)"
    checked(app.number_input(key="budget").set_value(70.0).run())
    record, val = map(dx.ExitRecord.load, folders)
    assert cards(app) == expected_of(record, dx.fit_policy(val, "confidence", flops=0.7))
    (code,) = [block.value for block in app.code if "ExitRecord.load" in block.value]
    assert "flops=0.7" in code and str(folders[1]) in code


@pytest.mark.parametrize(
    ("val", "words"),
    [
        (make_record(50, 3), "other exits or other classes"),
        (make_record(50, 4, 6), "other exits or other classes"),
        (None, "is not a record"),
    ],
)
def test_a_second_folder_that_does_not_fit_is_named(
    folders: tuple[Path, Path], tmp_path: Path, val: dx.ExitRecord | None, words: str
) -> None:
    if val:
        val.save(tmp_path / "other")
    app = opened(folders[0], tmp_path / "other")
    assert words in texts(app) and "held-out images" not in texts(app)
    assert "takes held-out scores to fit it on" in texts(explore(app))


def test_a_second_folder_that_is_no_held_out_one_gets_a_notice(folders: tuple[Path, Path], tmp_path: Path) -> None:
    record = dx.ExitRecord.load(folders[1])
    replace(record, meta=replace(record.meta, split="test")).save(tmp_path / "other")
    assert "The second folder is a test record" in texts(opened(folders[0], tmp_path / "other"))
    assert "Both folders are the same" in texts(opened(folders[0], folders[0]))


def test_a_single_exit_has_nothing_to_choose(tmp_path: Path) -> None:
    make_record(40, 1).save(tmp_path / "one")
    app = explore(opened(tmp_path / "one"))
    assert "single exit" in " ".join(caption.value for caption in app.caption)


def test_a_folder_that_changes_or_goes_is_read_again(folders: tuple[Path, Path]) -> None:
    app = explore(opened(folders[0]))
    before = cards(app)
    labels = np.load(folders[0] / "labels.npy")
    np.save(folders[0] / "labels.npy", (labels + 1) % 5)  # meta.json stays as it is
    assert cards(checked(app.run())) != before
    shutil.rmtree(folders[0])
    assert "no record folder" in errors(checked(app.run())) and not cards(app)


def test_the_address_names_no_folder(folders: tuple[Path, Path]) -> None:
    app = AppTest.from_file(str(MAIN), default_timeout=60)
    for key in ("own_folder", "folder", "path", "record"):
        app.query_params[key] = str(folders[0])
    app.session_state["bring"] = "scores"
    checked(app.run())
    checked(app.switch_page(PAGE).run())
    checked(app.segmented_control(key="own_from").set_value("a record folder").run())
    assert not can_open(app) and not app.text_input(key="own_folder").value


def test_the_bundled_record_is_one_press_away() -> None:
    app = page()
    button = next(button for button in app.button if "bundled" in button.label)
    app = explore(checked(button.click().run()))
    policy = dx.fit_policy(dx.load_run("demo").record("val"), near_best=0.01)
    assert cards(app) == expected_of(dx.load_run("demo").record("test"), policy)


def test_another_file_of_the_same_name_takes_its_place(folders: tuple[Path, Path]) -> None:
    app = explore(page(own_file=packed(make_record(60, 4, with_logits=False))))
    checked(app.switch_page(PAGE).run())
    other = make_record(60, 2, with_logits=False)
    app.file_uploader(key="own_file").set_value(("mine.npz", packed(other), "application/octet-stream"))
    app = explore(checked(app.run()))
    assert not app.warning and not app.error
    assert cards(app) == expected_of(other, dx.fit_policy(other, threshold=float(app.session_state["threshold"])))


@pytest.mark.parametrize(
    "way",
    [
        "{root}/four",
        "link",
        "../mine/test",
        "four/../../mine/test",
        "~root/x",
        "..",
        "/etc",
        "C:/Users",
        "none",
        "a\0b",
    ],
)
def test_what_others_type_is_refused_before_it_is_looked_up(
    way: str, folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    (root / "four").mkdir(parents=True)
    (root / "link").symlink_to(folders[0])
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(root))
    listen(monkeypatch, "0.0.0.0", "*")
    text = way.format(root=root)
    with pytest.raises(ValueError, match="cannot be opened") as error:
        record_folder.find(text)
    said = str(error.value).replace(repr(text), "")
    assert "only folders under its runs root, named as RUN/records/SPLIT" in said and str(root) not in said


def test_the_answers_of_any_model_open_in_explore_with_the_library_s_numbers(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 60)
    logits = rng.normal(size=(60, 3, 4)) + 2 * np.eye(4)[labels][:, None]
    batches = zip(np.split(logits, 4), np.split(labels, 4), strict=True)
    record = dx.record_logits(batches, flops=(1e9, 2e9, 3e9), class_names=("a", "b", "c", "d"))
    record.save(tmp_path / "test")
    app = explore(opened(tmp_path / "test"))
    assert cards(app) == expected_of(record, dx.fit_policy(record, threshold=float(app.session_state["threshold"])))
