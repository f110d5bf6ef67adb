"""The app's entry: `scripts/app`, or `dmpo-explore app`. In: nothing. Out: the pages, one file each under views/."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

HERE = Path(__file__).parent

st.set_page_config(page_title="DMPO explore", page_icon=str(HERE / "icon.svg"), layout="wide")
pages = [st.Page("views/explore.py", title="Explore", icon=":material/tune:", default=True)]
st.navigation(pages, position="top").run()
