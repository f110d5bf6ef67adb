"""Generate the reference: command line from the program, config fields from the dataclasses, API from docstrings.

Out: Markdown files below ``reference/``. Nothing here is written twice: a new option, field or public name appears by
itself, and a test names one that does not.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import typer.main

import dmpo_explore as dx
from dmpo_explore.cli import app
from dmpo_explore.config import Config
from dmpo_explore.utils.options import Option, options_of

TASKS = {  # what one wants to do → packages and modules, in the order of the work
    "Bring images and a model": ("config", "data", "pretrained", "models", "plugins"),
    "Train": ("training", "runs", "jobs", "search", "slimming"),
    "Record and decide": ("records", "policies", "fitting", "analysis"),
    "Run and publish": ("inference", "web"),
    "Look": ("figures", "attribution", "inspection", "course"),
    "Other methods": ("neighbours.online_thresholds", "neighbours.trajectory_search"),
}
MODULES = {  # modules with public names: the title of their page, and what it says first
    "config": (
        "dx.Config", "Configuration of a run: frozen dataclasses with a JSON round trip. [Their fields](../config.md)."
    ),
    "plugins": ("Plug-ins", "Modules that add parts: [Extending](../../extending.md)."),
}  # fmt: skip
PACKAGES = tuple(name for names in TASKS.values() for name in names if name not in MODULES)
COMMAND = "dmpo-explore"


# -- command line --


def cli_page() -> str:
    """The page of the command line: every command with its help and its options, by panel."""
    group = typer.main.get_command(app)
    context = group.make_context(COMMAND, [], resilient_parsing=True)
    names = group.list_commands(context)  # type: ignore[attr-defined]
    lines = [
        "# Command line",
        "",
        f"`{COMMAND} COMMAND --help` prints the same. Results go to stdout, progress and errors to stderr; with "
        "`--json` stdout is JSON only. Exit status: 0 done, 1 failed (one line gives the reason), 2 wrong usage, "
        "130 stopped by Ctrl-C.",
        "",
        "| command | does |",
        "|---|---|",
    ]
    commands = {name: group.get_command(context, name) for name in names}  # type: ignore[attr-defined]
    lines += [f"| [`{name}`](#{name}) | {_cell(_first_paragraph(found.help))} |" for name, found in commands.items()]
    lines += ["", f"## `{COMMAND}` {{ #root }}", "", *_options_table(group.params)]
    for name, found in commands.items():
        lines += ["", f"## {name}", "", "```text", _usage(name, found), "```", "", _prose(found.help)]
        for panel, params in _panels(found.params).items():
            lines += ["", f"**{panel}**", "", *_options_table(params)]
    return "\n".join(lines) + "\n"


def _usage(name: str, command: Any) -> str:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    shown = [p.metavar or p.name.upper() for p in arguments]
    return " ".join([COMMAND, name, *shown, "[OPTIONS]"])


def _panels(params: list[Any]) -> dict[str, list[Any]]:
    panels: dict[str, list[Any]] = {}
    for param in params:
        usual = "Arguments" if param.param_type_name == "argument" else "Options"
        panels.setdefault(getattr(param, "rich_help_panel", None) or usual, []).append(param)
    return panels


def _options_table(params: list[Any]) -> list[str]:
    rows = ["| option | value | meaning |", "|---|---|---|"]
    for param in params:
        spelled = [*param.opts, *param.secondary_opts]
        flag, value = getattr(param, "is_flag", False), f"`{param.metavar or _type_name(param)}`"
        if param.param_type_name == "argument":
            spelled, value = [param.metavar or param.name.upper()], ""
        default = param.default
        shown = "" if callable(default) or default in (None, False, True, (), []) or flag else f" Default: `{default}`."
        help_text = _cell(param.help or "") + ("" if "Default:" in (param.help or "") else shown)
        variable = getattr(param, "envvar", None)
        rows.append(
            f"| {_cell(', '.join(f'`{one}`' for one in spelled))} | {'' if flag else _cell(value)} | {help_text}"
            f"{f' Environment: `{variable}`.' if variable else ''} |"
        )
    return rows


def _type_name(param: Any) -> str:
    """The type of an option in words; typer names it in one of two places, by its version."""
    kind = param.type.name if hasattr(param, "type") else param.type_descriptor.annotation
    (inner,) = typing.get_args(kind)[:1] or (kind,)
    name = getattr(inner, "__name__", str(inner)).removesuffix(" range")
    words = {"str": "text", "int": "integer", "float": "number", "Path": "path"}
    return words.get(name, name) + (" (may be repeated)" if param.multiple else "")


def _prose(text: str | None) -> str:
    return inspect.cleandoc((text or "").replace("\b", "").replace("\f", ""))


def _first_paragraph(text: str | None) -> str:
    return " ".join(_prose(text).split("\n\n")[0].split())


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


# -- config --


def config_page() -> str:
    """The page of the config: every field with its option, choices, bounds and default."""
    lines = [
        "# Config fields",
        "",
        "A run's `config.json` has three parts. Each field is also an option of `dmpo-explore train`, of `search`, and "
        "of the app's training form. In Python: [`dx.Config`](api/config.md).",
    ]
    for part in dataclasses.fields(Config):
        kind = type(getattr(Config(), part.name))
        if not dataclasses.is_dataclass(kind):  # what is no choice: the plug-ins of a run
            continue
        lines += [
            "",
            f"## {part.name}",
            "",
            f"[`dx.{kind.__name__}`](api/config.md): {_first_paragraph(kind.__doc__)}",
            "",
        ]
        lines += ["| field | option | default | meaning |", "|---|---|---|---|"]
        lines += [_field_row(found) for found in options_of(kind).values()]
    return "\n".join(lines) + "\n"


def _field_row(found: Option) -> str:
    spelled = f"`--{found.spelling}`" + (f", `--no-{found.spelling}`" if isinstance(found.default, bool) else "")
    default = f"`{found.shown_default}` {found.unit}".rstrip() if found.shown_default else "none"
    bounds = f" Must {found.bounds}." if found.bounds else ""
    return f"| `{found.name}` | {spelled} | {default} | {_cell(found.described() + bounds)} |"


# -- Python --


def public_names(package: str) -> list[str]:
    """The public names of ``dx.PACKAGE``, or of ``dx`` for an empty text, without modules."""
    module = _module(package)
    return [name for name in module.__all__ if not isinstance(getattr(module, name), ModuleType)]


def _module(package: str) -> ModuleType:
    """``dx.PACKAGE``, which may lie on the shelf (`dmpo_explore.neighbours`); ``dx`` for an empty text."""
    if "." in package or package in MODULES:
        return importlib.import_module(f"dmpo_explore.{package}")
    module: ModuleType = getattr(dx, package) if package else dx
    return module


def api_pages() -> dict[str, str]:
    """File name → text of the pages of the API: one for each package, one for the config, and an index."""
    pages = {f"{package}.md": _package_page(package) for package in PACKAGES}
    for module, (title, about) in MODULES.items():
        names = [name for name in public_names("") if _home("", name) == module]
        shown = (f"::: dmpo_explore.{module}.{name}\n" for name in names)
        pages[f"{module}.md"] = "\n".join([f"# {title}", "", about, "", *_example(_module(module)), *shown])
    pages["index.md"] = _index_page()
    return pages


def documented(package: str) -> list[str]:
    """Dotted paths of what the page of ``package`` shows: its public names, and those of ``dx`` that it defines."""
    own = [name for name in public_names(package) if _home(package, name) in (package, "")]
    extra = [name for name in public_names("") if _home("", name) == package and name not in public_names(package)]
    return [_path(package, name) for name in own] + [_defined(name) for name in extra]


def _path(package: str, name: str) -> str:
    """The dotted path of a public name of ``package``; a function named as its module is shown, not the module."""
    module = _module(package)
    path = f"{module.__name__}.{name}"
    return f"{path}.{name}" if Path(str(module.__file__)).with_name(f"{name}.py").exists() else path


def _package_page(package: str) -> str:
    module = _module(package)
    about = _prose(module.__doc__).partition("\n\nExample:")[0].replace("`dx.figures`", "[`dx.figures`](figures.md)")
    lines = [f"# dx.{package}", "", about, "", *_example(module)]
    paths = documented(package)
    lines += ["| name | is |", "|---|---|", *(f"| [`{p.rsplit('.')[-1]}`][{p}] | {_what(p)} |" for p in paths), ""]
    return "\n".join(lines + [f"::: {path}\n" for path in paths])


def _example(module: ModuleType) -> list[str]:
    """The example of a module's docstring, as a block."""
    example = inspect.cleandoc(_prose(module.__doc__).partition("\nExample:\n")[2])
    return ["```pycon", re.sub(r"  # doctest: \+SKIP$", "", example, flags=re.MULTILINE), "```", ""]


def _index_page() -> str:
    lines = [
        "# Python API",
        "",
        "```python",
        "import dmpo_explore as dx",
        "```",
        "",
        "Every name below is `dx.NAME`. Other names of a package are `dx.PACKAGE.NAME`. Names load on first use, and "
        "reading a record never imports torch. All examples are run by the tests.",
        "",
        "Shapes: B images, K exits, N tokens, D width, C classes. Exits count from 0 in Python.",
    ]
    for package in (name for names in TASKS.values() for name in names):
        lines += [f"\n## {task}" for task, (first, *_) in TASKS.items() if first == package]
        names = [name for name in public_names("") if _home("", name) == package]
        title = _module(package).__doc__ or ""
        lines += ["", f"### [dx.{package}]({package}.md)", "", _first_paragraph(title)]
        if names:
            lines += ["", "| name | is |", "|---|---|"]
            lines += [f"| [`dx.{name}`][{_shown(package, name)}] | {_what(_shown(package, name))} |" for name in names]
    return "\n".join(lines) + "\n"


def _shown(package: str, name: str) -> str:
    if package in MODULES:
        return f"dmpo_explore.{package}.{name}"
    return _path(package, name) if name in public_names(package) else _defined(name)


def _imports(package: str) -> Iterator[tuple[str, str]]:
    """(module, name) of each line ``from .module import name as name`` of a package's ``__init__.py``."""
    module = _module(package)
    text = Path(str(module.__file__)).read_text(encoding="utf-8")
    for found in re.finditer(r"^    from (\.+[\w.]*) import (\w+) as \w+$", text, re.MULTILINE):
        yield found[1], found[2]


def _home(package: str, name: str) -> str:
    """The package in which a public name is defined."""
    where = next(module for module, found in _imports(package) if found == name)
    path = importlib.util.resolve_name(where, _module(package).__name__)
    inside = path.removeprefix("dmpo_explore").removeprefix(".")
    found = next((one for one in PACKAGES if f"{inside}.".startswith(f"{one}.")), inside.removeprefix("neighbours."))
    return found if found in PACKAGES else found.split(".")[0]


def _defined(name: str) -> str:
    """The dotted path at which a name of ``dx`` is defined."""
    where = next(module for module, found in _imports("") if found == name)
    return f"dmpo_explore{where}.{name}"


def _what(path: str) -> str:
    """The first sentence of a name's docstring, or the type of a constant."""
    module, _, name = path.rpartition(".")
    value = getattr(importlib.import_module(module), name)
    if not callable(value) or not (value.__doc__ or "").strip():
        return f"constant, {type(value).__name__}"
    first = _first_paragraph(value.__doc__)
    found = re.match(r"(.*?\.)(\s|$)", first)
    return _cell(found[1] if found else first)


def write_reference(folder: Path) -> list[str]:
    """Write all pages below ``folder/reference``; their names."""
    written = {"reference/cli.md": cli_page(), "reference/config.md": config_page()}
    written |= {f"reference/api/{name}": text for name, text in api_pages().items()}
    for name, text in written.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return list(written)
