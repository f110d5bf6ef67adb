"""The Explore page in Streamlit's AppTest: open it, read it, move its widgets."""

from __future__ import annotations

from typing import Any

from made_up import MAIN
from streamlit.testing.v1 import AppTest
from visiting import address_of as address_of
from visiting import checked, opened

import dmpo_explore as dx


def start(**address: str) -> AppTest:
    """The start page as a link with these parameters shows it."""
    return opened(MAIN, **address)


def cards(app: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in app.metric}


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
    return {
        "Accuracy": f"{s['accuracy']:.2%}",
        "Compute saved": f"{1 - s['flops_fraction']:z.1%}".replace("-", "−"),
    }


def bodies(app: AppTest) -> list[str]:
    """The HTML of every exit's pictures, in order."""
    (shown,) = (body for body in html(app) if 'class="dx-shown"' in body)
    return shown.split('<div class="dx-exit"')[1:]


def html(app: AppTest) -> list[str]:
    return [str(element.proto.body) for element in app.get("html")]


def slider(app: AppTest, number: int = 0) -> Any:
    return app.select_slider(key=f"slider {number}")


def move(app: AppTest, place: int, number: int = 0) -> AppTest:
    """The slider to a place among its stops; what is drawn again for it alone is what the whole page shows."""
    places = range(len(slider(app, number).options))
    checked(slider(app, number).set_value(places[place]).run())
    alone = cards(app), html(app)
    checked(app.run())
    assert alone[0] == cards(app) and set(alone[1]) <= set(html(app))
    return app


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
