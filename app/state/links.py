"""Links to One image, from wherever an image is shown; their values are validated where they arrive."""

from __future__ import annotations

from urllib.parse import urlencode

from dmpo_explore_app.services.policies import OperatingPoint
from dmpo_explore_app.state import choices, operating_point

import dmpo_explore as dx

PAGE = "views/image.py"


def query(run: dx.Run, split: str, row: int, **more: str) -> dict[str, str]:
    """Parameters of the link to an image of a record; ``more``: policy, threshold, a target …"""
    return {choices.RUN: run.name, choices.SPLIT: split, **more, "image": str(row)}


def to_image(point: OperatingPoint, row: int) -> dict[str, str]:
    """Parameters of the link to an image under the operating point on screen."""
    more = {choices.POLICY: point.policy.name, **operating_point.thresholds_and_record(point)}
    return query(point.run, point.split, row, **more, **operating_point.settings())


def href(parameters: dict[str, str]) -> str:
    """The link as an address, relative to any page of the app; to be escaped in HTML."""
    return f"image?{urlencode(parameters)}"
