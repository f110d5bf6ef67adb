"""The app's package as Streamlit finds it: a script's own folder is searched first, so this clone runs its own app.

In: the folder of this file. Out: that folder as the package ``dmpo_explore_app`` and, in a clone, its library too, for
this process and those that it starts; whatever is installed.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

_FOLDER = Path(__file__).resolve().parent
__path__ = [str(_FOLDER)]
if (_FOLDER.parent / "pyproject.toml").is_file():  # a clone, no wheel
    _CLONE = str(_FOLDER.parent)
    sys.path.insert(0, _CLONE)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (_CLONE, os.environ.get("PYTHONPATH"))))
