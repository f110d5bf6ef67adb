"""The app's layers: what each may import, where session keys live."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

APP = Path(__file__).parents[2] / "app"
# layer → what it may import of the app, besides itself; a lower line never imports a higher one
LAYERS = {
    "server": "poster preload access",
    "poster": "",
    "preload": "state services access",
    "views": "components state services messages access",
    "components": "state services messages access",
    "state": "services messages access",
    "services": "access",
    "messages": "access",
    "access": "",
    "dmpo_explore_app": "",  # where Streamlit finds the others
}
# what services may use of Streamlit: caches, options, and the place where a wait is shown
OF_STREAMLIT = {"cache_data", "cache_resource", "get_option"}
WIDGETS = {  # of Streamlit, whose key holds a value of the session
    "button", "checkbox", "download_button", "number_input", "pagination", "pills", "popover", "expander",
    "segmented_control", "select_slider", "selectbox", "multiselect", "slider", "text_input", "toggle",
    "file_uploader", "camera_input",
}  # fmt: skip
FILES = sorted(path.relative_to(APP).as_posix() for path in APP.rglob("*.py") if path.name != "main.py")


def layer(file: str) -> str:
    return file.split("/")[0].removesuffix(".py")


def tree(file: str) -> ast.Module:
    return ast.parse((APP / file).read_text(encoding="utf-8"))


def imports(file: str) -> Iterator[tuple[str, str]]:
    """Every imported module with the name that is taken from it, empty for a plain import."""
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} imports relatively"
            yield from ((node.module or "", alias.name) for alias in node.names)


def of_app(file: str) -> set[str]:
    """The layers of the app that a file imports."""
    found = set()
    for module, name in imports(file):
        if module == "dmpo_explore_app":
            found.add(name)
        elif module.startswith("dmpo_explore_app."):
            found.add(module.split(".")[1])
    return found


def test_every_file_has_a_layer() -> None:
    assert {layer(file) for file in FILES} - {"__init__"} == {*LAYERS}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_imports_only_lower_ones(name: str) -> None:
    allowed = {*LAYERS[name].split(), name}
    wrong = {file: of_app(file) - allowed for file in FILES if layer(file) == name}
    assert {file: found for file, found in wrong.items() if found} == {}


def test_the_table_names_only_lower_layers() -> None:
    order = list(LAYERS)
    assert [(a, b) for a, names in LAYERS.items() for b in names.split() if order.index(b) <= order.index(a)] == []


def test_a_name_stands_in_one_layer() -> None:
    """Files of Python, JavaScript and CSS, and folders; a view bears its page's name, which no other layer has."""
    found: dict[str, set[str]] = {}
    for path in APP.rglob("*"):
        parts = path.relative_to(APP).parts
        if (path.suffix in {".py", ".js", ".css"} and path.stem != "__init__") or path.is_dir():
            found.setdefault(path.stem, set()).add(parts[0].removesuffix(".py"))
    assert {name: layers for name, layers in found.items() if len(layers) > 1 and name != "__pycache__"} == {}


def test_a_view_bears_the_name_of_its_page() -> None:
    main = (APP / "main.py").read_text(encoding="utf-8")
    views = {path.stem for path in (APP / "views").glob("*.py")} - {"__init__"}
    assert views == set(re.findall(r'"views/(\w+)\.py"', main))


def test_the_library_is_imported_as_dx_alone() -> None:
    wrong = [
        (file, module)
        for file in FILES
        for module, name in imports(file)
        if module.split(".")[0] == "dmpo_explore" and (module, name) != ("dmpo_explore", "")
    ]
    assert wrong == []


def test_session_state_is_read_and_written_in_state_alone() -> None:
    attributes = [
        (file, node.lineno)
        for file in FILES
        if layer(file) != "state"
        for node in ast.walk(tree(file))
        if isinstance(node, ast.Attribute) and node.attr == "session_state"
    ]
    assert attributes == []


def test_keys_of_widgets_are_named_in_state() -> None:
    """A widget's key is a name of app/state, never a text of its own."""
    literal = [
        (file, node.lineno)
        for file in FILES
        if layer(file) != "state"
        for node in ast.walk(tree(file))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in WIDGETS
        for keyword in node.keywords
        if keyword.arg == "key" and isinstance(keyword.value, ast.Constant | ast.JoinedStr)
    ]
    assert literal == []


def test_services_draw_nothing() -> None:
    used = {
        (file, node.attr)
        for file in FILES
        if layer(file) == "services"
        for node in ast.walk(tree(file))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "st"
    }
    assert {(file, name) for file, name in used if name not in OF_STREAMLIT} == set()
