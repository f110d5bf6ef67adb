"""Files that a page of the documentation shows whole, or in part: blocks with a title."""

from __future__ import annotations

import re
from pathlib import Path


def titled_blocks(page: Path) -> dict[str, str]:
    """Title → code of every Python block that has one."""
    found = re.findall(r'```python title="([^"]+)"\n(.*?)```', page.read_text(encoding="utf-8"), re.DOTALL)
    return dict(found)
