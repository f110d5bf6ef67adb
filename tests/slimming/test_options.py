"""Settings of a slimming: `options`."""

from __future__ import annotations

from typing import Any

import pytest

from dmpo_explore.slimming.options import SlimSettings


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"heads": 0.0}, r"heads=0.0 must lie in \(0, 1\]"),
        ({"ffn": 1.5}, r"ffn=1.5 must lie in \(0, 1\]"),
        ({"heads": 1.0, "ffn": 1.0}, "keep everything"),
        ({"steps": 0}, "steps=0 must be at least 1, or None"),
        ({"importance": "first"}, "unknown importance 'first'. Valid: all, last"),
        ({"epochs": 0}, "epochs=0 must be at least 1"),
        ({"lr": 0.0}, "lr=0.0 must be a finite number above 0"),
        ({"images": 0}, "images=0 must be at least 1"),
    ],
)
def test_bad_settings_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SlimSettings(**values)
