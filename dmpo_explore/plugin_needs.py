"""What a run needs: the plug-ins whose entries its config names, by name and SHA-256; `plugins` loads them."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .joints import JOINTS
from .utils.registry import Joint, python_function

VARIABLE = "DMPO_EXPLORE_PLUGINS"  # files, separated as in PATH
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class PluginNeed:
    """A plug-in that a run needs: its name, and the SHA-256 of its file."""

    name: str
    sha256: str


@dataclass(frozen=True)
class Plugin(PluginNeed):
    """A loaded plug-in. ``path``: its file. ``installed``: with a package, so that no command has to name it.
    ``module``: its name in `sys.modules`."""

    path: str
    installed: bool = False
    module: str = ""


LOADED: dict[str, Plugin] = {}  # by name


def needs_of(names: Iterable[object], parts: Iterable[type]) -> tuple[PluginNeed, ...]:
    """The plug-ins that added entries of these names or define such functions, or whose entries bring these dataclasses
    of options along."""
    wanted, kinds = {*map(str, names)}, {*parts}
    found = {
        origin
        for joint in JOINTS.values()
        for name, origin in joint.origins.items()
        if name in wanted or getattr(joint[name], "options", None) in kinds
    }
    found |= {Path(function.file).stem for name in wanted if (function := python_function(name))}
    return tuple(PluginNeed(name, LOADED[name].sha256) for name in sorted(found) if name in LOADED)


def file_to_name(joint: Joint[Any], name: str) -> str:
    """The file that has to be named (``--plugin``) for an entry of a joint; empty if none has."""
    found = LOADED.get(joint.origins.get(name, ""))
    return found.path if found and not found.installed else ""


def read_needs(values: Any) -> tuple[PluginNeed, ...]:
    """The plug-ins that a config states, from JSON values; ValueError naming what is wrong."""
    whole = isinstance(values, list) and all(isinstance(v, dict) and v.keys() == {"name", "sha256"} for v in values)
    if not whole or not all(
        isinstance(v["name"], str) and NAME.fullmatch(v["name"])
        and isinstance(v["sha256"], str) and SHA256.fullmatch(v["sha256"]) for v in values
    ):  # fmt: skip
        raise ValueError("plugins must be a list of objects with name and sha256")
    return tuple(PluginNeed(v["name"], v["sha256"]) for v in values)


def missing(needs: Iterable[PluginNeed]) -> list[str]:
    """Names of those that are not loaded."""
    return [need.name for need in needs if need.name not in LOADED]


def changed(needs: Iterable[PluginNeed]) -> list[str]:
    """Names of those that are loaded from a file of other content."""
    return [need.name for need in needs if need.name in LOADED and LOADED[need.name].sha256 != need.sha256]


def require(needs: Iterable[PluginNeed], what: str) -> None:
    """Raise ValueError for plug-ins of ``what`` (a run, in words) that are not loaded, and warn of changed ones."""
    needs = tuple(needs)
    if absent := missing(needs):
        raise ValueError(
            f"{what} needs the plug-in {', '.join(absent)}, which is not loaded; its records open without it. Give its "
            f"file: dmpo-explore --plugin {absent[0]}.py, or {VARIABLE}"
        )
    for need in needs:
        if (now := LOADED[need.name]).sha256 != need.sha256:
            warnings.warn(
                f"the plug-in {need.name} has changed since {what} was made: SHA-256 {need.sha256[:12]}…, "
                f"now {now.sha256[:12]}… ({now.path})",
                stacklevel=2,
            )


@contextmanager
def naming_changed(needs: Iterable[PluginNeed], what: str) -> Iterator[None]:
    """Errors inside name the plug-ins that have changed since ``what`` was made, a likely cause."""
    try:
        yield
    except ValueError as error:
        if not (names := changed(needs)):
            raise
        raise ValueError(f"{error} (the plug-in {', '.join(names)} has changed since {what} was made)") from error
