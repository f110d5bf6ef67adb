"""Training: curves of any run; a form that starts trainings and survives a reload; their cards."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from background import SLEEPS, become, wait
from dmpo_explore_app import access
from dmpo_explore_app.components import training_form
from dmpo_explore_app.state import training_choices as form_state
from image_files import paint
from made_up import HOSTILE, save_run
from streamlit.testing.v1 import AppTest
from tiny import tiny_config
from training_page import command, opened
from visiting import address_of, checked, listen, texts

import dmpo_explore as dx
from dmpo_explore import jobs
from dmpo_explore.config import Config, DataConfig
from dmpo_explore.jobs.estimate import Rates
from dmpo_explore.runs.store import load_run
from dmpo_explore.utils.files import write_text

HISTORY = "epoch,lambda_1,lambda_2,loss_1,loss_2,accuracy_1,accuracy_2,area\n1,.1,1,2,2,.5,.6,.5\n2,1,.1,1,1,.6,.7,.6\n"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A runs root with one run that has a history, and jobs that only sleep."""
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path / "runs"))
    save_run(tmp_path / "runs", "learned", images=40)
    (tmp_path / "runs" / "learned" / "history.csv").write_text(HISTORY)
    become(SLEEPS, monkeypatch, tmp_path)
    yield tmp_path / "runs"
    for job in jobs.list_jobs():
        jobs.stop(job.name, grace=0.5)


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, all_fetched: None) -> Path:
    """A runs root without runs."""
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path))
    return tmp_path


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, all_fetched: None) -> list[Config]:
    """What trainings were started with."""
    found: list[Config] = []
    monkeypatch.setattr(jobs, "start", lambda config, name, beside: found.append(config))
    return found


def test_the_form_s_own_images_begin_with_the_recipe_for_photographs() -> None:
    recipe, found = dx.training.with_recipe("photographs", dx.Config()), training_form.presets()[training_form.OWN]
    assert (found.model, found.training) == (recipe.model, recipe.training)


@pytest.fixture
def all_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the weights and data of every training were there."""
    monkeypatch.setattr(jobs, "check_ready", lambda config: None)


def button(app: AppTest, label: str) -> AppTest:
    return checked(next(b for b in app.button if b.label == label).click().run())


def begin_with(app: AppTest, preset: str, **fields: object) -> AppTest:
    checked(app.pills(key="train start").set_value(preset).run())
    for name, value in fields.items():
        kind = app.text_input if name == "exits" else app.number_input
        section = "model" if name == "exits" else "data" if name == "train_size" else "training"
        kind(key=f"train {section}.{name}").set_value(value)
    return checked(app.run())


# -- curves --
@pytest.mark.slow
@pytest.mark.usefixtures("all_fetched")
def test_every_run_shows_how_it_learned(root: Path) -> None:
    app = opened(run="fashion")
    assert app.selectbox(key="run").value == "fashion"
    assert len(app.get("plotly_chart")) == 4  # three panels and the plan
    assert "λ: weight of each exit's loss" in texts(app) and "Loss: on training images" in texts(app)
    assert "Dotted: epoch 4" in texts(app) and "from epoch 3 on, exit 1 weighs" in texts(app)
    assert len(app.dataframe[0].value) == 4
    checked(app.selectbox(key="run").set_value("learned").run())
    assert app.dataframe[0].value["accuracy_2"].tolist() == [0.6, 0.7] and "epoch 2 on" in texts(app)
    assert "run" in app.query_params and app.query_params["run"] == "learned"
    for name in ("fashion-naive", "fashion-single", "demo-cnn"):
        app = opened(run=name)
        assert not app.error and not app.exception
        facts = next(block.value.replace("\\", "") for block in app.markdown if " images of " in block.value)
        legends = [e for e in app.get("html") if 'class="dx-legend"' in str(e.proto.body)]
        if name == "fashion-single":  # its exit's own bypass and predictor, and no schedule of one weight
            assert "**Fashion-MNIST** · ViT-S/14 · bypass **none** · predictor **linear** · 4 of" in facts
            assert not legends
        else:
            assert "schedule **" in facts and len(legends) == 1


@pytest.mark.usefixtures("all_fetched")
def test_weights_that_are_to_be_learned_are_not_drawn_as_a_plan(root: Path) -> None:
    app = opened(run="demo")
    checked(app.selectbox(key="train training.schedule").set_value("learned").run())
    assert len(app.get("plotly_chart")) == 3 and "the loss weights start equal" in texts(app)
    assert "--schedule learned" in " ".join(command(app))


@pytest.mark.slow
@pytest.mark.usefixtures("all_fetched")
def test_a_run_that_breaks_is_a_notice(root: Path) -> None:
    run, good = root / "learned", root.parent / "good"
    shutil.copytree(run, good)
    damages: dict[str, Callable[[], object]] = {
        "not text": lambda: (run / "history.csv").write_bytes(b"\xff\xfe\x00"),
        "no epoch": lambda: (run / "history.csv").unlink(),
        "words": lambda: (run / "history.csv").write_text(HISTORY.replace(".6", "six")),
        "other columns": lambda: (run / "history.csv").write_text("epoch,x\n1,2\n"),
        "no config": lambda: (run / "config.json").write_text("[1]"),
        "deleted": lambda: shutil.rmtree(run),
    }
    app = opened(run="learned")
    for name, damage in damages.items():
        damage()
        checked(app.run())
        assert "The training curves of learned cannot be shown" in texts(app) or "There is no run 'learned'" in texts(
            app
        ), name
        assert any(b.label == "Start training" for b in app.button)  # the form stays
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(good, run)


@pytest.mark.parametrize("name", ["../learned", HOSTILE])
def test_no_link_leads_elsewhere(root: Path, name: str) -> None:
    assert "There is no run" in texts(opened(run=name))


# -- the form --
@pytest.mark.slow
def test_a_preset_is_what_will_be_trained(root: Path, started: list[Config]) -> None:
    app = opened()
    ready = {name: config for name, config in training_form.presets().items() if name != training_form.OWN}
    for preset in reversed(ready):
        button(begin_with(app, preset), "Start training")
    assert started[::-1] == list(ready.values())


@pytest.mark.slow
def test_a_run_is_a_beginning_too(root: Path, started: list[Config]) -> None:
    button(begin_with(opened(run="demo-cnn"), "like demo-cnn", epochs=7), "Start training")
    config = load_run("demo-cnn").config
    assert started == [replace(config, training=replace(config.training, epochs=7))]


@pytest.mark.slow
@pytest.mark.usefixtures("all_fetched")
def test_numbers_of_a_run_beyond_the_form_s_bounds_stay(root: Path) -> None:
    far = {"training.epochs": 12_000, "training.validation_size": 5_000_000, "training.tuning_lr": 5e-7}
    config = load_run("demo-cnn").config.updated(far | {"model.dropout": 0.995})
    write_text(root / "far" / "config.json", config.to_json())
    typed = command(begin_with(opened(run="far"), "like far"))
    assert typed[2:-3] == config.to_arguments()


@pytest.mark.slow
def test_the_command_says_the_same(root: Path) -> None:
    app = begin_with(opened(), "toy, in seconds", epochs=2, exits="2,6", train_size=None)
    typed = command(app)
    assert typed[:4] == ["dmpo-explore", "train", "--data", "digits"] and "--train-size" not in typed
    assert typed[typed.index("--exits") + 1] == "2,6" and "--no-flip" in typed
    assert typed[-3:] == ["--name", "mine", "--record"]
    teacher = begin_with(app, training_form.TOY, teacher_epochs=3).selectbox(key="train training.teacher")
    assert teacher.value == "" and teacher.options[:2] == ["none", "a full model, trained first"]
    assert "--teacher" not in command(app) and "learned" in teacher.options
    checked(teacher.set_value("learned").run())
    typed = command(app)
    assert typed[typed.index("--teacher") + 1] == "learned" and typed[typed.index("--teacher-epochs") + 1] == "3"
    assert begin_with(app, training_form.OWN).selectbox(key="train training.teacher").value == "own"


@pytest.mark.slow
def test_what_cannot_be_is_said_and_cannot_be_started(root: Path) -> None:
    app = begin_with(opened(), "toy, in seconds")
    for field, value, said in (
        ("name", "../x", "must be 1 to 100 letters"),
        ("name", "--force", "begins with a dash"),
        ("name", "demo", "is bundled"),
        ("name", "learned", "'learned' exists"),
        ("name", "", "must be 1 to 100 letters"),
        ("model.exits", "6,3", "rising block numbers"),
        ("model.exits", "a; ls", "neither a number nor blocks"),
        ("model.exits", "0", "must be at least 1"),
        ("model.exits", "9" * 20, "at most 64"),
        ("model.exits", "65", "at most 64"),
    ):
        before = app.text_input(key=f"train {field}").value
        checked(app.text_input(key=f"train {field}").set_value(value).run())
        assert said in texts(app) and not [b for b in app.button if b.label in ("Start training", "Measure")], value
        app.text_input(key=f"train {field}").set_value(before)
    assert [b.label for b in checked(app.run()).button if b.label == "Start training"]


@pytest.mark.slow
def test_data_that_are_not_here_name_the_command(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_CACHE", str(tmp_path / "cache"))
    app = begin_with(opened(), "toy, in seconds")
    checked(app.selectbox(key="train data.name").set_value("cifar10").run())
    assert "dmpo-explore fetch --data cifar10" in texts(app)
    checked(app.selectbox(key="train data.name").set_value("digits").run())
    assert app.checkbox(key="train training.flip").value is False
    checked(app.selectbox(key="train model.backbone").set_value("vit_small_patch14_dinov2").run())
    checked(app.selectbox(key="train model.weights").set_value("auto").run())
    assert "dmpo-explore fetch --backbone vit_small_patch14_dinov2" in texts(app)


@pytest.mark.slow
def test_a_folder_of_ones_own(root: Path, tmp_path: Path) -> None:
    app = begin_with(opened(), training_form.OWN)
    assert app.selectbox(key="train data.name").value == form_state.FOLDER
    assert "Type the path of a folder" in texts(app)
    checked(app.selectbox(key="train model.weights").set_value("random").run())  # else missing ones are offered first
    checked(app.text_input(key="train folder").set_value(str(tmp_path / "nothing")).run())
    assert "unknown data" in texts(app)
    checked(app.text_input(key="train folder").set_value(f"wds/{tmp_path / 'nothing'}").run())
    assert f"no folder {tmp_path / 'nothing'}" in texts(app)


@pytest.mark.parametrize("address", ["0.0.0.0", "", None])
def test_others_may_look_but_not_start_or_stop(
    root: Path, monkeypatch: pytest.MonkeyPatch, address: str | None
) -> None:
    jobs.start(tiny_config(), "mine")
    listen(monkeypatch, address)
    app = opened()
    assert "can be reached from other machines" in texts(app) and "mine" in texts(app) and app.get("plotly_chart")
    assert not app.button and app.expander[0].label != "Log"


# -- time and memory --
@pytest.mark.slow
def test_what_was_measured_is_shown_and_grows_with_the_epochs(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Config] = []

    def measure(config: Config) -> Rates:
        asked.append(config)
        return Rates((1.0, 2.0), 20, 0.0, 0.01, 10.0, 1 << 30, 0, "CPU", 1295, 143, 359, 53)

    monkeypatch.setattr(jobs, "measure", measure)
    app = button(begin_with(opened(), "toy, in seconds", epochs=6), "Measure")
    assert [config.data.train_size for config in asked] == [200]
    shown = {metric.label: metric.value for metric in app.metric}
    assert shown == {"Time": "76 s – 2 min", "Memory": "1.0 – 1.2 GiB"}  # 10 s, 60 steps of 1 to 2 s, 6 s
    assert "53 calibration images can certify a risk of 5.5 % at best" in texts(app)
    app.number_input(key="train training.epochs").set_value(60)
    assert {m.label: m.value for m in checked(app.run()).metric}["Time"] == "10 min – 20 min"
    app.number_input(key="train training.batch_size").set_value(40)
    assert not checked(app.run()).metric  # other steps: to be measured anew
    monkeypatch.setattr(jobs, "measure", lambda config: (_ for _ in ()).throw(ValueError("CUDA out of memory")))
    assert "CUDA out of memory" in texts(button(app, "Measure"))


# -- jobs --


@pytest.mark.slow
def test_what_fails_meanwhile_is_a_notice(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = begin_with(opened(), "toy, in seconds")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jobs, "start", lambda *a, **o: (_ for _ in ()).throw(FileExistsError("'x' is being trained")))
        button(app, "Start training")
    assert "The training was not started." in texts(app) and "'x' is being trained" in texts(app)
    jobs.start(tiny_config(), "mine")  # somebody else
    jobs.stop("mine")
    monkeypatch.setattr(jobs, "forget", lambda name: jobs.load_job("gone"))
    checked(app.run())
    button(app, "Remove card")
    assert "there is no job 'gone'" in texts(app)
    assert "there is no job" not in texts(checked(app.run()))  # said once


@pytest.mark.slow
def test_a_job_waits_for_another_that_is_being_trained(root: Path) -> None:
    jobs.start(tiny_config(), "first")
    jobs.stop("first")
    jobs.start(tiny_config(), "second")
    shown = texts(button(opened(), "Start again"))
    assert "'second' is being trained; 'first' can go on when it has ended" in shown and "beside=" not in shown


def test_a_failure_says_why_and_a_log_is_text(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    become(f"import sys; sys.exit({f'error: no luck with {HOSTILE}'!r})", monkeypatch, tmp_path)
    job = jobs.start(Config(DataConfig(HOSTILE)), "mine")
    wait(lambda: not jobs.job_status(job).active)
    app = opened()
    assert HOSTILE in texts(app) and "<img" not in "".join(e.value for e in app.error).replace(r"\<", "")
    monkeypatch.setattr(access, "is_private", lambda: False)  # others read it: it may name folders
    app = checked(app.run())
    assert HOSTILE not in texts(app) and "its log is on the app's own machine" in texts(app)


@pytest.mark.slow
def test_the_form_survives_a_reload(bare: Path) -> None:
    app = opened()
    assert dict(app.query_params) == {} and app.text_input(key="train name").value == "mine"
    checked(app.pills(key="train start").set_value("naive exits").run())
    app.number_input(key="train training.epochs").set_value(7)
    app.number_input(key="train data.train_size").set_value(None)
    app.text_input(key="train model.exits").set_value("2,6")
    app.selectbox(key="train training.teacher").set_value("own")
    checked(app.text_input(key="train name").set_value("again").run())
    typed, address = command(app), address_of(app)
    assert set(address) == {"run", "begin", "name", "form"} and "training.epochs" in address["form"]
    again = opened(**address)  # another session
    assert command(again) == typed and again.pills(key="train start").value == "naive exits"
    assert again.number_input(key="train training.epochs").value == 7
    checked(again.number_input(key="train training.epochs").set_value(3).run())  # the start's own
    assert "training.epochs" not in address_of(again)["form"]


def test_a_form_that_began_with_another_run_survives_a_reload(bare: Path) -> None:
    for name in ("one", "two"):
        save_run(bare, name, images=40)
    app = opened(run="two", begin="like one", form='{"training.epochs":9}', name="again")
    assert app.pills(key="train start").value == "like one" and app.selectbox(key="run").value == "two"
    assert app.number_input(key="train training.epochs").value == 9
    assert app.text_input(key="train name").value == "again" and "There is no start" not in texts(app)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "why"),
    [
        ("[1]", "not options of this form"),
        ("{", "cannot be used"),
        ('{"model.weights":"/etc/passwd"}', "has no choice '/etc/passwd'"),
        ('{"training.teacher":"../x"}', "has no choice '../x'"),
        ('{"training.epochs":-1}', "cannot be -1"),
        ('{"model.exits":[6,3]}', "rising"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_a_link_fills_in_only_what_the_form_offers(bare: Path, form: str, why: str) -> None:
    app = opened(form=form)
    assert why in texts(app) and app.pills(key="train start").value == training_form.TOY
    assert command(app)[:4] == ["dmpo-explore", "train", "--data", "digits"]
    if form == "[1]":
        assert "There is no start '../x' here" in texts(opened(begin="../x", form=form))


@pytest.mark.slow
def test_a_table_may_have_other_columns(tmp_path: Path) -> None:
    rows = [f"{paint(tmp_path / 'train' / f'{i}.png', i).stem},{'ab'[i % 2]}" for i in range(40)]
    (tmp_path / "labels.csv").write_text("\n".join(["id,breed", *rows]))
    app = begin_with(opened(), training_form.OWN)
    checked(app.selectbox(key="train model.weights").set_value("random").run())
    checked(app.text_input(key="train folder").set_value(str(tmp_path / "labels.csv")).run())
    assert "has no column 'path' (it has id, breed)" in texts(app)
    for option, value in {"path_column": "id", "label_column": "breed", "suffix": ".png", "image_dir": "train"}.items():
        app.text_input(key=f"train data.{option}").set_value(value)
    checked(app.run())
    assert "has no column" not in texts(app)
    given = command(app)
    options = {"--path-column": "id", "--label-column": "breed", "--suffix": ".png", "--image-dir": "train"}
    assert {option: given[given.index(option) + 1] for option in options} == options
