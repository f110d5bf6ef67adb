"""The race's script by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dmpo_explore_app.components.race import HERE

if TYPE_CHECKING:
    from playwright.sync_api import Browser


def test_it_keeps_the_images_that_run_and_no_others(browser: Browser) -> None:
    """A minute of Live: every second 32 images that have not been there before."""
    code = (HERE / "race.js").read_text(encoding="utf-8").replace("export default", "void")
    page = browser.new_page()
    page.set_content('<figure class="race"><canvas></canvas></figure>')
    kept, running = page.evaluate(f"""() => {{ {code}
        const race = new Race(document.querySelector(".race")), start = performance.now();
        const lanes = {{gates: [0.5, 1], colours: ["red", "blue"], counts: [1, 1], speed_up: 2, lanes: ["a", "b"]}};
        for (let second = 0; second < 60; second++) {{
            const src = (i) => `data:image/gif,${{32 * second + i}}`, facts = {{exit: 1, correct: true, full: true}};
            const runners = Array.from({{length: 32}}, (_, i) => ({{src: src(i), ...facts}}));
            race.receive({{...lanes, running: true, alt: "", runners}});
            race.draw(start + 1000 * second);
        }}
        const running = [...race.data.runners, ...race.lanes.flatMap(({{out}}) => out.map(({{runner}}) => runner))];
        race.close();
        return [[...race.pictures.keys()], running.map(({{src}}) => src)];
    }}""")
    page.close()
    assert set(running) > {f"data:image/gif,{32 * 59 + i}" for i in range(32)}  # earlier ones are on their way
    assert set(running) <= set(kept)
    assert len(kept) < 4 * 32  # those that have arrived since stay until data come
