"""The training form: choices and bounds come from the config."""

from __future__ import annotations

from dmpo_explore_app.components import training_form
from dmpo_explore_app.state import training_choices as state

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
