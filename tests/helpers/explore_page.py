"""The Explore page in Streamlit's AppTest: open it, read what it hands to its components, set what they would set."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from dmpo_explore_app.state import sent
from made_up import MAIN
from streamlit.testing.v1 import AppTest
from visiting import address_of as address_of
from visiting import checked, opened

import dmpo_explore as dx


def without_browser(monkeypatch: pytest.MonkeyPatch) -> None:
    """No browser keeps what was sent: all of it is sent at every drawing."""
    monkeypatch.setattr(sent, "lacking", list)


def start(**address: str) -> AppTest:
    """The start page as a link with these parameters shows it."""
    return opened(MAIN, **address)


def handed(app: AppTest, component: str) -> list[Any]:
    """What the page hands to all its components of this name."""
    found = [one.proto for one in app.get("bidi_component") if one.proto.component_name == f"dmpo_explore.{component}"]
    return [json.loads(one.json or one.bytes[16:]) for one in found]


def slider(app: AppTest) -> dict[str, Any]:
    """All that the slider draws: what moves with it and what stays; empty where the page has none."""
    lasting = next((given for given in handed(app, "supplies") if "sliders" in given), {})
    return next(iter(handed(app, "threshold_slider")), {}) | lasting


def cards(app: AppTest) -> dict[str, str]:
    """The two numbers beside the slider, as its script makes them of the counts where it stands."""
    if not (found := slider(app)):
        return {}
    if not found["sliders"]:
        return in_words(found["full"]["accuracy"], found["full"]["compute"])
    line, place = found["sliders"][0], found["places"][0]
    row = np.array((line["some"] or line["counts"])[place]).reshape(-1, 2)
    return in_words(row[:, 0].sum() / row.sum(), row.sum(axis=1) @ np.array(found["costs"]) / row.sum())


def in_words(accuracy: float, compute: float) -> dict[str, str]:
    return {"Accuracy": f"{accuracy:.2%}", "Compute saved": f"{1 - compute:z.1%}".replace("-", "−")}


def saved(app: AppTest) -> float:
    """The compute that the card shows as saved, in percent."""
    return float(cards(app)["Compute saved"].replace("−", "-").rstrip("%"))


def none_early(run: str) -> float:
    """The compute saved on test where no image exits early, in percent, as `saved`."""
    return round(100 * (1 - float(dx.load_run(run).record("test").flops_fraction[-1])), 1)


def expected(run: str, split: str, policy: dx.Policy) -> dict[str, str]:
    return expected_of(dx.load_run(run).record(split), policy)


def expected_of(record: dx.ExitRecord, policy: dx.Policy) -> dict[str, str]:
    s = dx.summarise(record, policy.exits(record))
    return in_words(s["accuracy"], s["flops_fraction"])


def bodies(app: AppTest) -> list[str]:
    """The HTML of every exit's pictures, in order."""
    (shown,) = (given for given in handed(app, "clickable") if "images" in given)
    parts = [part if isinstance(part, str) else "".join(map(shown["images"].get, part)) for part in shown["parts"]]
    return "".join(parts).split('<div class="dx-exit"')[1:]


def html(app: AppTest) -> list[str]:
    """The HTML that is shown, and the one that can be clicked."""
    clicked = [part for given in handed(app, "clickable") for part in given["parts"] if isinstance(part, str)]
    return [str(element.proto.body) for element in app.get("html")] + clicked


def words(app: AppTest) -> str:
    """Captions and notices, and what the slider says of its policy and of where its thresholds come from."""
    found = [element.value for element in [*app.caption, *app.warning, *app.error, *app.info]]
    return "\n".join([*found, *(slider(app).get(name, "") for name in ("rule", "source"))]).replace("\\", "")


def tab(app: AppTest, view: str) -> AppTest:
    """Another tab, as a click on it opens it."""
    app.session_state["view"] = view
    return checked(app.run())


def stops(app: AppTest, number: int = 0) -> list[str]:
    return list(slider(app)["sliders"][number]["stops"])


def move(app: AppTest, place: int, number: int = 0) -> AppTest:
    """Slider ``number`` to a place among its stops."""
    thresholds = app.session_state["threshold"].split(",")
    thresholds[number] = stops(app, number)[place]
    app.session_state["threshold"] = ",".join(thresholds)
    return checked(app.run())


def shown_threshold(app: AppTest) -> float:
    return float(app.session_state["threshold"])


def shown_policy(app: AppTest) -> dx.Policy:
    """The policy on screen, as the library makes it."""
    state = app.session_state
    run, name = dx.load_run(state["run"]), state["policy"]
    thresholds = [float(number) for number in state["threshold"].split(",")]
    return dx.fit_policy(run.record("val"), name, threshold=thresholds)


def targeted(app: AppTest, key: str, value: float | None) -> AppTest:
    return checked(app.number_input(key=key).set_value(value).run())
