"""CHANGELOG.md: what went has a name that exists in its place."""

from __future__ import annotations

import re
from operator import attrgetter

import dmpo_explore as dx
from builder.pages import ROOT


def test_names_that_took_the_place_of_others_exist() -> None:
    rows = re.findall(r"^\| (.+) \| (.+) \|$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    names = {name for _, now in rows for name in re.findall(r"`dx\.([\w.]+)", now)}
    assert len(names) > 5
    for name in names:
        attrgetter(name)(dx)
