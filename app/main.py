"""The app's entry: `scripts/app`, or `dmpo-explore app`. In: nothing. Out: the pages, one file each under views/."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import streamlit as st
from dmpo_explore_app import preload
from dmpo_explore_app.components import app_header

HERE = Path(__file__).parent

st.set_page_config(page_title="DMPO explore", page_icon=str(HERE / "icon.svg"), layout="wide")
st.html(HERE / "style.css")
st.html(HERE / "narrow.css")
pages = {  # page → whether it shows one run
    st.Page("views/explore.py", title="Explore", icon=":material/tune:", default=True): True,
    (decide := st.Page("views/decide.py", title="Decide", icon=":material/balance:")): False,
    st.Page("views/image.py", title="One image", icon=":material/image_search:", url_path="image"): True,
    st.Page("views/live.py", title="Live", icon=":material/speed:"): True,
    st.Page("views/training.py", title="Training", icon=":material/model_training:"): True,
    (own := st.Page("views/own.py", title="Bring your own", icon=":material/folder_open:")): False,
}
former = [  # addresses of earlier versions
    st.Page(partial(app_header.lead_to, page, **more), url_path=path, title=page.title, visibility="hidden")
    for path, page, more in (("compare", decide, {}), ("data", own, {}), ("own-scores", own, {"bring": "scores"}))
]
page = st.navigation([*pages, *former], position="top")
runs = app_header.draw(page.title)
preload.wait()  # for what the page imports; its heading is there meanwhile
if runs.open:
    from dmpo_explore_app.components import run_list

    with runs:
        run_list.draw(pages.get(page, False))
page.run()
