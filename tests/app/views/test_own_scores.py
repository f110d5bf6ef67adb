"""Your own scores: every problem of a folder at once; a good folder's numbers are the library's."""

from __future__ import annotations

import ast
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dmpo_explore_app.services import record_folder
from dmpo_explore_app.state import panels
from listening import listen
from made_up import HOSTILE, MAIN, save_run
from programs import printed
from streamlit.testing.v1 import AppTest
from synthetic import make_record

import dmpo_explore as dx
from dmpo_explore.records.validation import FILES, problems

PAGE = MAIN.parent / "views" / "own_scores.py"


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """A record to look at and one to choose thresholds on."""
    for seed, split in enumerate(("test", "val")):
        make_record(120, seed=seed, split=split, with_logits=False).save(tmp_path / "mine" / split)
    return tmp_path / "mine" / "test", tmp_path / "mine" / "val"


def opened(folder: object = "", val: object = "") -> AppTest:
    app = AppTest.from_file(str(PAGE), default_timeout=60)
    app.session_state[panels.SHARE] = True
    app.run()
    if str(folder):
        app.text_input(key="own_folder").set_value(str(folder))
    if str(val):
        app.text_input(key="own_val").set_value(str(val))
    return checked(app.run())


def checked(app: AppTest) -> AppTest:
    assert not app.exception
    return app


def texts(app: AppTest) -> str:
    found = [*app.warning, *app.error, *app.info, *app.caption, *app.success]
    return "\n".join(element.value for element in found).replace("\\", "")


def cards(app: AppTest) -> list[str]:
    return [metric.value for metric in app.metric]


def expected(record: dx.ExitRecord, policy: dx.Policy) -> list[str]:
    s = dx.summarise(record, policy.exits(record))
    compute, exit, first = f"{1 - s['flops_fraction']:.1%}", f"{s['mean_exit']:.2f}", f"{s['exit_shares'][0]:.1%}"
    return [f"{s['accuracy']:.2%}", compute, exit, first]


def test_opens_with_a_recipe_that_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = opened()
    assert not app.metric and not app.error
    code = next(block.value for block in app.code)
    assert code.strip() == record_folder.EXAMPLE.strip()
    assert len([line for line in code.splitlines() if line.strip()]) <= 12
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    np.save("logits.npy", rng.normal(size=(20, 3, 3)))
    np.save("labels.npy", rng.integers(3, size=20).astype(np.int32))
    printed(code)
    assert problems("my-records/test") == []
    assert cards(opened(tmp_path / "my-records/test"))[0].endswith("%")


def test_the_files_named_are_those_that_are_needed() -> None:
    assert list(record_folder.FILES) == ["meta.json", *FILES]
    assert all(np.dtype(FILES[file]).name in text for file, text in record_folder.FILES.items() if file in FILES)


def test_every_problem_is_said(folders: tuple[Path, Path]) -> None:
    folder, _ = folders
    (folder / "labels.npy").unlink()
    np.save(folder / "scores/confidence.npy", np.full((120, 4), 70, np.float32))
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps(meta | {"flops": [3, 2, 1, 0], "class_names": HOSTILE}))
    app = opened(folder)
    (error,) = app.error
    found = problems(folder)
    assert len(found) == 4 and "4 things keep this folder from being a record" in error.value
    plain = error.value.replace("\\", "")
    assert all(problem.replace(f"{folder}/", "") in plain for problem in found)
    assert "<img" not in error.value.replace(r"\<", "")  # Markdown shows it as text
    assert not app.metric
    shutil.rmtree(folder)
    make_record(120).save(folder)  # mended
    assert not checked(app.run()).error and len(app.metric) == 4


def test_one_level_too_high_offers_the_records(folders: tuple[Path, Path], runs: Path) -> None:
    app = opened(folders[0].parent)
    assert "meta.json" in app.error[0].value.replace("\\", "")
    buttons = {button.label.replace("\\", ""): button for button in app.button}
    assert {"test", "val"} <= set(buttons)
    checked(buttons["test"].click().run())
    assert len(app.metric) == 4 and app.session_state["own_folder"] == str(folders[0])
    assert record_folder.records_below(runs / "four") == [runs / "four/records/test", runs / "four/records/val"]


@pytest.mark.parametrize("text", ["/nowhere/at all", "no\0pe", "~nobody-has-this-name/x", "x" * 5000])
def test_what_is_no_folder_is_said(text: str) -> None:
    app = opened(text)
    assert len(app.error) == 1 and not app.metric


def test_quotes_and_blanks_around_a_path_do_not_matter(folders: tuple[Path, Path]) -> None:
    assert record_folder.find(f' "{folders[0]}" ') == folders[0].resolve()
    assert len(opened(f"'{folders[0]}'").metric) == 4


@pytest.mark.parametrize("policy", ["confidence", "entropy", "patience", "random"])
def test_by_hand_the_numbers_are_the_librarys(folders: tuple[Path, Path], policy: str) -> None:
    app = opened(folders[0])
    checked(app.selectbox(key="own_policy").set_value(policy).run())
    record = dx.ExitRecord.load(folders[0])
    slider = app.select_slider(key=f"own_threshold {policy}")
    stops = dx.trade_off(record, policy)["threshold"].tolist()
    for place in (0, len(slider.options) // 2, len(slider.options) - 1):
        checked(app.select_slider(key=f"own_threshold {policy}").set_value(place).run())
        summary = ast.literal_eval(printed(next(block.value for block in app.code)))
        assert cards(app)[0] == f"{summary['accuracy']:.2%}" and cards(app)[2] == f"{summary['mean_exit']:.2f}"
    assert len(stops) >= len(slider.options) and cards(app)[2] == "4.00"  # none early


def test_a_budget_is_fitted_on_the_second_folder(folders: tuple[Path, Path]) -> None:
    app = opened(*folders)
    record, val = map(dx.ExitRecord.load, folders)
    costs = val.flops_fraction
    checked(app.button_group(key="own_budget").set_value(0.7).run())
    assert costs[0] < 0.7
    policy = dx.fit_policy(val, "confidence", flops=0.7)
    assert cards(app) == expected(record, policy)
    assert "Chosen on the second folder" in texts(app)
    code = next(block.value for block in app.code)
    assert "flops=0.7" in code and ast.literal_eval(printed(code)) == dx.summarise(record, policy.exits(record))
    checked(app.button_group(key="own_budget").set_value(None).run())
    assert "Set by hand" in texts(app)


def test_the_second_folders_split_may_have_any_name(folders: tuple[Path, Path], tmp_path: Path) -> None:
    make_record(120, seed=4, split="calibration", with_logits=False).save(tmp_path / "cal")
    app = opened(folders[0], tmp_path / "cal")
    checked(app.button_group(key="own_budget").set_value(0.7).run())
    code = next(block.value for block in app.code)
    assert "flops=0.7" in code and "set by hand" not in code
    policy = dx.fit_policy(dx.ExitRecord.load(tmp_path / "cal"), "confidence", flops=0.7)
    record = dx.ExitRecord.load(folders[0])
    assert ast.literal_eval(printed(code)) == dx.summarise(record, policy.exits(record))


@pytest.mark.parametrize("policy", ["confidence", "entropy", "patience"])
def test_the_ends_of_the_slider_are_sentences(folders: tuple[Path, Path], policy: str) -> None:
    app = opened(folders[0])
    checked(app.selectbox(key="own_policy").set_value(policy).run())
    key = f"own_threshold {policy}"
    for place, said in ((0, "All images exit at exit 1"), (-1, "No image exits early.")):
        options = app.select_slider(key=key).options
        checked(app.select_slider(key=key).set_value(range(len(options))[place]).run())
        assert said in texts(app) and "at least all" not in texts(app)


@pytest.mark.parametrize(
    ("val", "said"),
    [
        (make_record(50, 3), "other exits or other classes"),
        (make_record(50, 4, 6), "other exits or other classes"),
        (None, "is not a record"),
    ],
)
def test_a_second_folder_that_does_not_fit_is_said(
    folders: tuple[Path, Path], tmp_path: Path, val: dx.ExitRecord | None, said: str
) -> None:
    if val:
        val.save(tmp_path / "other")
    app = opened(folders[0], tmp_path / "other")
    assert said in texts(app) and len(app.metric) == 4 and "Set by hand" in texts(app)
    assert "Both folders are the same" in texts(opened(folders[0], folders[0]))


def test_a_second_folder_of_test_gets_a_notice(folders: tuple[Path, Path], tmp_path: Path) -> None:
    record = dx.ExitRecord.load(folders[1])
    replace(record, meta=replace(record.meta, split="test")).save(tmp_path / "other")
    notice = "The second folder is a test record"
    assert notice in texts(opened(folders[0], tmp_path / "other"))
    assert notice not in texts(opened(*folders))


def test_a_single_exit_has_nothing_to_choose(tmp_path: Path) -> None:
    make_record(40, 1).save(tmp_path / "one")
    app = opened(tmp_path / "one")
    assert "single exit" in texts(app) and cards(app)[2] == "1.00"


def test_a_folder_that_changes_or_goes_is_read_again(folders: tuple[Path, Path]) -> None:
    app = opened(folders[0])
    before = cards(app)
    labels = np.load(folders[0] / "labels.npy")
    np.save(folders[0] / "labels.npy", (labels + 1) % 5)  # meta.json stays as it is
    assert cards(checked(app.run())) != before
    shutil.rmtree(folders[0])
    assert "no record folder" in texts(checked(app.run())) and not app.metric


def test_the_address_names_no_folder(folders: tuple[Path, Path]) -> None:
    app = AppTest.from_file(str(PAGE), default_timeout=60)
    for key in ("own_folder", "folder", "path", "record"):
        app.query_params[key] = str(folders[0])
    assert not checked(app.run()).metric and not app.text_input(key="own_folder").value


def test_the_bundled_record_is_one_press_away() -> None:
    app = opened()
    button = next(button for button in app.button if "bundled" in button.label)
    checked(button.click().run())
    policy = dx.fit_policy(dx.load_run("demo").record("val"), flops=0.3)
    assert cards(app) == expected(dx.load_run("demo").record("test"), policy)


def test_open_to_others_only_the_runs_root_is_read(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    save_run(root, "four", images=120)
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(root))
    (root / "link").symlink_to(folders[0])
    listen(monkeypatch, "0.0.0.0", "*")
    app = opened(folders[0])
    assert "can be reached from other machines" in texts(app) and not app.metric
    app = opened(Path("four/records/test"))
    assert len(app.metric) == 4
    (code,) = [e.value for e in app.code if "ExitRecord.load" in e.value]
    assert "dx.ExitRecord.load(dx.runs.runs_root() / 'four/records/test')" in code and str(root) not in code
    press = next(button for button in app.button if "bundled" in button.label)
    app = checked(press.click().run())
    assert len(app.metric) == 4 and app.text_input(key="own_folder").value == "demo/records/test"
    (root / "broken").mkdir()
    app = opened(Path("broken"))
    assert "no file meta.json" in texts(app) and str(tmp_path) not in texts(app)


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
    assert str(error.value).replace(repr(text), "") == (
        " cannot be opened: this app can be reached from other machines, so it opens only folders under its runs root, "
        "named as RUN/records/SPLIT"
    )


# -- in the browser --
