"""Names of run folders and of the files in them, which `check` expects and `hub` copies."""

from __future__ import annotations

import re

from ..records.validation import FILES, OPTIONAL
from .timings import TIMINGS
from .weights_file import WEIGHTS

RUN_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")  # what a run, or a split, may be called
RUN_FILES = ("config.json", WEIGHTS, "history.csv", "policies.json", "card.md", TIMINGS)
RECORD_FILES = ("meta.json", *FILES, *OPTIONAL)
