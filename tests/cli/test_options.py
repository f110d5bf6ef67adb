"""Every field of the config is an option, and says so truthfully; policy and wish are the same options everywhere."""

from __future__ import annotations

import dataclasses
import inspect
import re
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from dmpo_explore.cli.options import (
    RENAMED,
    WISH,
    config_from,
    config_options,
    numbers,
    options_of,
    parse_exits,
    wish_from,
    wish_options,
)
from dmpo_explore.cli.root import app
from dmpo_explore.config import HELP, Config, DataConfig, ModelConfig, TrainingConfig
from dmpo_explore.data.images import DATASETS
from dmpo_explore.models.bypass import BYPASSES
from dmpo_explore.models.predictors import PREDICTORS
from dmpo_explore.models.tuning import TUNINGS
from dmpo_explore.training.losses import COUPLINGS
from dmpo_explore.training.schedules import SCHEDULES

SECTIONS = {"data": DataConfig, "model": ModelConfig, "training": TrainingConfig}
NOTHING = {RENAMED.get((section, field), field): None for section, fields in HELP.items() for field in fields}


def test_every_field_has_an_option_and_no_option_is_another_s() -> None:
    for section, kind in SECTIONS.items():
        assert list(HELP[section]) == [field.name for field in dataclasses.fields(kind)]
    assert len(NOTHING) == sum(map(len, HELP.values()))  # no two share a name


@pytest.mark.parametrize(
    ("section", "field", "names"),
    [
        ("data", "name", DATASETS),
        ("model", "tuning", TUNINGS),
        ("model", "bypass", BYPASSES),
        ("model", "predictor", PREDICTORS),
        ("training", "schedule", SCHEDULES),
        ("training", "coupling", COUPLINGS),
    ],
)
def test_help_names_what_there_is(section: str, field: str, names: Any) -> None:
    words = re.findall(r"[a-z0-9-]+", HELP[section][field])
    assert [name for name in names if name not in words] == []


def make_app(seen: dict[str, Any]) -> typer.Typer:
    app = typer.Typer()

    @app.command()
    @config_options
    def command(name: str = "x", **settings: Any) -> None:
        seen.update(settings, chosen=config_from(Config(), settings), called=name)

    return app


def test_what_is_typed_reaches_the_config() -> None:
    seen: dict[str, Any] = {}
    options = "--data digits --data-seed 3 --train-size 50 --exits 3,6 --no-train-norm --rank 2 --clip-norm 0 --seed 4"
    result = CliRunner().invoke(make_app(seen), [*options.split(), "--name", "y"])
    assert result.exit_code == 0, result.output
    assert seen["called"] == "y" and seen["backbone"] is None
    assert seen["chosen"] == Config(
        DataConfig("digits", train_size=50, seed=3),
        ModelConfig(exits=(3, 6), train_norm=False, rank=2),
        TrainingConfig(clip_norm=None, seed=4),
    )


@pytest.mark.parametrize(
    "config",
    [
        Config(),
        Config(DataConfig("-odd name", root="/data", train_size=50, seed=3), ModelConfig(exits=(3,), train_norm=False)),
        Config(model=ModelConfig(exits=(2, 4), dropout=0.25), training=TrainingConfig(clip_norm=None, flip=False)),
    ],
)
def test_a_config_as_it_is_typed_gives_it_back(config: Config) -> None:
    seen: dict[str, Any] = {}
    result = CliRunner().invoke(make_app(seen), [*options_of(config), "--name", "y"])
    assert result.exit_code == 0, result.output
    assert seen["chosen"] == config
    assert bool(options_of(config)) == (config != Config())


def test_defaults_are_those_of_the_config() -> None:
    assert config_from(Config(), NOTHING) == Config()
    base = Config(model=ModelConfig(exits=(2, 4)))
    assert config_from(base, NOTHING) == base
    output = CliRunner().invoke(make_app({}), ["--help"]).output
    help_text = " ".join(output.replace("│", " ").split())
    assert f"Peak learning rate of the tuning. Default: {TrainingConfig().tuning_lr}." in help_text
    assert "Train the exit norms. Default: on." in help_text
    assert all(f"{section.capitalize()} options" in help_text for section in SECTIONS)


def test_the_signature_has_no_rest() -> None:
    def command(name: str = "x", **settings: Any) -> None:
        """Nothing."""

    parameters = inspect.signature(config_options(command)).parameters
    assert "settings" not in parameters and next(iter(parameters)) == "name" and set(NOTHING) < set(parameters)


def test_a_wish_is_typed_the_same_everywhere() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    options = {name: {o.name: o for o in commands[name].params} for name in ("evaluate", "predict", "export")}
    assert "May be repeated" in options["evaluate"].pop("flops").help  # its own
    for name, found in options.items():
        for wish in WISH.keys() - ({"flops"} if name == "evaluate" else set()):
            assert (found[wish].default, found[wish].help) == WISH[wish][1:]


def make_wishing(seen: dict[str, Any]) -> typer.Typer:
    app = typer.Typer()

    @app.command()
    @wish_options
    def command(flops: Annotated[list[float] | None, typer.Option()] = None, **settings: Any) -> None:
        seen.update(settings, own=flops, wish=wish_from(settings))

    return app


@pytest.mark.parametrize(
    ("typed", "wish"),
    [
        ("", {}),
        ("--flops 0.3 --flops 0.5", {}),
        (
            "--accuracy-drop 0.01 --per-exit --calibrate",
            {"accuracy_drop": 0.01, "per_exit": True, "temperatures": "fit"},
        ),
        ("--shares 0.5,0.5 --epsilon 0.1", {"shares": [0.5, 0.5]}),
        ("--threshold 0.9", {"threshold": [0.9]}),
        ("--risk too_early --delta 0.1", {"risk": "too_early", "epsilon": 0.01, "delta": 0.1}),
    ],
)
def test_what_is_typed_reaches_the_wish(typed: str, wish: dict[str, Any]) -> None:
    seen: dict[str, Any] = {}
    result = CliRunner().invoke(make_wishing(seen), [*typed.split(), "--policy", "margin"])
    assert result.exit_code == 0, result.output
    assert seen["wish"] == wish and seen["policy"] == "margin" and "flops" not in seen
    assert wish_from(seen | {"flops": 0.3}) == wish | {"flops": 0.3}


def test_exits_and_numbers() -> None:
    assert (parse_exits("4"), parse_exits("3,6, 9"), parse_exits("12,")) == (4, [3, 6, 9], [12])
    assert (numbers(None, "--x"), numbers("0.5", "--x"), numbers("1, 2e-1", "--x")) == (None, [0.5], [1.0, 0.2])
    for text in ("four", "3;6", "3,x", ""):
        with pytest.raises(typer.BadParameter, match="neither a number nor blocks"):
            parse_exits(text)
    with pytest.raises(typer.BadParameter, match="must be numbers with commas"):
        numbers("0.5,x", "--x")
