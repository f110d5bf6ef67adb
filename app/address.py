"""The page's address ⇄ the widgets' state: a link shows what its sender saw.

In: the query parameters, which anybody can write. Out: values in ``st.session_state``, to be checked before a widget
gets them (`widgets.settle`). Ours: the address wins whenever it was changed from outside (a link, the back button),
otherwise the widgets win and rewrite it.
"""

from __future__ import annotations

from collections.abc import Iterable

import streamlit as st

LONGEST = 100  # of one value; names of runs are not longer
_SEEN = "_address"


def follow(keys: Iterable[str]) -> bool:
    """Take over the address into the widgets' state if it is not the one that `write` left there.

    Returns:
        whether it was taken over. All of ``keys`` are set then, to None where the address says nothing.
    """
    now = {key: st.query_params[key][:LONGEST] for key in keys if key in st.query_params}
    if now == st.session_state.get(_SEEN):
        return False
    st.session_state[_SEEN] = now
    for key in keys:
        st.session_state[key] = now.get(key)
    return True


def write(**values: str) -> None:
    """Bring the address up to date; where there is none yet it stays bare until something is changed."""
    first = _SEEN not in st.session_state or st.session_state[_SEEN] == {}
    if first and st.session_state.setdefault("_bare", values) == values:
        return
    if values != st.session_state.get(_SEEN):
        st.session_state[_SEEN] = values
        st.query_params.from_dict(values)
