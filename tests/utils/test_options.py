"""Options: what is read from a field's type, which values are valid, how they are typed."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from dmpo_explore.utils.options import check_options, option, options_of, read_options


@dataclass(frozen=True)
class Oven:
    """An oven."""

    degrees: float = option(180.0, "Temperature.", gt=0, le=300, unit="degrees")
    heat: Literal["top", "both"] = option("both", "Heat.")
    mode: Literal["fan", "grill"] | str = option("fan", "Mode.", other="a programme")
    minutes: int | None = option(None, "Time.", ge=1, flag="time")
    limit: float | None = option(2.0, "Limit; 0: none.", gt=0)
    trays: tuple[int, ...] | int = option(1, "Trays.", ge=1)
    light: bool = option(True, "Light.")

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True)
class Kitchen:
    """A kitchen."""

    oven: Oven = field(default_factory=Oven)


FOUND = options_of(Oven)


def test_types_choices_and_words_are_read_from_the_field() -> None:
    assert list(FOUND) == ["degrees", "heat", "mode", "minutes", "limit", "trays", "light"] and not options_of(Kitchen)
    assert (FOUND["heat"].choices, FOUND["heat"].closed, FOUND["mode"].closed) == (("top", "both"), True, False)
    assert FOUND["mode"].described() == "Mode: fan, grill or a programme." and FOUND["light"].described() == "Light."
    types = {name: found.type_name for name, found in FOUND.items()}
    assert types["minutes"] == "int or null" and types["trays"] == "list of int or int" and types["mode"] == "str"
    assert (FOUND["minutes"].spelling, FOUND["minutes"].shown_default, FOUND["light"].shown_default) == (
        "time",
        "",
        "on",
    )
    assert FOUND["limit"].zero_is_none and not FOUND["degrees"].zero_is_none and FOUND["minutes"].zero_is_none


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"degrees": 0.0}, r"degrees=0.0 must lie in \(0, 300\]"),
        ({"degrees": float("nan")}, "degrees=nan must lie in"),
        ({"heat": "botom"}, "unknown heat 'botom'. .*Valid: both, top"),
        ({"minutes": 0}, "minutes=0 must be at least 1, or None"),
        ({"limit": float("inf")}, "limit=inf must be a finite number above 0, or None"),
        ({"trays": 0}, "trays=0 must be at least 1"),
        ({"trays": [1, "2"]}, r"trays\[1\]='2' has the wrong type; expected int"),
        ({"light": "no"}, "light='no' has the wrong type; expected bool"),
        ({"minutes": True}, "minutes=True has the wrong type; expected int or null"),
        ({"mode": None}, "mode=None has the wrong type; expected str"),
    ],
)
def test_a_value_out_of_range_is_named_with_what_is_valid(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Oven(**values)


def test_values_of_numpy_lists_and_paths_become_what_json_has() -> None:
    given: dict[str, Any] = {"degrees": np.float32(180), "minutes": np.int64(3), "trays": np.array([1, 3])}
    oven = Oven(**given, light=np.True_, mode=Path("mine"), limit=2)  # type: ignore[arg-type]
    assert oven == Oven(180.0, minutes=3, trays=(1, 3), mode="mine") and isinstance(hash(oven), int)
    assert json.loads(json.dumps(asdict(oven))) == asdict(oven) | {"trays": [1, 3]}
    assert Oven(trays=[1, np.int32(3)]).trays == (1, 3)  # type: ignore[arg-type]


def test_json_values_are_read() -> None:
    oven = read_options(
        Kitchen, {"oven": {"degrees": 200, "trays": [1, 3], "mode": "mine", "limit": None}}, "kitchen"
    ).oven
    assert oven == Oven(200.0, mode="mine", trays=(1, 3), limit=None) and isinstance(oven.degrees, float)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([], "kitchen must be a JSON object, not list"),
        ({"ovn": {}}, "unknown key in kitchen 'ovn'. Did you mean 'oven'"),
        ({"oven": {"degres": 1}}, "unknown key in kitchen.oven 'degres'. Did you mean 'degrees'"),
        ({"oven": {"light": 1}}, "kitchen.oven.light=1 has the wrong type; expected bool"),
        ({"oven": {"minutes": 1.5}}, "kitchen.oven.minutes=1.5 has the wrong type; expected int or null"),
        ({"oven": {"trays": [1, True]}}, r"kitchen.oven.trays\[1\]=True has the wrong type; expected int"),
        ({"oven": {"heat": None}}, "kitchen.oven.heat=None has the wrong type; expected str"),
    ],
)
def test_bad_json_values_are_named_with_their_place(values: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_options(Kitchen, values, "kitchen")


def test_a_value_as_it_is_typed() -> None:
    assert [FOUND["trays"].typed(value) for value in ((1, 3), (3,), 2)] == ["1,3", "3,", "2"]
    assert FOUND["limit"].arguments(None) == ["--limit", "0"] and FOUND["limit"].arguments(2.0) == []
    assert FOUND["light"].arguments(False) == ["--no-light"] and FOUND["mode"].arguments("-x") == ["--mode=-x"]
