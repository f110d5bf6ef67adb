"""Live figures follow their controls and keep what they show; guesses are locked once, and drawn only then."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import plotly.graph_objects as go
import pytest

from dmpo_explore.course import interactive
from dmpo_explore.course.interactive import INK, Guess, Live, _Renderer, widgets

pytestmark = pytest.mark.slow  # seconds each: scripts/check runs them


def line(height: float, kind: str = "lines") -> tuple[go.Figure, str]:
    return go.Figure(go.Scatter(y=[0, height], mode=kind)), f"height {height}"


def test_the_figure_follows_its_controls() -> None:
    kind = widgets.ToggleButtons(options=["lines", "markers"])
    shown = Live(line, height=widgets.FloatSlider(4, max=10), kind=kind)
    assert [control.description for control in shown.controls.values()] == ["height", "kind"]
    assert list(shown.figure.data[0].y) == [0, 4] and shown.figure.layout.title.text == "height 4.0"
    shown.controls["height"].value = 7.0
    shown.controls["kind"].value = "markers"
    trace = shown.figure.data[0]
    assert (list(trace.y), trace.mode, shown.figure.layout.title.text) == ([0, 7], "markers", "height 7.0")


def test_a_long_line_above_a_figure_is_broken_and_takes_no_height_from_it() -> None:
    def draw(words: int) -> tuple[go.Figure, str]:
        return go.Figure(go.Scatter(y=[0, 1])), " ".join(["threshold"] * words)

    shown = Live(draw, words=widgets.IntSlider(3, 1, 40))
    assert "<br>" not in shown.figure.layout.title.text and (
        shown.figure.layout.height,
        shown.figure.layout.margin.t,
    ) == (380, 80)
    shown.controls["words"].value = 25
    assert shown.figure.layout.title.text.count("<br>") == 2 and shown.figure.layout.title.text.count("threshold") == 25
    assert max(map(len, shown.figure.layout.title.text.split("<br>"))) <= 102
    assert shown.figure.layout.height - shown.figure.layout.margin.t == 380 - 80
    shown.controls["words"].value = 3
    assert (shown.figure.layout.height, shown.figure.layout.margin.t) == (380, 80)


def test_shapes_of_an_earlier_figure_do_not_stay() -> None:
    def draw(marked: int) -> go.Figure:
        return go.Figure(go.Scatter(y=[0, 1])).update_layout(shapes=[{"type": "line", "x0": k} for k in range(marked)])

    shown = Live(draw, marked=widgets.IntSlider(2, 0, 3))
    for marked in (0, 3, 1, 0):
        shown.controls["marked"].value = marked
        assert [shape.x0 for shape in shown.figure.layout.shapes or ()] == list(range(marked))
    assert shown.figure.layout.height == 380


def test_a_figure_has_a_white_ground_and_dark_words() -> None:
    drawn = _Renderer().to_mimebundle(go.Figure(go.Scatter(y=[0, 1])).to_dict())["application/vnd.plotly.v1+json"]
    assert (drawn["layout"]["paper_bgcolor"], drawn["layout"]["font"]["color"]) == ("white", INK)


def test_a_saved_figure_holds_no_copy_of_plotlys_javascript() -> None:
    shown = Live(line, height=widgets.FloatSlider(4, max=10))
    (sent,) = shown.output.outputs
    assert sent["data"][interactive.PLOTLY]["data"][0]["y"] == [0, 4.0]
    assert len(str(shown.output.get_state())) < 50_000


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ("", "on_white False"),
        ("import types; colab = types.ModuleType('google.colab'); sys.modules['google.colab'] = colab; "
         "colab.output = types.SimpleNamespace(enable_custom_widget_manager=lambda: told.append(1))", "True"),
    ],
)  # fmt: skip
@pytest.mark.slow
def test_colab_keeps_its_renderer_and_shows_widgets(before: str, expected: str, tmp_path: Path) -> None:
    code = f"import sys; told = []; {before}\nimport plotly.io as pio, dmpo_explore.course.interactive\n"
    code += "print('' if told else pio.renderers.default, bool(told))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout.strip() == expected


def test_a_missing_extra_is_named() -> None:
    code = "import sys; sys.modules['ipywidgets'] = None\nimport dmpo_explore.course\n"
    code += "try:\n    import dmpo_explore.course.interactive\nexcept ImportError as error:\n    print(error)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 'needs ipywidgets, which is not installed: pip install "dmpo-explore[notebooks]"' in done.stdout


def test_a_guess_has_no_value_until_it_is_locked_and_keeps_it_afterwards() -> None:
    asked = Guess("How many?", 0, 10)
    asked.control.value = 7.0
    assert asked.value is None
    asked.button.click()
    assert asked.value == 7.0 and asked.button.disabled and asked.control.disabled


@pytest.mark.parametrize(("axis", "shape"), [("y", ("y0", "y1")), ("x", ("x0", "x1"))])
def test_a_locked_number_is_a_line_across_the_axis(axis: str, shape: tuple[str, str]) -> None:
    asked, figure = Guess("How many?", 0, 10), go.Figure(go.Scatter(y=[1, 2]))
    assert not asked.on(figure, axis).layout.shapes
    asked.control.value = 3.0
    asked.lock()
    (line,) = asked.on(figure, axis).layout.shapes
    assert [line[end] for end in shape] == [3.0, 3.0]


def test_a_locked_word_stands_above_the_figure() -> None:
    asked = Guess("Which?", "bypass", "predictor")
    asked.control.value = "predictor"
    asked.lock()
    (note,) = asked.on(go.Figure()).layout.annotations
    assert note.text == "your guess: predictor"
