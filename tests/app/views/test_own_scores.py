"""Your own scores: a file or a folder opens in Explore, whose numbers are the library's; what is wrong is named."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest
from calls import printed
from dmpo_explore_app.services import own_runs, record_folder
from explore_page import bodies, cards, checked, expected_of, html, move, stops, tab
from made_up import MAIN, save_run
from own_scores_page import PAGE, can_open, errors, explore, is_explore, on_explore, packed, page, texts
from PIL import Image
from streamlit.testing.v1 import AppTest
from synthetic import make_record
from visiting import listen

import dmpo_explore as dx
from dmpo_explore.records.validation import problems

TEST, VAL = make_record(120, seed=0, split="test", with_logits=False), make_record(120, seed=1, with_logits=False)


# -- a file --


def test_the_file_of_the_recipe_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    npz, folder, *_ = [block.value for block in page().code]
    assert npz.strip() == record_folder.NPZ_EXAMPLE.strip() and folder.strip() == record_folder.EXAMPLE.strip()
    monkeypatch.chdir(tmp_path)
    logits = "import numpy as np\nrng = np.random.default_rng(0)\nlabels = rng.integers(3, size=20)\n"
    logits += "logits = 4 * np.eye(3)[labels][:, None] + rng.normal(size=(20, 3, 3))\n"
    printed(f"{logits}{npz}\n{folder}")
    assert problems("my-records/test") == []
    app = page(own_file=Path("my-scores.npz").read_bytes())
    assert "20 images, 3 exits, 3 classes" in texts(app)


def test_an_upload_opens_in_explore_with_the_library_s_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = explore(page(own_file=packed(TEST), own_held_out=packed(VAL)))
    assert is_explore(app) and app.selectbox(key="run").value == "mine (yours)"
    assert cards(app) == expected_of(TEST, dx.fit_policy(TEST, threshold=float(app.session_state["threshold"])))
    checked(app.number_input(key="budget").set_value(70.0).run())
    policy = dx.fit_policy(VAL, "confidence", flops=0.7)
    assert cards(app) == expected_of(TEST, policy)
    (tmp_path / "mine.npz").write_bytes(packed(TEST))
    move(app, len(stops(app)) // 2)
    monkeypatch.chdir(tmp_path)
    (code,) = [block.value for block in app.code if "read_scores" in block.value]
    summary = ast.literal_eval(printed(code))
    assert cards(app)["Accuracy"] == f"{summary['accuracy']:.2%}"


def test_flops_that_a_table_lacks_are_typed() -> None:
    rows = ["label,prediction_1,confidence_1,entropy_1,margin_1,prediction_2,confidence_2,entropy_2,margin_2"]
    rows += ["cat,dog,0.6,0.6,0.2,cat,0.9,0.3,0.8", "dog,dog,0.9,0.3,0.8,dog,0.9,0.3,0.8"]
    app = page()
    app.file_uploader(key="own_file").set_value(("a.csv", "\n".join(rows).encode(), "text/csv"))
    assert "a.csv has no FLOPs; give those of its 2 exits" in errors(checked(app.run()))
    checked(app.text_input(key="own_flops").set_value("1; x").run())
    assert "GFLOPs '1; x' must be numbers with commas between" in errors(app)
    checked(app.text_input(key="own_flops").set_value("1, 2").run())
    assert not errors(app) and "2 images, 2 exits, 2 classes" in texts(app)
    record = dx.runs.read_scores("\n".join(rows).encode(), "a.csv", flops=(1e9, 2e9))
    app = explore(app)
    assert cards(app) == expected_of(record, dx.fit_policy(record, threshold=float(app.session_state["threshold"])))


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (
            {"own_file": packed(TEST, labels=TEST.labels[:100])},
            "mine.npz: prediction has 120 rows for 100 labels; give both one row per image",
        ),
        (
            {"own_file": packed(TEST, labels=np.where(np.arange(120) == 2, 9, TEST.labels))},
            "label 9 in row 3 is not a class; use a number from 0",
        ),
        ({"own_file": packed(TEST, confidence=100 * TEST.confidence)}, "mine.npz, confidence: "),
        ({"own_file": packed(TEST, flops=[1, 2])}, "2 flops for 4 exits; give one per exit"),
        ({"own_held_out": packed(make_record(50, 3, with_logits=False))}, "have 3 exits, those of test 4"),
        (
            {"own_held_out": packed(make_record(50, 4, 6, with_logits=False))},
            "have other classes than those of test, first 'class 5'",
        ),
    ],
)
def test_a_bad_file_is_one_line_and_a_good_one_clears_it(files: dict[str, bytes], words: str) -> None:
    app = page(**{"own_file": packed(TEST)} | files)
    (error,) = app.error
    assert words in error.value.replace("\\", "") and not can_open(app)
    for key in files:
        app.file_uploader(key=key).set_value(("mine.npz", packed(TEST), "application/octet-stream"))
    assert not checked(app.run()).error and can_open(app)


# -- images --


def save_images(folder: Path, n: int) -> list[Path]:
    folder.mkdir()
    paths = [folder / f"{i:03}.png" for i in range(n)]
    for i, path in enumerate(paths):
        Image.new("RGB", (12, 8), (2 * i, 0, 90)).save(path)
    return paths


@pytest.mark.slow
def test_images_of_a_folder_or_a_list_are_the_tiles(tmp_path: Path) -> None:
    paths = save_images(tmp_path / "images", 120)
    (tmp_path / "paths.csv").write_text("path\n" + "\n".join(map(str, paths[::-1])))
    shown = []
    for place in ("images", "paths.csv"):
        app = explore(page(own_file=packed(TEST)), own_images=tmp_path / place)
        app = tab(checked(app.selectbox(key="sort").set_value("number").run()), "images")
        exits = dx.fit_policy(TEST, threshold=float(app.session_state["threshold"])).exits(TEST)
        assert "".join(bodies(app)).count("<img") == np.minimum(np.bincount(exits), 20).sum()  # 20 of every exit
        shown.append("".join(bodies(app)))
    assert shown[0] != shown[1]  # another order
    bare = tab(explore(page(own_file=packed(TEST))), "images")
    assert "<img" not in "".join(bodies(bare)) and "No images were given" in texts(bare)


# -- sessions and other machines --


@pytest.mark.slow
def test_another_session_cannot_open_them() -> None:
    app = explore(page(own_file=packed(TEST)))
    key = str(app.session_state["_own_runs"][0].path)
    other = AppTest.from_file(str(MAIN), default_timeout=60)
    for name, value in app.query_params.items():
        other.query_params[name] = value
    checked(other.run())
    assert other.selectbox(key="run").value == "demo" and "mine (yours)" not in other.selectbox(key="run").options
    assert "own scores have no model and stay in their session" in texts(other)
    other.query_params["run"] = key
    assert checked(other.run()).selectbox(key="run").value == "demo"
    assert key not in "".join([*html(app), texts(app), *(block.value for block in app.code)])
    with pytest.raises(FileNotFoundError, match="open them again"):
        own_runs.run_at(key + "0")


@pytest.mark.slow
@pytest.mark.parametrize("chosen", [None, "demo-naive"])
def test_they_come_back_after_a_page_without_them_unless_another_run_was_chosen(chosen: str | None) -> None:
    app = explore(page(own_file=packed(TEST)))
    app.query_params.clear()  # as the menu does
    checked(app.switch_page("views/training.py").run())
    assert app.selectbox(key="run").value == "demo"
    if chosen:
        checked(app.selectbox(key="run").set_value(chosen).run())
    app.query_params.clear()
    on_explore(app)
    assert app.selectbox(key="run").value == (chosen or "mine (yours)")


@pytest.mark.slow
def test_they_can_be_closed_and_no_page_misses_them() -> None:
    app = explore(page(own_file=packed(TEST)))
    checked(app.switch_page(PAGE).run())
    assert "mine" in "".join(element.value for element in app.markdown)
    checked(app.button(key="own_show views/explore.py mine (yours)").click().run())
    assert is_explore(app) and app.selectbox(key="run").value == "mine (yours)"
    on_explore(app)
    app.query_params.clear()
    checked(app.switch_page("views/decide.py").run())
    assert app.session_state["runs"] == ["mine (yours)"]
    app.query_params.clear()
    checked(app.switch_page(PAGE).run())
    checked(app.button(key="own_close mine (yours)").click().run())
    assert not any(button.label == "Close" for button in app.button)
    app.query_params.clear()  # as a browser does when the page is changed by the menu
    checked(app.switch_page("views/explore.py").run())
    assert app.selectbox(key="run").value == "demo" and not app.warning
    app.query_params.clear()
    checked(app.switch_page("views/decide.py").run())
    assert "demo" in app.session_state["runs"] and not app.warning


@pytest.mark.slow
def test_several_files_are_open_side_by_side() -> None:
    other = make_record(120, 2, seed=0, split="test", with_logits=False)
    app = explore(page(own_file=packed(TEST), own_held_out=packed(VAL)))
    checked(app.switch_page(PAGE).run())
    app.file_uploader(key="own_file").set_value(("mine.npz", packed(other), "application/octet-stream"))
    app = explore(checked(app.run()))
    assert app.selectbox(key="run").options[:2] == ["mine 2 (yours)", "mine (yours)"]
    assert cards(app) == expected_of(other, dx.fit_policy(other, threshold=float(app.session_state["threshold"])))
    assert "mine (yours)" in app.pills(key="beside mine 2 (yours)").value  # the same images: its curve is drawn too
    checked(app.switch_page(PAGE).run())
    checked(app.button(key="own_show views/decide.py mine 2 (yours)").click().run())
    app = checked(app.switch_page("views/decide.py").run())
    assert app.session_state["runs"][:2] == ["mine 2 (yours)", "mine (yours)"] and not app.error


@pytest.mark.slow
def test_held_out_scores_may_come_later() -> None:
    app = explore(page(own_file=packed(TEST)))
    assert not any(field.key == "budget" for field in app.number_input)
    checked(app.switch_page(PAGE).run())
    app.file_uploader(key="own_held_out").set_value(("mine.npz", packed(VAL), "application/octet-stream"))
    app = explore(checked(app.run()))
    assert app.selectbox(key="run").options.count("mine (yours)") == 1 and len(app.session_state["_own_runs"]) == 1
    checked(app.number_input(key="budget").set_value(70.0).run())
    assert cards(app) == expected_of(TEST, dx.fit_policy(VAL, "confidence", flops=0.7))


@pytest.mark.slow
def test_held_out_scores_stand_beside_a_record_of_val(tmp_path: Path) -> None:
    VAL.save(tmp_path / "val")
    app = explore(page(own_folder=str(tmp_path / "val")))
    checked(app.switch_page(PAGE).run())
    checked(app.segmented_control(key="own_from").set_value("a file").run())
    app.file_uploader(key="own_held_out").set_value(("mine.npz", packed(TEST), "application/octet-stream"))
    app = explore(checked(app.run()))
    (run,) = app.session_state["_own_runs"]
    assert run.splits() == ["val", "calibration"]
    assert np.array_equal(run.record("val").labels, VAL.labels)


def test_nothing_is_invented_about_them() -> None:
    app = page(own_file=packed(TEST, flops=[1, 2, 3, 4], reference_flops=4))
    assert "1, 2, 3, 4 FLOPs are less than any network needs" in texts(app)
    app = explore(app)
    shown = " ".join([*bodies(tab(app, "images")), texts(app), *(block.value for block in app.markdown)])
    assert "after block" not in shown and "plain backbone" not in shown and "chose the epoch" not in shown


def test_a_page_that_needs_a_model_names_why_it_shows_another_run() -> None:
    app = explore(page(own_file=packed(TEST)))
    checked(app.switch_page("views/live.py").run())
    assert "own scores have no model" in texts(app) and app.selectbox(key="run").value == "demo"


def opened_on(view: str, app: AppTest) -> AppTest:
    """Another page with what this page has read."""
    checked(app.button(key=f"own_open {view}").click().run())
    return checked(app.switch_page(view).run())


def test_one_image_shows_their_recorded_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = opened_on("views/image.py", page(own_file=packed(TEST), own_held_out=packed(VAL)))
    assert app.selectbox(key="run").value == "mine (yours)"
    assert list(app.segmented_control(key="source").options) == ["of the record"]
    names = {button.label for button in app.button}
    assert "Explain every exit" not in names and not app.toggle
    assert "Own scores have none" in texts(app) and "No images were given" in texts(app)
    exit = dx.fit_policy(TEST, threshold=float(app.session_state["threshold"])).exits(TEST)[
        app.number_input(key="row").value
    ]
    assert f"Exits at exit {exit + 1}" in "".join(html(app))
    (tmp_path / "mine.npz").write_bytes(packed(TEST))
    monkeypatch.chdir(tmp_path)
    (code,) = [block.value for block in app.code if "read_scores" in block.value]
    assert printed(code).splitlines()[-1].startswith(f"{exit + 1} [")
    checked(app.number_input(key="row").set_value(5).run())
    assert "test image 5" in texts(app)


@pytest.mark.slow
def test_decide_takes_them_where_the_labels_are_those_of_a_run(
    runs_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(runs_root))
    record, held_out = (dx.load_run("six").record(split) for split in ("test", "val"))
    app = opened_on("views/decide.py", page(own_file=packed(record), own_held_out=packed(held_out)))
    assert app.session_state["runs"][0] == "mine (yours)" and len(app.session_state["runs"]) > 1
    assert "its images are taken for the same" in texts(app)
    app = checked(app.multiselect(key="runs").set_value(["mine (yours)", "six"]).run())
    rows = app.table[0].value.to_numpy().tolist()
    assert rows[0][1:] == rows[1][1:]  # the same scores
    assert not [block for block in app.code if block.language == "sh"] and "own:" not in "".join(
        b.value for b in app.code
    )
    assert not app.error


@pytest.mark.slow
def test_from_other_machines_there_are_uploads_and_no_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "root"
    save_run(root, "four", images=120)
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(root))
    listen(monkeypatch, "0.0.0.0", "*")
    app = page(own_file=packed(TEST))
    assert not [field for field in app.text_input if field.key == "own_images"]
    assert cards(explore(app))
    assert "can be reached from other machines" in errors(page(own_folder=tmp_path))
    app = explore(page(own_folder="four/records/test"))
    (code,) = [e.value for e in app.code if "ExitRecord.load" in e.value]
    assert "dx.ExitRecord.load(dx.runs.runs_root() / 'four/records/test')" in code and str(root) not in code
    (root / "broken").mkdir()
    app = page(own_folder="broken")
    assert "no file meta.json" in errors(app) and str(tmp_path) not in texts(app)
