"""A search space: domains, what is read from a file, what is refused and with which words, what is drawn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

from dmpo_explore.config import OPTIONS, Config
from dmpo_explore.models.bypass import BYPASSES
from dmpo_explore.search.goal import Goal
from dmpo_explore.search.space import (
    Choice,
    Range,
    SearchSpace,
    default_space,
    read_domain,
    read_space,
    updated,
    written,
)

TEXT = """
[fixed]
train_size = 1000
data.name = "digits"
training.seed = 3
[space]
exits = [4, [2, 4, 6]]
bypass = ["none", "conv"]
rank = { low = 4, high = 32, log = true }
phase_ratio = { low = 0.2, high = 0.8, step = 0.1 }
training.tuning_lr = { low = 5e-4, high = 8e-3, log = true }
flip = [true, false]
[goal]
max_flops = 0.9
max_seconds = 60
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "space.toml"
    path.write_text(text)
    return path


@pytest.fixture
def space(tmp_path: Path) -> SearchSpace:
    return read_space(str(write(tmp_path, TEXT)))


def test_a_file_is_read(space: SearchSpace) -> None:
    assert (space.base.data.train_size, space.base.data.name) == (1000, "digits")
    assert (space.base.training.seed, space.base.data.seed) == (3, 0)
    assert space.domains["model.exits"] == Choice((4, (2, 4, 6)))
    assert space.domains["model.rank"] == Range(4, 32, log=True, whole=True)
    assert space.domains["training.phase_ratio"] == Range(0.2, 0.8, step=0.1)
    assert space.domains["training.flip"] == Choice((True, False))
    assert space.goal == Goal(0.9, 60)
    assert SearchSpace.from_dict(json.loads(json.dumps(space.to_dict()))).to_dict() == space.to_dict()


def test_settings_become_a_config(space: SearchSpace) -> None:
    params = {"model.exits": "[2, 4, 6]", "model.bypass": "none", "model.rank": 5, "training.phase_ratio": 0.3,
              "training.tuning_lr": 1e-3, "training.flip": False}  # fmt: skip
    config = space.config(params)
    assert config.model.exits == (2, 4, 6) and config.model.rank == 5 and config.model.bypass == "none"
    assert config.training.phase_ratio == 0.3 and not config.training.flip
    assert config.data == space.base.data
    assert space.epochs(params) == config.training.epochs == 6
    assert SearchSpace.from_dict({"space": {"epochs": {"low": 2, "high": 9}}}).epochs({"training.epochs": 7}) == 7


def test_draws_fill_the_space_and_are_encoded(space: SearchSpace) -> None:
    drawn = [space.draw(np.random.default_rng(seed)) for seed in range(300)]
    ranks = [p["model.rank"] for p in drawn]
    assert min(ranks) == 4 and max(ranks) == 32 and all(isinstance(r, int) for r in ranks)
    assert 9 <= np.median(ranks) <= 14  # evenly in the logarithm: about 11
    assert {p["training.phase_ratio"] for p in drawn} == {0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8}
    assert {p["model.exits"] for p in drawn} == {4, "[2, 4, 6]"}
    assert all(5e-4 <= p["training.tuning_lr"] <= 8e-3 for p in drawn)
    encoded = np.stack([space.encode(p) for p in drawn])
    assert encoded.shape == (300, 2 + 2 + 1 + 1 + 1 + 2) and encoded.min() >= 0 and encoded.max() <= 1
    assert len({tuple(row) for row in encoded}) == len({tuple(p.values()) for p in drawn})
    for params in drawn[:20]:
        space.config(params)


def test_what_is_typed_is_no_longer_tried(space: SearchSpace) -> None:
    less = space.fix({"model.rank": 8, "training.epochs": 2})
    assert "model.rank" not in less.domains and less.base.model.rank == 8 and less.base.training.epochs == 2
    assert less.base.data == space.base.data and less.goal == space.goal
    with pytest.raises(ValueError, match="nothing is left to try"):
        SearchSpace.from_dict({"space": {"rank": [4, 8]}}).fix({"model.rank": 8})


def test_the_default_space_holds_the_defaults() -> None:
    space, config = default_space(), Config()
    assert {"model.exits", "model.bypass", "model.predictor", "model.tuning", "model.rank",
            "model.earlier_exits", "training.schedule", "training.phase_ratio", "training.tuning_lr",
            "training.predictor_lr", "training.self_regularise", "training.cutout"} == set(space.domains)  # fmt: skip
    assert space.base == config
    for key, domain in space.domains.items():
        value = config.get(key)
        inside = value in domain.values if isinstance(domain, Choice) else domain.low <= value <= domain.high
        assert inside, key


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"spaces": {}}, "unknown table in a search space 'spaces'. Did you mean 'space'"),
        ({"space": {}}, "space is empty"),
        ({"space": {"rnak": [4]}}, "unknown setting in space 'rnak'. Did you mean 'rank'"),
        ({"space": {"model": {"schedule": ["linear"]}}}, "unknown setting in space 'model.schedule'"),
        ({"space": {"seed": [0, 1]}}, "setting 'seed' in space is a field of data and of training; write data.seed or"),
        ({"space": {"bypass": ["cnv"]}}, "unknown model.bypass 'cnv'. Did you mean 'conv'"),
        ({"space": {"predictor": ["lin"]}}, "unknown model.predictor 'lin'"),
        ({"space": {"schedule": ["liner"]}}, "unknown training.schedule 'liner'"),
        ({"space": {"tuning": ["loar"]}}, "unknown model.tuning 'loar'"),
        ({"space": {"coupling": ["x"]}}, "unknown training.coupling 'x'. Valid: none, sigmoid"),
        ({"space": {"rank": ["four"]}}, r"space: config.model.rank='four' has the wrong type"),
        ({"space": {"rank": []}}, r"space.model.rank=\[\] must be values that differ"),
        ({"space": {"rank": [4, 4]}}, r"space.model.rank=\[4, 4\] must be values that differ"),
        ({"space": {"rank": 4}}, "space.model.rank=4 must be a list of values, or a range"),
        ({"space": {"rank": {"low": 0, "high": 4}}}, "space: rank=0 must be at least 1"),
        ({"space": {"rank": {"low": 4, "high": 8.5}}}, "low and high .* must be whole numbers"),
        ({"space": {"rank": {"low": 8, "high": 4}}}, "low must be below high"),
        ({"space": {"rank": {"low": 4}}}, "low and high .* must be whole numbers"),
        ({"space": {"rank": {"low": 4, "hi": 8}}}, "unknown key in space.model.rank 'hi'"),
        ({"space": {"dropout": {"low": 0.0, "high": 0.5, "log": True}}}, "true needs low above 0"),
        ({"space": {"dropout": {"low": 0.0, "high": 0.5, "step": 0.9}}}, "a step must fit between"),
        ({"space": {"bypass": {"low": 1, "high": 2}}}, "model.bypass takes no range"),
        ({"space": {"flip": {"low": 0, "high": 1}}}, "training.flip takes no range"),
        ({"space": {"backbone": ["a", "b"]}}, "model.backbone cannot be tried: all trials must share it"),
        ({"space": {"train_size": [100, 200]}}, "data.train_size cannot be tried"),
        ({"fixed": {"rank": 0}, "space": {"bypass": ["none"]}}, "fixed: rank=0 must be at least 1"),
        ({"fixed": 3, "space": {"bypass": ["none"]}}, "fixed=3 must be a table"),
        ({"space": {"rank": [4], "model": {"rank": [8]}}}, "setting 'model.rank' stands twice in space; keep one"),
        ([], "a search space must be a table"),
    ],
)
def test_errors_name_key_value_and_what_may_stand(values: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        SearchSpace.from_dict(values)


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        (f"a = {'[' * 100_000}", ValueError, r"space.toml is not read: its TOML is nested too deeply"),
        ("rank = = 3", ValueError, r"space.toml is not valid TOML: .*line 1"),
        ("[space]\nx = [1]", ValueError, r"space.toml: unknown setting in space 'x'"),
        (None, FileNotFoundError, "no file .*space.toml"),
    ],
)
def test_errors_name_the_file(tmp_path: Path, text: str | None, error: type[Exception], words: str) -> None:
    if text is not None:
        write(tmp_path, text)
    with pytest.raises(error, match=words):
        read_space(tmp_path / "space.toml")


def test_choices_that_cannot_be_trained_are_left_out_one_by_one() -> None:
    def refused(config: Config) -> str:
        return {"conv": "no conv", "none": ""}.get(config.model.bypass, "no mlp")

    space = SearchSpace.from_dict({"space": {"bypass": ["none", "mlp", "conv"], "rank": {"low": 4, "high": 8}}})
    rest, reasons = space.without(refused)
    assert {*rest.domains} == {"model.rank"} and rest.base.model.bypass == "none"  # the only one left
    assert reasons == ["no mlp", "no conv"]


def test_a_choice_keeps_lists_as_json() -> None:
    choice = read_domain("model.exits", [4, [2, 4, 6]], Config())
    assert choice == Choice((4, (2, 4, 6))) and isinstance(choice, Choice)
    assert choice.labels() == [4, "[2, 4, 6]"] and [choice.value(label) for label in choice.labels()] == [4, (2, 4, 6)]
    codes = np.array([choice.encode(label) for label in choice.labels()])
    assert_allclose(np.linalg.norm(codes[0] - codes[1]), 1)


@pytest.mark.parametrize(
    ("domain", "values"),
    [
        (Range(1, 4, whole=True), {1, 2, 3, 4}),
        (Range(1, 4, log=True, whole=True), {1, 2, 3, 4}),
        (Range(2, 7, step=2, whole=True), {2, 4, 6}),
        (Range(0.1, 0.4, step=0.1), {0.1, 0.2, 0.3, 0.4}),
    ],
)
def test_draws_reach_every_value_and_both_ends(domain: Range, values: set[float]) -> None:
    rng = np.random.default_rng(0)
    assert {domain.draw(rng) for _ in range(200)} == values


def test_a_range_is_encoded_from_0_to_1() -> None:
    assert [Range(1, 100, log=True).encode(value) for value in (1, 10, 100)] == [[0.0], [0.5], [1.0]]


def test_what_is_written_is_read_again() -> None:
    for key, found in OPTIONS.items():
        if found.search:
            domain = read_domain(key, found.search, Config())
            assert read_domain(key, written(domain), Config()) == domain


def test_a_name_that_was_added_to_a_registry_can_be_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"space: unknown model.bypass 'mine'. Valid: conv"):
        read_domain("model.bypass", ["none", "mine"], Config())
    monkeypatch.setitem(BYPASSES, "mine", BYPASSES["none"])
    assert read_domain("model.bypass", ["none", "mine"], Config()) == Choice(("none", "mine"))
    assert updated(Config(), {"model.bypass": "mine"}, "fixed").model.bypass == "mine"
