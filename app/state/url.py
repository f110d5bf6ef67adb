"""The page's address and the widgets' state, kept equal: a link shows what its sender saw. The address, which anybody
can write, wins where it was changed from outside (a link, the back button); otherwise the widgets win."""

from __future__ import annotations

from collections.abc import Iterable

import streamlit as st

LONGEST = 2000  # of one value: thresholds, the names of some runs, or a region
_SEEN, _PAGE = "_address", "_address_of"
_BARE = "_address_bare"  # page → what its bare address shows
_CHOSEN = "_address_chosen"  # whether any page showed something else than its bare address


def follow(keys: Iterable[str]) -> bool:
    """Take over the address into the widgets' state, and return True, if it is not the one that `write` left on this
    page. All of ``keys`` are set then, to None where the address has no value. After a change of page by the menu, so
    without parameters, the page is as it was left."""
    keys = tuple(keys)
    came_from, st.session_state[_PAGE] = st.session_state.get(_PAGE, keys), keys
    now = {key: st.query_params[key][:LONGEST] for key in keys if key in st.query_params}
    if came_from != keys and not now:
        st.session_state[_SEEN] = {}  # so that `write` stores what the page shows, unless that is its first view
        _carry_over(keys)
        return False
    if now == st.session_state.get(_SEEN) and came_from == keys:
        return False
    st.session_state[_SEEN] = now
    if now:
        st.session_state[_CHOSEN] = True
    else:
        st.session_state.setdefault(_BARE, {}).pop(keys, None)  # to be learned by `write`
    for key in keys:
        st.session_state[key] = now.get(key)
    return True


def _carry_over(keys: tuple[str, ...]) -> None:
    """Hand the state to the widgets of the page that was just opened: for Streamlit they are other ones than those with
    the same key elsewhere, and unless their values are set again the browser sends the first option."""
    state = st.session_state
    state.update({key: state[key] for key in keys if key in state})
    if state.get(_CHOSEN):  # in a new session the bare address would show something else
        state.setdefault(_BARE, {}).setdefault(keys, {})


def keep_choices() -> None:
    """Something is chosen that the bare address of no page shows."""
    st.session_state[_CHOSEN] = True


def write(**values: str) -> None:
    """Bring the address up to date; a bare one stays bare until something is changed. A value that `follow` would cut
    is left out."""
    values = {key: value for key, value in values.items() if len(value) <= LONGEST}
    first = _SEEN not in st.session_state or st.session_state[_SEEN] == {}
    bare: dict[object, dict[str, str]] = st.session_state.setdefault(_BARE, {})
    if first and bare.setdefault(st.session_state.get(_PAGE), values) == values:
        return
    bare.setdefault(st.session_state.get(_PAGE), {})  # opened by a link: bare it would show something else
    if values != st.session_state.get(_SEEN):
        st.session_state[_SEEN], st.session_state[_CHOSEN] = values, True
        st.query_params.from_dict(values)
