"""Plug-ins: modules that add entries to joints, loaded alike in every process.

In: a file (``--plugin FILE.py``, `load_plugin`), the files of DMPO_EXPLORE_PLUGINS, and the entry points of the group
``dmpo_explore.plugins``. Out: entries in joints (`dmpo_explore.joints`), and which plug-in added them. The environment
reaches every child process, so a training's processes, search workers and jobs of the app load the same files. Nothing
else loads code: a run states what it needs, by name and SHA-256 (`plugin_needs`), and never loads it by itself.

Example:
    >>> import dmpo_explore as dx
    >>> dx.load_plugin("examples/renyi_policy.py")  # doctest: +SKIP
    >>> "confidence" in dx.POLICIES
    True
"""

from __future__ import annotations

import hashlib
import importlib
import os
import pkgutil
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.machinery import SourceFileLoader
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

from .config import OPTIONS, ModelConfig, TrainingConfig
from .joints import JOINTS
from .plugin_needs import LOADED, NAME, VARIABLE, Plugin
from .utils.files import expanded
from .utils.registry import Joint, TakenNameError, python_function
from .utils.texts import one_line, short

GROUP = "dmpo_explore.plugins"
MODULES = "dmpo_explore_plugins"  # where the modules of files are, in `sys.modules`
LARGEST = 2**20  # bytes of a plug-in's file


def load_plugin(path: str | Path) -> Plugin:
    """Load a plug-in from its file, here and in every process that this one starts; loaded before, it stays as it is.

    Args:
        path: a Python file; its name without ``.py`` is the plug-in's.

    Raises:
        FileNotFoundError: no such file. ValueError: a file that is no Python file or too large, an entry whose name is
            taken, another plug-in of that name, or one that has changed since it was loaded.
        ImportError: an exception while it ran, named; its entries are removed.

    Example:
        >>> import dmpo_explore as dx, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "flat.py"
        ...     _ = file.write_text("from dmpo_explore.joints import COMMANDS\\nCOMMANDS['hello'] = print")
        ...     load_plugin(file).name
        'flat'
        >>> unload("flat")
    """
    found = _load(path)
    known = [name for name in os.environ.get(VARIABLE, "").split(os.pathsep) if name]
    os.environ[VARIABLE] = os.pathsep.join(dict.fromkeys([*known, found.path]))
    return found


def load_backbone(name: str) -> str:
    """Load the file of a backbone ``FOLDER/my_net.py:make`` as a plug-in; returns its name in a config, without folder.

    Any other name is returned as it is, and so is one without a folder whose file is not there, if a plug-in of that
    name is loaded.

    Raises:
        As `load_plugin`.
    """
    function = python_function(name)
    if function is None:
        return name
    file = Path(function.file)
    if len(file.parts) > 1 or file.is_file() or file.stem not in LOADED:
        load_plugin(file)
    return f"{file.name}:{function.name}"


def _load(path: str | Path) -> Plugin:
    file = expanded(path).absolute()
    if not file.is_file():
        raise FileNotFoundError(f"no plug-in {path}: no such file")
    if file.suffix != ".py" or not NAME.fullmatch(file.stem):
        raise ValueError(f"plug-in {short(str(path))} must be a Python file, such as my_score.py")
    if file.stat().st_size > LARGEST:
        raise ValueError(f"plug-in {path} has more than {LARGEST // 2**20} MiB; it should add entries, not data")
    source = file.read_bytes()
    found = Plugin(file.stem, hashlib.sha256(source).hexdigest(), str(file), module=f"{MODULES}.{file.stem}")
    if before := LOADED.get(found.name):
        if before.sha256 == found.sha256:
            return before
        same = before.path == found.path
        what = "has changed since it was loaded: start Python anew" if same else "has the same name as a loaded one"
        raise ValueError(f"plug-in {found.path} {what} (loaded: {before.path}, SHA-256 {before.sha256[:12]}…)")
    if found.module in sys.modules:
        raise ValueError(f"plug-in {found.path} loads itself, or a plug-in that loads it")
    loader = SourceFileLoader(found.module, found.path)
    spec = spec_from_file_location(found.module, found.path, loader=loader)
    assert spec is not None
    module = module_from_spec(spec)
    with _adding(found, str(path)):
        sys.modules[found.module] = module  # where dataclasses and pickle look
        exec(loader.source_to_code(source, found.path), module.__dict__)  # the bytes that were hashed
    return found


@contextmanager
def _adding(found: Plugin, said: str) -> Iterator[None]:
    """Take entries as those of a plug-in; one that fails leaves none behind, and takes none of others away."""
    before = {kind: dict(joint) for kind, joint in JOINTS.items()}
    try:
        with Joint.adding(found.name):
            yield
        for kind, joint in JOINTS.items():
            if lost := joint.put_back(before[kind]):
                raise TakenNameError(f"{kind} {lost[0]!r} is not its own; it may not be removed")
        for part in (ModelConfig, TrainingConfig):
            part.check_groups()
        spelled = [option.spelling for option in OPTIONS.values()]
        if twice := [name for name in spelled if spelled.count(name) > 1]:
            raise TakenNameError(f"option --{twice[0]} exists already; rename it")
    except BaseException as error:  # sys.exit() in it would end a command that has done nothing
        unload(found.name)
        for kind, joint in JOINTS.items():
            joint.put_back(before[kind])
        if isinstance(error, KeyboardInterrupt):
            raise
        if isinstance(error, TakenNameError):
            raise ValueError(f"plug-in {said}: {error}") from error
        raise ImportError(f"plug-in {said} failed: {type(error).__name__}: {one_line(error)}") from error
    LOADED[found.name] = found


def unload(name: str) -> None:
    """Take a plug-in's entries away again, here and in processes that this one starts."""
    if name in LOADED and (known := os.environ.get(VARIABLE)):
        os.environ[VARIABLE] = os.pathsep.join(path for path in known.split(os.pathsep) if path != LOADED[name].path)
    for joint in JOINTS.values():
        for entry in [entry for entry, origin in joint.origins.items() if origin == name]:
            joint.origins.pop(entry)
            if entry in joint:  # else the plug-in took it away itself
                del joint[entry]
    LOADED.pop(name, None)
    sys.modules.pop(f"{MODULES}.{name}", None)


def load_all() -> None:
    """Load the shelf, the plug-ins of DMPO_EXPLORE_PLUGINS, and those of installed packages; a broken one warns."""
    shelf = importlib.import_module(".neighbours", __package__)
    for module in pkgutil.iter_modules(shelf.__path__):
        importlib.import_module(f"{shelf.__name__}.{module.name}")
    for path in os.environ.get(VARIABLE, "").split(os.pathsep):
        if path:
            _try(partial(_load, path))
    for entry in entry_points(group=GROUP):
        _try(partial(_load_installed, entry))


def _load_installed(entry: EntryPoint) -> None:
    if entry.name in LOADED:
        raise ValueError(f"plug-in {entry.name!r} is loaded already, from {LOADED[entry.name].path}")
    try:
        spec = find_spec(entry.module)
    except ModuleNotFoundError:  # of its package
        spec = None
    if spec is None or spec.origin is None:
        raise ImportError(f"plug-in {entry.name} ({entry.value}): there is no module {entry.module}")
    digest = hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest()
    with _adding(Plugin(entry.name, digest, spec.origin, installed=True, module=entry.module), entry.name):
        entry.load()


def _try(load: Callable[[], object]) -> None:
    try:
        load()
    except (ValueError, OSError, ImportError) as error:
        warnings.warn(f"{one_line(error)}; it is left out", stacklevel=3)
