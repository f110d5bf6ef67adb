"""The race of early exit and full depth, on a canvas; still where reduced motion is preferred."""

from __future__ import annotations

from pathlib import Path

import streamlit as st
from dmpo_explore_app.services.race_data import RaceData

HERE = Path(__file__).parent
_component = st.components.v2.component(
    "dmpo_explore.race",
    html='<figure class="race"><canvas role="img"></canvas></figure>',
    css=(HERE / "race.css").read_text(encoding="utf-8"),
    js=(HERE / "race.js").read_text(encoding="utf-8"),
)


def race(data: RaceData, key: str) -> None:
    _component(key=key, data=data)
