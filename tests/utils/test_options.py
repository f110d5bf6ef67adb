"""Options: types, valid values, how they are typed; and open parts, to which entries bring their own."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest

from dmpo_explore.utils.options import OpenPart, check_options, open_part, option, options_of, read_options
from dmpo_explore.utils.registry import Joint, TakenNameError


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


FROM_JSON = partial(read_options, Kitchen, path="kitchen")


@pytest.mark.parametrize(
    ("made", "values", "words"),
    [
        (Oven, {"degrees": 0.0}, r"degrees=0.0 must lie in \(0, 300\]"),
        (Oven, {"degrees": float("nan")}, "degrees=nan must lie in"),
        (Oven, {"heat": "botom"}, "unknown heat 'botom'. .*Valid: both, top"),
        (Oven, {"minutes": 0}, "minutes=0 must be at least 1, or None"),
        (Oven, {"limit": float("inf")}, "limit=inf must be a finite number above 0, or None"),
        (Oven, {"trays": 0}, "trays=0 must be at least 1"),
        (Oven, {"trays": [1, "2"]}, r"trays\[1\]='2' has the wrong type; expected int"),
        (Oven, {"light": "no"}, "light='no' has the wrong type; expected bool"),
        (Oven, {"minutes": True}, "minutes=True has the wrong type; expected int or null"),
        (Oven, {"mode": None}, "mode=None has the wrong type; expected str"),
        (FROM_JSON, [], "kitchen must be a JSON object, not list"),
        (FROM_JSON, {"ovn": {}}, "unknown key in kitchen 'ovn'. Did you mean 'oven'"),
        (FROM_JSON, {"oven": {"degres": 1}}, "unknown key in kitchen.oven 'degres'. Did you mean 'degrees'"),
        (FROM_JSON, {"oven": {"light": 1}}, "kitchen.oven.light=1 has the wrong type; expected bool"),
        (FROM_JSON, {"oven": {"minutes": 1.5}}, "kitchen.oven.minutes=1.5 has the wrong type; expected int or null"),
        (FROM_JSON, {"oven": {"trays": [1, True]}}, r"kitchen.oven.trays\[1\]=True has the wrong type; expected int"),
        (FROM_JSON, {"oven": {"heat": None}}, "kitchen.oven.heat=None has the wrong type; expected str"),
    ],
)
def test_a_bad_value_is_named_with_its_place_and_what_is_valid(made: Any, values: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        made(**values) if made is Oven else made(values)


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


def test_a_value_as_it_is_typed() -> None:
    assert [FOUND["trays"].typed(value) for value in ((1, 3), (3,), 2)] == ["1,3", "3,", "2"]
    assert FOUND["limit"].arguments(None) == ["--limit", "0"] and FOUND["limit"].arguments(2.0) == []
    assert FOUND["light"].arguments(False) == ["--no-light"] and FOUND["mode"].arguments("-x") == ["--mode=-x"]


# -- open parts: options of entries as arguments, attributes and JSON values --


TOPPINGS: Joint[Any] = Joint("topping")


@dataclasses.dataclass(frozen=True)
class Icing:
    sugar: int = option(0, "Grams of sugar.", ge=0)
    colour: str = option("white", "Colour.")

    def __post_init__(self) -> None:
        check_options(self)


@dataclasses.dataclass(frozen=True)
class Sliced:
    """A record of what was done, one object among the JSON values."""

    pieces: int = option(0, "Pieces.", ge=0)
    stored_as: ClassVar[str] = "sliced"


class Entry:
    def __init__(self, options: type) -> None:
        self.options = options


@open_part
@dataclasses.dataclass(frozen=True)
class Cake(OpenPart):
    joints = (TOPPINGS,)

    eggs: int = option(2, "Eggs.", ge=0)
    more: tuple[Any, ...] = ()


@pytest.fixture(autouse=True)
def toppings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TOPPINGS, "icing", Entry(Icing))
    monkeypatch.setitem(TOPPINGS, "sliced", Entry(Sliced))


def cake(**values: Any) -> Any:
    return Cake(**values)


def test_only_what_differs_from_the_defaults_is_kept() -> None:
    assert cake(sugar=5).more == (Icing(sugar=5),) and cake(sugar=0).more == () and cake(sugar=0) == Cake()
    assert dataclasses.replace(cake(sugar=5), **{"sugar": 0}) == Cake()  # type: ignore[arg-type]
    assert dataclasses.replace(cake(sugar=5), **{"colour": "red"}).more == (Icing(5, "red"),)  # type: ignore[arg-type]


def test_options_are_attributes_and_hashable() -> None:
    made = cake(sugar=5, sliced=Sliced(4))
    assert (made.sugar, made.colour, made.sliced.pieces, made.part(Icing).sugar) == (5, "white", 4, 5)
    assert hash(made) == hash(cake(sugar=5, sliced=Sliced(4)))
    with pytest.raises(AttributeError, match="no option 'salt'"):
        _ = made.salt


def test_json_values_are_flat_but_for_records() -> None:
    values = {"eggs": 3, "sugar": 5, "colour": "white", "sliced": {"pieces": 4}}
    made = read_options(Cake, values, "cake")
    assert made == cake(eggs=3, sugar=5, sliced=Sliced(4)) and made.values() == values
    assert [*options_of(Cake)] == ["eggs", "sugar", "colour"]
    with pytest.raises(ValueError, match="sugar=-1 must"):
        read_options(Cake, {"sugar": -1}, "cake")
    with pytest.raises(ValueError, match=r"unknown key in cake 'suger'. Did you mean 'sugar'"):
        read_options(Cake, {"suger": 1}, "cake")


def test_what_no_entry_brings_along_is_refused() -> None:
    with pytest.raises(TypeError, match="no option 'salt'"):
        cake(salt=1)
    del TOPPINGS["icing"]
    with pytest.raises(ValueError, match=r"Icing\(…\)"):
        Cake(more=(Icing(1),))


def test_two_options_of_one_name() -> None:
    @dataclasses.dataclass(frozen=True)
    class Honey:
        sugar: int = option(0, "Grams of honey.")

    TOPPINGS["honey"] = Entry(Honey)
    try:
        with pytest.raises(TakenNameError, match="'sugar' of Honey is one of Icing"):
            Cake.check_groups()
    finally:
        del TOPPINGS["honey"]
