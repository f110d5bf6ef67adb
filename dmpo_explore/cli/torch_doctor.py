"""The device that torch finds, for `dmpo-explore doctor`."""

from __future__ import annotations

from typing import Any

import torch


def device_facts() -> dict[str, Any]:
    """``device``: the GPU's name or ``cpu``; ``threads``: CPU threads that torch uses."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return {"device": device, "threads": torch.get_num_threads()}
