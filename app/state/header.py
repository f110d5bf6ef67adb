"""Session state of the header of every page: keys of its widgets."""

RUNS = "runs_list"  # of the popover
FIND = "find_runs"
ENTRY = "hidden_entry"  # style.css gives it no room


def runs_key(name: str) -> str:
    """Key of the button that shows run ``name``."""
    return f"{RUNS} {name}"
