"""Live figures: they follow their controls, keep what they show, and become pictures where asked to."""

from __future__ import annotations

import base64
import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import pytest
from PIL import Image

from dmpo_explore.course import interactive
from dmpo_explore.course.interactive import INK, _Renderer, choice, live, picture, slider
from dmpo_explore.figures.style import image_address

pytestmark = pytest.mark.slow  # seconds each: scripts/check runs them


def line(height: float, kind: str = "lines") -> tuple[go.Figure, str]:
    return go.Figure(go.Scatter(y=[0, height], mode=kind)), f"height {height}"


def test_the_figure_follows_its_controls() -> None:
    shown = live(line, height=slider("height", 0.0, 10.0, 4.0), kind=choice("kind", ["lines", "markers"]))
    assert list(shown.figure.data[0].y) == [0, 4] and shown.figure.layout.title.text == "height 4.0"
    shown.controls["height"].value = 7.0
    shown.controls["kind"].value = "markers"
    trace = shown.figure.data[0]
    assert (list(trace.y), trace.mode, shown.figure.layout.title.text) == ([0, 7], "markers", "height 7.0")


def test_a_long_line_above_a_figure_is_broken_and_takes_no_height_from_it() -> None:
    def draw(words: int) -> tuple[go.Figure, str]:
        return go.Figure(go.Scatter(y=[0, 1])), " ".join(["threshold"] * words)

    shown = live(draw, words=slider("words", 1, 40, 3))
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

    shown = live(draw, marked=slider("marked", 0, 3, 2))
    for marked in (0, 3, 1, 0):
        shown.controls["marked"].value = marked
        assert [shape.x0 for shape in shown.figure.layout.shapes or ()] == list(range(marked))
    assert shown.figure.layout.height == 380


def test_a_slider_of_integers_gives_integers() -> None:
    assert isinstance(slider("k", 1, 6, 2).value, int) and isinstance(slider("x", 0.0, 1.0, 0.5).value, float)


def test_pictures_are_made_only_where_they_are_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTEBOOK_PICTURES", raising=False)
    shown = live(line, height=slider("height", 0, 10, 4))
    assert "image/png" not in shown._repr_mimebundle_()


@pytest.mark.browser
def test_pale_bands_and_images_keep_their_colours_in_a_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTEBOOK_PICTURES", "1")
    pale = ["#d1e6f1", "#d1eee6", "#efe2d7"]
    bands = [go.Bar(x=[k], y=[1], marker={"color": colour}) for k, colour in enumerate(pale)]
    png = base64.b64decode(picture(go.Figure(bands))["image/png"])
    pixels = np.random.default_rng(0).integers(256, size=(40, 40, 3), dtype=np.uint8)
    photograph = {"source": image_address(pixels, 4), "xref": "paper", "yref": "paper", "y": 1, "sizex": 1, "sizey": 1}
    many = base64.b64decode(picture(go.Figure(layout={"images": [photograph]}))["image/png"])
    interactive._kaleido().stop_sync_server(silence_warnings=True)
    interactive._kaleido.cache_clear()
    shown = Image.open(io.BytesIO(png)).convert("RGB").getcolors(1 << 20)
    often = {f"#{r:02x}{g:02x}{b:02x}" for count, (r, g, b) in shown if count > 10_000}
    assert {*pale} <= often
    palette = Image.open(io.BytesIO(many)).getcolors(256)
    assert palette is not None and len(palette) > 64  # an image has more colours than bands


def test_a_figure_has_a_white_ground_and_dark_words() -> None:
    drawn = _Renderer().to_mimebundle(go.Figure(go.Scatter(y=[0, 1])).to_dict())["application/vnd.plotly.v1+json"]
    assert (drawn["layout"]["paper_bgcolor"], drawn["layout"]["font"]["color"]) == ("white", INK)


def test_a_saved_figure_holds_no_copy_of_plotlys_javascript() -> None:
    shown = live(line, height=slider("height", 0.0, 10.0, 4.0))
    (sent,) = shown.output.outputs
    assert sent["data"][interactive.PLOTLY]["data"][0]["y"] == [0, 4.0]
    assert len(str(shown.output.get_state())) < 50_000


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ("", "notebook_with_picture False"),
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
