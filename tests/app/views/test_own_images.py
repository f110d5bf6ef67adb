"""Bring your own images: known data and own folders are checked; other machines open no folder; many classes fit."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import visiting
from dmpo_explore_app.components import data_panels
from dmpo_explore_app.services import class_rows, data_check, downloads
from dmpo_explore_app.state import class_view
from dmpo_explore_app.state import data_choices as state
from image_files import BROKEN, clean_folder, dirty_folder, draw, shard, split_shards
from made_up import HOSTILE, MAIN
from streamlit.testing.v1 import AppTest
from visiting import checked, listen, texts

import dmpo_explore as dx
from dmpo_explore.utils.files import write_text

VIEW = MAIN.parent / "views" / "own.py"


def opened(place: Path | None = None, **parameters: str) -> AppTest:
    app = visiting.opened(VIEW, **parameters)
    if place is not None:
        checked(app.selectbox(key=state.DATA).set_value(state.FOLDER).run())
        checked(app.text_input(key=state.PLACE).set_value(str(place)).run())
    return app


def cards(app: AppTest) -> list[str]:
    return [metric.value for metric in app.metric]


@pytest.mark.slow
def test_a_known_data_set_is_shown_and_in_the_address() -> None:
    app = opened(data="digits")
    assert "from 8 × 8 (median) to 84 × 84 pixels" in app.table[-1].value.to_csv()
    assert list(app.table[-1].value.columns) == ["what", "by the recipe for photographs"]
    assert "(14.3 a class)" in app.table[-1].value.to_csv()
    headers = ["Images by class", "What a training does", "A few of every class"]
    assert [header.value for header in app.header] == headers
    assert cards(app) == ["1,797", "10", "1.0", "8 × 8"] and "A training can start" in texts(app)
    assert "1,295 train, 143 val, 359 test · all 8 × 8 pixels · width / height 1.00 · " in texts(app)
    command = "dmpo-explore train --recipe photographs --data digits --no-flip --name mine --record"
    assert command in [code.value for code in app.code]
    assert app.checkbox(key=state.CALIBRATION).label == "Calibration split even if small"  # large ones are made anyway
    checked(app.checkbox(key=state.CALIBRATION).check().run())
    assert "143 calibration" in texts(app)
    assert command.replace("digits", "digits --calibration") in [code.value for code in app.code]
    assert "There is no data set 'nonsense' here" in texts(opened(data="nonsense"))


@pytest.mark.slow
def test_folders_and_shards_are_checked_and_looked_at_anew(tmp_path: Path) -> None:
    app = visiting.opened(VIEW)
    (mine,) = (button for button in app.button if button.label == "Use a folder or ZIP of mine")
    assert "Type where your images lie" in texts(checked(mine.click().run()))

    def typed(place: object) -> AppTest:
        return checked(app.text_input(key=state.PLACE).set_value(str(place)).run())

    assert "Unknown data" in texts(typed(tmp_path / "nowhere")) and not app.metric
    assert "A training can start" in texts(typed(clean_folder(tmp_path / "clean"))) and cards(app)[:2] == ["39", "3"]
    assert not app.error and not app.warning

    own = dirty_folder(tmp_path / "dirty")
    typed(own)
    assert len(app.error) == 3 and len(app.warning) == 4 and not app.success
    assert "3 images cannot be read" in texts(app) and "1 image of train is a copy" in texts(app)
    assert "\n".join(BROKEN) in [text.value for text in app.text] and cards(app)[:3] == ["42", "4", "∞"]
    assert "data" not in app.query_params  # a folder is never in the address
    for path in BROKEN:
        (own / path).unlink()
    assert len(checked(app.run()).error) == 2

    for folder in (HOSTILE.replace("/", "_"), "b"):
        for i in range(6):
            draw(tmp_path / "hostile" / folder / f"{i}.png")
    typed(tmp_path / "hostile")
    assert "<img src=x" not in str([html.proto.body for html in app.get("html")]).lower()

    shards = split_shards(tmp_path / "shards")
    assert "A training can start" in texts(typed(f"wds/{shards}")) and cards(app) == ["28", "2", "1.0", "9 × 7"]
    shard(shards / "train-0001.tar", 40, 2)
    assert cards(checked(app.run()))[0] == "30"


@pytest.mark.slow
def test_it_begins_with_the_run_s_own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, runs = clean_folder(tmp_path / "photos"), tmp_path / "runs"
    for name, place in (("mine", str(own)), ("figures", "digits")):
        write_text(runs / name / "config.json", dx.Config(dx.DataConfig(place)).to_json())
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(runs))
    app = visiting.opened(VIEW, state={"run": "mine"})
    assert (app.selectbox(key=state.DATA).value, app.text_input(key=state.PLACE).value) == (state.FOLDER, str(own))
    assert "photos" not in str(app.query_params)
    assert visiting.opened(VIEW, state={"run": "figures"}).selectbox(key=state.DATA).value == "digits"
    listen(monkeypatch, "0.0.0.0")
    assert visiting.opened(VIEW, state={"run": "mine"}).selectbox(key=state.DATA).value == state.DEFAULT


def test_missing_images_and_weights_are_offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("DMPO_EXPLORE_CACHE", str(tmp_path / "cache"))
    app = opened(data="cifar10")
    assert "Images not fetched yet" in texts(app) and "`dmpo-explore fetch" in texts(app) and not app.error
    assert not app.metric and any(str(button.key).startswith("fetch") for button in app.button)
    app = opened(data="digits")
    assert "Weights not fetched yet" in texts(app) and len(app.metric) == 4


@pytest.mark.slow
def test_checked_images_are_the_form_of_a_training(tmp_path: Path) -> None:
    own = clean_folder(tmp_path / "own")
    app = AppTest.from_file(str(MAIN), default_timeout=120)
    app.session_state[state.DATA], app.session_state[state.PLACE] = state.FOLDER, str(own)
    app.session_state[state.CALIBRATION] = True
    checked(app.run())
    checked(app.switch_page("views/own.py").run())
    checked(app.button(key=state.TRAIN).click().run())
    assert [title.value for title in app.title] == ["How does it learn?"]
    app = checked(app.switch_page("views/training.py").run())
    assert app.session_state["train start"] == "my own images" and app.text_input(key="train folder").value == str(own)
    assert app.session_state["train data.calibration"] is True and app.session_state["train training.flip"] is True
    digits = data_panels.start(dx.data.check_data(dx.DataConfig("digits")))
    assert not digits.training.flip and digits.training.teacher == "own"


@pytest.mark.slow
def test_a_zip_file_is_unpacked_and_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_CACHE", str(tmp_path / "cache"))
    clean_folder(tmp_path / "packed" / "photos")
    file = Path(shutil.make_archive(str(tmp_path / "photos"), "zip", tmp_path / "packed"))
    app = opened(data="digits")
    checked(app.selectbox(key=state.DATA).set_value(state.FOLDER).run())
    for content in (b"no archive", file.read_bytes()):
        app.file_uploader(key=state.ZIP).set_value(("photos.zip", content, "application/zip"))
        checked(app.run())
        assert ("not a ZIP file" in texts(app)) == (content == b"no archive")
    assert "A training can start" in texts(app) and cards(app)[:2] == ["39", "3"]
    assert app.text_input(key=state.PLACE).value.endswith("photos") and "cache" not in str(app.query_params)


@pytest.mark.slow
def test_a_forecast_is_the_library_s(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = dx.ModelConfig("test_vit", "random", 32, channels=8, bypass_width=8)
    made = dx.probe(dx.DataConfig("digits"), tiny, images=90)
    monkeypatch.setattr(dx, "probe", lambda data, *, images, progress: made)
    monkeypatch.setattr(downloads, "missing_weights", lambda model: None)
    app = opened(data="digits")
    checked(app.button(key=state.FORECAST).click().run())
    assert all(line in texts(app) for line in made.lines())


@pytest.mark.slow
def test_open_to_others_no_folder_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = clean_folder(tmp_path / "own")
    listen(monkeypatch, "0.0.0.0", "*")
    app = opened(data="digits")
    assert state.FOLDER not in app.selectbox(key=state.DATA).options and not app.text_input
    assert len(app.metric) == 4 and "known data sets only" in texts(app)
    app = visiting.opened(VIEW, state={state.PLACE: str(own), state.DATA: state.FOLDER})
    assert app.selectbox(key=state.DATA).value in dx.data.DATASETS  # what is not offered gives the default
    assert str(tmp_path) not in texts(app)
    with pytest.raises(ValueError, match="only by a browser on the app's own machine"):
        data_check.place(str(own))
    assert "a folder of mine" in texts(opened(data=state.FOLDER))  # by the address either
    assert opened(**{state.PLACE: str(own)}).selectbox(key=state.DATA).value in dx.data.DATASETS


@pytest.mark.slow
def test_hundreds_of_classes_are_found_ordered_and_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for c in range(30):
        for i in range(5 + c // 3):
            draw(tmp_path / "own" / f"class {c:02d}" / f"{i}.png")
    found = dx.data.check_data(dx.DataConfig(str(tmp_path / "own")))
    ends = data_check.rows(found, class_rows.ClassView(order="fewest images"))
    assert len(ends) == 20 and ends[:3] == [0, 1, 2] and ends[-1] == 29
    assert data_check.rows(found, class_rows.ClassView("CLASS 29", "name", "ends")) == [29]
    assert data_check.rows(found, class_rows.ClassView("class", "name", "ends")) == [*range(30)]
    assert len(data_check.rows(found, class_rows.ClassView("", "number", "all"))) == 30
    app = opened(tmp_path / "own")
    assert len(app.dataframe[0].value) == 20
    checked(app.text_input(key=state.FIND).set_value("class 29").run())
    assert app.dataframe[0].value["class"].tolist() == ["class 29"]
    monkeypatch.setattr(class_rows, "PAGE", 12)
    view = class_rows.ClassView("class", "most images", "ends")
    app.session_state[class_view.pager_key(view, 3)] = 3
    checked(app.text_input(key=state.FIND).set_value("class").run())
    assert len(app.dataframe[0].value) == 30 and contact_sheet(app).count("<li") == 6


def contact_sheet(app: AppTest) -> str:
    (body,) = [html.proto.body for html in app.get("html") if "dx-contact" in html.proto.body]
    return body
