"""Keys of the popovers and sections whose inside is drawn only while they are open, and of the list of runs."""

SHARE, COPY = "share", "copy link"
EXPLAINED = "explained"
SETTINGS = "settings"
LEARNED = "learned"
QUALITY = "quality"
POLICY = "policy_panel"
TARGETS = "targets_panel"
FILTERS = "filters_panel"
CURVES = "curves_panel"
RUNS, FIND_RUNS = "runs_list", "find_runs"  # in the header
ENTRY = "hidden_entry"  # style.css gives it no room


def key(*parts: object) -> str:
    """Key of one of several widgets of a kind: what it is, and what of."""
    return " ".join(map(str, parts))
