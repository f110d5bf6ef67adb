"""Open config parts: options of entries as arguments, attributes and JSON values."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import pytest

from dmpo_explore.utils.options import OpenPart, check_options, open_part, option, options_of, read_options
from dmpo_explore.utils.registry import Joint, TakenNameError

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
