"""Every field of the config is an option with its own help; policy and target are the same options everywhere."""

from __future__ import annotations

import inspect
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from dmpo_explore.cli import app
from dmpo_explore.cli.options import (
    CONFIG,
    TARGET,
    changed,
    config_options,
    fitted,
    numbers,
    target_from,
    target_options,
    typed_values,
)
from dmpo_explore.config import Config, DataConfig, ModelConfig, TrainingConfig
from dmpo_explore.fitting.target import Target
from dmpo_explore.training.part_options import with_recipe

NOTHING = dict.fromkeys(CONFIG.values())


def typed_into(base: Config, settings: dict[str, Any]) -> Config:
    """The config of a command whose options are ``settings``."""
    return changed(base, typed_values(settings))


def make_app(seen: dict[str, Any]) -> typer.Typer:
    app = typer.Typer()

    @app.command()
    @config_options
    def command(name: str = "x", **settings: Any) -> None:
        seen.update(settings, chosen=typed_into(Config(), settings), called=name)

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
    result = CliRunner().invoke(make_app(seen), [*config.to_arguments(), "--name", "y"])
    assert result.exit_code == 0, result.output
    assert seen["chosen"] == config
    assert bool(config.to_arguments()) == (config != Config())


def test_defaults_are_those_of_the_config() -> None:
    assert typed_into(Config(), NOTHING) == Config()
    base = Config(model=ModelConfig(exits=(2, 4)))
    assert typed_into(base, NOTHING) == base
    output = CliRunner().invoke(make_app({}), ["--help-all"]).output
    help_text = " ".join(output.replace("│", " ").split())
    assert f"Peak learning rate of the tuning. Default: {TrainingConfig().tuning_lr}." in help_text
    assert "Train the exit norms (the release: frozen). Default: on." in help_text
    assert all(f"{part} options" in help_text for part in ("Data", "Model", "Training"))


def test_other_images_decide_anew_about_a_calibration_split() -> None:
    base = Config(DataConfig("caltech101", calibration=True))
    for typed in ({"data": "mine"}, {"train_dir": "mine/train"}):
        assert typed_into(base, NOTHING | typed).data.calibration is None
    assert typed_into(base, NOTHING | {"data": "caltech101", "epochs": 2}).data.calibration is True
    assert typed_into(base, NOTHING | {"data": "mine", "calibration": False}).data.calibration is False


def test_the_signature_has_no_rest() -> None:
    def command(name: str = "x", **settings: Any) -> None:
        """Nothing."""

    parameters = inspect.signature(config_options(command)).parameters
    assert "settings" not in parameters and next(iter(parameters)) == "name" and set(NOTHING) < set(parameters)


def test_a_target_is_typed_the_same_everywhere() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    options = {name: {o.name: o for o in commands[name].params} for name in ("evaluate", "predict", "export")}
    assert "May be repeated" in options["evaluate"].pop("flops").help  # its own
    for name, found in options.items():
        for option in TARGET.keys() - ({"flops"} if name == "evaluate" else set()):
            assert (found[option].default, found[option].help) == TARGET[option][1:]


def make_app_with_a_target(seen: dict[str, Any]) -> typer.Typer:
    app = typer.Typer()

    @app.command()
    @target_options
    def command(flops: Annotated[list[float] | None, typer.Option()] = None, **settings: Any) -> None:
        seen.update(settings, own=flops, target=target_from(settings))

    return app


@pytest.mark.parametrize(
    ("typed", "target"),
    [
        ("", None),
        ("--flops 0.3 --flops 0.5", None),
        (
            "--accuracy-drop 0.01 --per-exit --calibrate",
            Target.accuracy_drop(0.01, per_exit=True, calibrate=True),
        ),
        ("--shares 0.5,0.5", Target.shares([0.5, 0.5])),
        ("--threshold 0.9", Target.threshold(0.9)),
        ("--risk too_early --delta 0.1", Target.risk("too_early", delta=0.1)),
    ],
)
def test_what_is_typed_reaches_the_target(typed: str, target: Target | None) -> None:
    seen: dict[str, Any] = {}
    result = CliRunner().invoke(make_app_with_a_target(seen), [*typed.split(), "--policy", "margin"])
    assert result.exit_code == 0, result.output
    assert seen["target"] == target and seen["policy"] == "margin" and "flops" not in seen
    if target is None:
        assert target_from(seen | {"flops": 0.3}) == Target.flops(0.3)
        return
    with pytest.raises(ValueError, match="give exactly one of"):
        target_from(seen | {"flops": 0.3})


def test_numbers() -> None:
    assert (numbers(None, "--x"), numbers("0.5", "--x"), numbers("1, 2e-1", "--x")) == (None, [0.5], [1.0, 0.2])
    with pytest.raises(typer.BadParameter, match="must be numbers separated by commas"):
        numbers("0.5,x", "--x")


@pytest.mark.slow
def test_the_size_of_an_own_teacher_suits_the_backbone_too(capsys: pytest.CaptureFixture[str]) -> None:
    config = with_recipe("photographs", Config(model=ModelConfig("vit_tiny_patch16_224")))
    found = fitted(config, {"model.backbone": "vit_tiny_patch16_224"})
    assert (found.model.image_size, found.get("training.teacher_size")) == (80, 96)
    assert "teacher_size=96" in capsys.readouterr().err
    assert fitted(config, {"training.teacher_size": 98}).get("training.teacher_size") == 98
