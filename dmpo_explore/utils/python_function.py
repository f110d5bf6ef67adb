"""Names of functions in Python files, ``my_net.py:make``: a backbone of one's own is named by one."""

from __future__ import annotations

import re
from typing import NamedTuple

_NAME = re.compile(r"(.+\.py):([A-Za-z_]\w*)", re.DOTALL)


class PythonFunction(NamedTuple):
    """A function and the file that defines it."""

    file: str
    name: str


def python_function(text: str) -> PythonFunction | None:
    """The parts of ``FILE.py:NAME``; None for any other text.

    Example:
        >>> python_function("nets/my_net.py:make"), python_function("resnet18")
        (PythonFunction(file='nets/my_net.py', name='make'), None)
    """
    found = _NAME.fullmatch(text)
    return PythonFunction(found[1], found[2]) if found else None
