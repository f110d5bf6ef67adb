"""Background trainings in words, and the form whose choices and bounds are the config's."""

from __future__ import annotations

import pytest
from dmpo_explore_app.components import job_texts, training_form
from dmpo_explore_app.state import training_choices as state

import dmpo_explore as dx
from dmpo_explore.config import OPTIONS, Config
from dmpo_explore.data.images import DATASETS


def test_every_option_is_in_the_form_or_left_out_on_purpose() -> None:
    drawn = [*training_form.MAIN, *training_form.ADVANCED, *state.LEFT_OUT]
    assert sorted(drawn) == sorted(OPTIONS)
    for option in (*training_form.MAIN, *training_form.ADVANCED):  # there is no widget for a text
        assert state.choices(option) or {int, float, bool, tuple} & {*OPTIONS[option].kinds}, option


def test_choices_are_the_configs() -> None:
    assert set(state.choices("data.name")) == {*DATASETS, state.FOLDER}
    for option, found in OPTIONS.items():
        if found.choices and option != "data.name":
            assert state.choices(option) == found.names and Config().get(option) in found.names


def test_bounds_are_the_configs() -> None:
    config = Config()
    for option, found in OPTIONS.items():
        if not found.choices and {int, float} & {*found.kinds} and option not in state.LEFT_OUT:
            least, most = state.bounds(option)
            for value in (least, most):
                if value is not None and tuple not in found.kinds:
                    kind = int if int in found.kinds else float
                    config.updated({option: None if found.zero_is_none and not value else kind(value)})
    assert state.bounds("training.clip_norm")[0] == 0  # stands for no clipping
    assert state.bounds("model.dropout") == (0, 0.99)
    assert state.bounds("training.tuning_lr") == (1e-6, None)
    assert state.bounds("training.seed") == (0, 2**32 - 1)


def test_presets_are_configs_that_are_not_the_same() -> None:
    assert len({config.to_json() for config in training_form.presets().values()}) == 5


def test_few_fields_are_open_and_every_start_is_explained() -> None:
    assert len(training_form.MAIN) == 6 and next(iter(training_form.presets())) == training_form.TOY
    assert training_form.presets()[training_form.TOY].data.name == "digits"


def test_durations() -> None:
    texts = [job_texts.duration(seconds) for seconds in (3, 89, 90, 5000, 5460)]
    assert texts == ["3 s", "89 s", "2 min", "83 min", "1 h 31 min"]
    assert job_texts.step_range((0.0123, 1.26)) == "12 ms to 1.3 s"
    assert job_texts.step_range((20.44,)) == "20.4 s" == job_texts.step_range((20.41, 20.44))
    assert [job_texts.counted(number, "step") for number in (1, 2)] == ["1 step", "2 steps"]


def test_progress() -> None:
    progress = dx.jobs.Progress("training", 41, 60, 1, 0.0, 80.0, 2 << 30, epoch=3, epochs=4, loss=0.5)
    status = dx.jobs.Status(dx.jobs.RUNNING, "", 2, 4, (), progress, 1 << 30)
    rates = dx.jobs.Rates((1.5, 1.75), 20, 0, 0, 0, 0, 0, "CPU", 1, 1, 1)
    expected = (
        "epoch 3 of 4, 41 of 60 steps · loss 0.500 · 2.0 s a step (measured before: 1.5 s to 1.8 s) · about 38 s left"
        ", then recording · 1.0 GiB now, 2.0 at most"
    )
    assert job_texts.progress_text(status, progress, rates) == expected


@pytest.mark.parametrize(
    ("state", "epoch", "text"),
    [
        (dx.jobs.RUNNING, 1, "training, 1 of 4 epochs done"),
        (dx.jobs.STOPPING, 1, "stopping …"),
        (dx.jobs.FINISHED, 4, "trained and recorded, 4 of 4 epochs"),
        (dx.jobs.STOPPED, 2, "stopped, 2 of 4 epochs kept"),
        (dx.jobs.STOPPED, 0, "stopped before the first epoch was finished"),
        (dx.jobs.FAILED, 0, "failed"),
        (dx.jobs.DELETED, 0, "its run is missing"),
    ],
)
def test_a_headline_for_every_state(state: str, epoch: int, text: str) -> None:
    assert job_texts.headline(dx.jobs.Status(state, "", epoch, 4, (), None, 0)) == text


def test_after_the_last_epoch_it_trains_no_more() -> None:
    def texts(what: str, done: int, total: int, epochs: int = 0) -> tuple[str, str]:
        progress = dx.jobs.Progress(what, done, total, 0, 0.0, 1.0, 1 << 30, epochs, epochs)
        status = dx.jobs.Status(dx.jobs.RUNNING, "", 3, 3, (), progress, 0)
        return job_texts.headline(status), job_texts.progress_text(status, progress, None)

    assert texts("done", 1, 1) == ("trained, 3 of 3 epochs", "Finishing …")  # not "training … 1 of 1 images"
    headline, text = texts("training", 30, 30, epochs=3)
    assert headline == "trained, 3 of 3 epochs" and "recorded next" in text
    headline, text = texts("recording val", 20, 50)
    assert headline == "recording val, 3 of 3 epochs" and text.startswith("20 of 50 images")
