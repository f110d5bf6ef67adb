"""Config: JSON round trip and one clear error for every bad value."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmpo_explore.config import (
    OPTIONS,
    Config,
    DataConfig,
    ModelConfig,
    Preprocess,
    TrainingConfig,
    parse_exits,
)
from dmpo_explore.data.images import DATASETS
from dmpo_explore.inference.torch_engine import PRECISIONS
from dmpo_explore.models import BYPASSES, TUNINGS, build_model
from dmpo_explore.models.predictors import NORMALISATIONS, PREDICTORS, READS
from dmpo_explore.pretrained.weights import KEYWORDS
from dmpo_explore.runs.store import list_runs, load_run
from dmpo_explore.training import COUPLINGS, SCHEDULES
from dmpo_explore.utils.preprocess import RESIZING


def test_default_round_trip() -> None:
    config = Config()
    assert Config.from_json(config.to_json()) == config
    assert Config.from_dict(config.to_dict()) == config
    assert json.loads(config.to_json())["model"]["backbone"] == "vit_small_patch14_dinov2"


def test_full_round_trip_keeps_types() -> None:
    config = Config(
        DataConfig("digits", root="somewhere", train_size=100, seed=3),
        ModelConfig(exits=(2, 5, 12), tuning="lora", dropout=0.2, read="mean", train_norm=False),
        TrainingConfig(epochs=2, tuning_lr=1e-4, clip_norm=None, schedule="switch", phase_ratio=0.25),
    )
    back = Config.from_json(config.to_json())
    assert back == config
    assert back.model.exits == (2, 5, 12) and isinstance(back.model.exits, tuple)
    assert back.training.clip_norm is None and back.data.train_size == 100


@given(
    st.one_of(st.integers(1, 12), st.sets(st.integers(1, 24), min_size=1, max_size=6).map(lambda s: tuple(sorted(s)))),
    st.floats(0, 0.999),
    st.floats(1e-9, 1, allow_subnormal=False),
    st.floats(0, 1),
    st.one_of(st.none(), st.integers(1, 10**6)),
)
def test_any_valid_config_round_trips(
    exits: int | tuple[int, ...], dropout: float, lr: float, ratio: float, size: int | None
) -> None:
    config = Config(
        DataConfig(train_size=size),
        ModelConfig(exits=exits, dropout=dropout),
        TrainingConfig(tuning_lr=lr, phase_ratio=ratio),
    )
    assert Config.from_json(config.to_json()) == config


def test_missing_keys_take_defaults() -> None:
    assert Config.from_dict({}) == Config()
    assert Config.from_dict({"training": {"epochs": 2}}) == Config(training=TrainingConfig(epochs=2))


def test_whole_numbers_become_floats() -> None:
    config = Config.from_dict({"training": {"tuning_lr": 1, "clip_norm": 2}})
    assert config.training.tuning_lr == 1.0 and isinstance(config.training.tuning_lr, float)
    assert isinstance(config.training.clip_norm, float)


def test_configs_are_frozen() -> None:
    for config in (Config(), DataConfig(), ModelConfig(), TrainingConfig(), Preprocess(70, (0.5,), (0.5,))):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(config, dataclasses.fields(config)[0].name, None)


# -- options --


def test_every_field_is_an_option_with_a_spelling_of_its_own() -> None:
    fields = [f"{part}.{field.name}" for part in ("data", "model", "training")
              for field in dataclasses.fields(type(getattr(Config(), part))) if field.metadata]  # fmt: skip
    assert [key for key in OPTIONS if key in fields] == fields
    assert len({found.spelling for found in OPTIONS.values()}) == len(OPTIONS)
    assert all(found.help.endswith(".") and found.default == Config().get(key) for key, found in OPTIONS.items())


def test_choices_are_the_registries_names() -> None:
    valid: dict[str, Iterable[str]] = {
        "data.name": DATASETS,
        "model.bypass": BYPASSES,
        "model.last_bypass": BYPASSES,
        "model.last_predictor": PREDICTORS,
        "model.normalisation": NORMALISATIONS,
        "model.predictor": PREDICTORS,
        "model.read": ("auto", *READS),
        "model.resize": RESIZING,
        "model.tuning": TUNINGS,
        "model.weights": KEYWORDS,
        "training.class_balance": ("none", "weights", "sampler"),
        "training.coupling": COUPLINGS,
        "training.precision": ("auto", *PRECISIONS),
        "training.frozen_precision": ("no", "bf16"),
        "training.schedule": SCHEDULES,
    }
    assert {key: set(names) for key, names in valid.items()} == {key: set(OPTIONS[key].names) for key in valid}
    closed = {key for key, option in OPTIONS.items() if option.closed}
    assert {"model.resize", "training.class_balance", "training.precision"} <= closed
    assert not closed & {"model.bypass", "model.predictor", "training.schedule"}


def test_a_name_that_was_added_to_a_registry_is_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BYPASSES, "mine", BYPASSES["none"])  # type: ignore[index]
    config = ModelConfig("test_vit", "random", 32, exits=2, bypass="mine")
    assert build_model(config, 10).stages[0].bypass is not None
    assert Config.from_dict({"model": {"bypass": "mine"}}).model.bypass == "mine"


def test_options_describe_themselves() -> None:
    bypass = OPTIONS["model.bypass"]
    assert (bypass.spelling, bypass.type_name, bypass.shown_default) == ("bypass", "str", "conv")
    assert "conv" in bypass.described() and "none" in bypass.described()
    assert OPTIONS["model.exits"].type_name == "list of int or int"
    assert (OPTIONS["training.clip_norm"].type_name, OPTIONS["training.flip"].shown_default) == ("float or null", "on")
    assert OPTIONS["model.image_size"].unit == "pixels"


@pytest.mark.parametrize(
    ("settings", "typed"),
    [
        ({}, []),
        ({"model.exits": (3,)}, ["--exits", "3,"]),
        ({"model.train_norm": False, "training.clip_norm": None}, ["--no-train-norm", "--clip-norm", "0"]),
        ({"data.name": "-odd name", "data.seed": 3}, ["--data=-odd name", "--data-seed", "3"]),
    ],
)
def test_a_config_as_arguments_of_the_command_line(settings: dict[str, Any], typed: list[str]) -> None:
    assert Config().updated(settings).to_arguments() == typed


def test_bundled_configs_are_read_as_they_are() -> None:
    for name in list_runs():
        run = load_run(name)
        written = json.loads((run.path / "config.json").read_text())
        for key, value in ((f"{part}.{name}", value) for part in written for name, value in written[part].items()):
            assert json.loads(json.dumps(run.config.get(key))) == value, (name, key)
        assert Config.from_json(run.config.to_json()) == run.config


# -- values --


BAD_JSON: list[tuple[Any, str]] = [
    ({"modle": {}}, "unknown key in config 'modle'. Did you mean 'model'.*data, model, training"),
    ({"model": {"exit": 4}}, "unknown key in config.model 'exit'. Did you mean 'exits'"),
    ({"model": []}, "config.model must be a JSON object, not list"),
    ([], "config must be a JSON object, not list"),
    ({"model": {"image_size": "70"}}, "config.model.image_size='70' has the wrong type; expected int"),
    ({"model": {"image_size": True}}, "config.model.image_size=True has the wrong type"),
    ({"model": {"image_size": 70.5}}, "config.model.image_size=70.5 has the wrong type"),
    ({"model": {"train_norm": 1}}, "config.model.train_norm=1 has the wrong type; expected bool"),
    ({"model": {"exits": ["3"]}}, r"config.model.exits\[0\]='3' has the wrong type"),
    ({"model": {"exits": None}}, "config.model.exits=None has the wrong type"),
    ({"model": {"backbone": None}}, "config.model.backbone=None has the wrong type"),
    ({"training": {"tuning_lr": True}}, "config.training.tuning_lr=True has the wrong type"),
]
BAD_MODEL: list[tuple[dict[str, Any], str]] = [
    ({"exits": ()}, r"exits=\[\] must be rising"),
    ({"exits": (3, 3)}, r"exits=\[3, 3\] must be rising block numbers without repeats, e.g. 3,6,9,12"),
    ({"exits": (6, 3)}, r"exits=\[6, 3\] must be rising"),
    ({"exits": (0, 3)}, "blocks are counted from 1"),
    ({"exits": 0}, "exits=0 must be at least 1"),
    ({"image_size": 0}, "image_size=0 must be at least 1"),
    ({"rank": 0}, "rank=0 must be at least 1"),
    ({"bypass_width": -1}, "bypass_width=-1 must be at least 1"),
    ({"channels": 0}, "channels=0 must be at least 1"),
    ({"dropout": 1.0}, r"dropout=1.0 must lie in \[0, 1\)"),
    ({"dropout": float("nan")}, "dropout=nan"),
]
BAD_TRAINING: list[tuple[dict[str, Any], str]] = [
    ({"epochs": 0}, "epochs=0 must be at least 1"),
    ({"batch_size": 0}, "batch_size=0 must be at least 1"),
    ({"accumulation": 0}, "accumulation=0"),
    ({"validation_size": 0}, "validation_size=0"),
    ({"workers": -1}, "workers=-1 must be at least 0"),
    ({"tuning_lr": 0.0}, "tuning_lr=0.0 must be a finite number above 0"),
    ({"predictor_lr": float("nan")}, "predictor_lr=nan must be a finite number above 0"),
    ({"tuning_lr": float("inf")}, "tuning_lr=inf must be a finite number above 0"),
    ({"weight_decay": -0.1}, "weight_decay=-0.1"),
    ({"weight_decay": float("nan")}, "weight_decay=nan must be a finite number from 0"),
    ({"clip_norm": 0.0}, "clip_norm=0.0 must be a finite number above 0, or None"),
    ({"warmup_epochs": -1.0}, "warmup_epochs=-1.0"),
    ({"phase_ratio": 1.1}, r"phase_ratio=1.1 must lie in \[0, 1\]"),
    ({"crop_scale": 0.0}, r"crop_scale=0.0 must lie in \(0, 1\]"),
    ({"crop_scale": 1.01}, "crop_scale=1.01"),
    ({"class_balance": "weight"}, "unknown class_balance 'weight'. Did you mean 'weights'"),
    ({"balance_beta": 1.5}, r"balance_beta=1.5 must lie in \[0, 1\]"),
    ({"precision": "bf-16"}, "unknown precision 'bf-16'. Did you mean 'bf16'"),
    ({"frozen_precision": "fp16"}, "unknown frozen_precision 'fp16'"),
    ({"frozen_precision": "bf16", "precision": "no"}, "frozen_precision='bf16' needs precision='bf16', not 'no'"),
]
BAD: list[tuple[Callable[[], object], str]] = [
    *((lambda values=values: Config.from_dict(values), words) for values, words in BAD_JSON),
    *((lambda values=values: ModelConfig(**values), words) for values, words in BAD_MODEL),
    *((lambda values=values: TrainingConfig(**values), words) for values, words in BAD_TRAINING),
    *((lambda size=size: DataConfig(train_size=size), f"train_size={size} must be at least 1") for size in (0, -5)),
    *((lambda t=t: Config.from_json(t), r"config is not valid JSON \(line 1\)") for t in ("{", "", '{"model": }')),
    (lambda: Config.from_json("[" * 100_000), "config is not read: its JSON is nested too deeply"),
    *((lambda text=text: parse_exits(text), "neither a number nor blocks") for text in ("four", "3;6", "3,x", "")),
    (lambda: Config().updated({"rnk": 4}), "Did you mean 'rank'"),
    (lambda: Config().updated({"modle.rank": 4}), "unknown setting"),
    (lambda: Config().updated({"seed": 4}), "write data.seed or"),
]


@pytest.mark.parametrize(("make", "words"), BAD)
def test_a_bad_value_is_one_clear_error(make: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


def test_exits_are_read_from_text() -> None:
    assert (parse_exits("4"), parse_exits("3,6, 9"), parse_exits("12,")) == (4, (3, 6, 9), (12,))


def test_options_are_changed_by_their_names_too() -> None:
    assert Config().updated({"rank": 4}) == Config().updated({"model.rank": 4}) != Config()
