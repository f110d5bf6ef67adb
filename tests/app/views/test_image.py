"""One image: its numbers are the library's; an upload is answered or refused, and not kept outside its session."""

from __future__ import annotations

import contextlib
import html
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
import visiting
from axe import violations
from dmpo_explore_app.services import attribution_methods, images, model_queries, models
from made_up import HOSTILE, MAIN, save_run
from PIL import Image
from playwright.sync_api import expect
from sent_pictures import REFUSED, TAKEN
from serving import serving
from streamlit.testing.v1 import AppTest
from tiny import tiny_config
from visiting import WATCH, Server, Visit, checked

import dmpo_explore as dx
from dmpo_explore.analysis.decision_trace import most_probable, trace_decision
from dmpo_explore.analysis.novelty import crowd
from dmpo_explore.attribution.baselines import BASELINES
from dmpo_explore.attribution.catalogue import METHODS
from dmpo_explore.attribution.catalogue import REFUSED as NOT_OFFERED
from dmpo_explore.data.image_files import read_image
from dmpo_explore.data.torch_loaders import make_transform

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

VIEW = MAIN.parent / "views" / "image.py"


@pytest.fixture(scope="session")
def trained_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs root with a real, tiny model of three exits, and a made-up run without any. Not to be changed."""
    root = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DMPO_EXPLORE_RUNS", str(root))
        run = dx.train(tiny_config(200, {"exits": 3}, epochs=1), "tiny", device="cpu")
        for split in ("val", "test"):
            dx.record_run(run, split, device="cpu")
    save_run(root, "bare", images=60, class_name=HOSTILE)
    return root


@pytest.fixture
def root(trained_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`trained_root` as the library sees it, and a cache of its own for what is kept."""
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(trained_root))
    monkeypatch.setenv("DMPO_EXPLORE_CACHE", str(tmp_path / "cache"))
    models._shared().clear()
    return trained_root


def opened(**parameters: str) -> AppTest:
    return visiting.opened(VIEW, **parameters)


def said(app: AppTest) -> str:
    return "\n".join(e.value for e in [*app.warning, *app.error, *app.info]).replace("\\", "")


def bodies(app: AppTest) -> str:
    return "".join(str(element.proto.body) for element in app.get("html"))


def reason(app: AppTest) -> str:
    return html.unescape(re.findall(r'<p class="dx-why">(.*?) <b>', bodies(app))[0])


def address_of(app: AppTest) -> dict[str, str]:
    return {key: value if isinstance(value, str) else value[-1] for key, value in app.query_params.items()}


def press(app: AppTest, label: str) -> AppTest:
    (button,) = (button for button in app.button if button.label == label)
    return checked(button.click().run())


def tiny() -> tuple[dx.Run, dx.ExitRecord]:
    run = dx.load_run("tiny")
    return run, run.record("test")


# -- an image of the record --


@pytest.mark.parametrize("policy", ["confidence", "entropy", "patience", "gate"])
def test_a_recorded_image_says_what_the_record_knows(root: Path, policy: str) -> None:
    run, record = tiny()
    fitted = dx.fit_policy(run.record("val"), policy, flops=0.8)
    for row in (0, 7, 359 if record.n_images > 359 else record.n_images - 1):
        app = opened(run="tiny", policy=policy, threshold=str(fitted.thresholds[0]), image=str(row))
        found = trace_decision(record, fitted, row)
        assert found.exit == fitted.exits(record)[row]
        assert reason(app) == found.sentence()
        assert f"at {record.confidence[row, found.exit]:.1%}" in bodies(app)
        assert record.logits is not None
        classes, _ = most_probable(record.logits[row])
        cells = re.findall(r'title="([^":]*): [\d.]+%"', bodies(app))
        assert cells == [record.meta.class_names[classes[k, n]] for n in range(5) for k in range(3)]
        near = crowd(record).nearest(record.subset([row]), 10, without=row)
        assert re.findall(r'data-pick="image (\d+)"', bodies(app)) == [str(n) for n in near]
        assert not app.error and "cannot" not in said(app)


def test_no_model_is_loaded_for_what_the_record_knows(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "model", None)
    assert "Exits at" in (text := reason(opened(run="tiny", image="3"))) or "last exit" in text


def test_without_weights_the_record_still_answers_and_a_notice_names_the_fix(root: Path) -> None:
    app = opened(run="bare", image="5")
    record = dx.load_run("bare").record("test")
    policy = dx.fit_policy(dx.load_run("bare").record("val"), "confidence", flops=0.3)
    assert reason(app) == trace_decision(record, policy, 5).sentence()
    press(app, "Query the model for the other classes")
    assert "no weights yet" in said(app) and "dmpo-explore fetch" in said(app)
    assert reason(app) == trace_decision(record, policy, 5).sentence() and HOSTILE not in bodies(app)


def test_a_backbone_that_is_not_fetched_is_named(root: Path) -> None:
    """The cache is empty here."""
    app = opened(run="demo", image="5")
    assert "Most probable classes" in bodies(app)  # the record keeps logits
    press(app, "Explain every exit")
    assert "dmpo-explore fetch --backbone vit_small_patch14_dinov2" in said(app)


def test_the_model_is_asked_where_the_record_keeps_no_logits(root: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(root / "tiny", root / "short")
    try:
        for split in ("val", "test"):
            (root / "short" / "records" / split / "logits.npy").unlink()
        app = opened(run="short", image="4")
        assert "dx-best" not in bodies(app)
        press(app, "Query the model for the other classes")
        run, record = tiny()
        now = run.model("cpu")(run.inputs("test", [4]))[0].detach().numpy()
        classes, _ = most_probable(now.astype(np.float16))
        cells = re.findall(r'title="([^":]*): [\d.]+%"', bodies(app))
        assert cells[:3] == [record.meta.class_names[c] for c in classes[:, 0]]
    finally:
        shutil.rmtree(root / "short")


def test_what_the_model_sees_is_the_preprocessed_input(root: Path) -> None:
    run, _ = tiny()
    image = images.ChosenImage(run, "test", 9)
    seen = model_queries.model_input(image)
    mean, std = (np.array(v).reshape(3, 1, 1) for v in (run.preprocess().mean, run.preprocess().std))
    shown = (run.inputs("test", [9])[0].numpy() * std + mean).transpose(1, 2, 0)
    assert seen.shape == (32, 32, 3) and np.abs(seen / 255 - shown).max() < 0.51 / 255


def test_previous_next_and_number(root: Path) -> None:
    app = opened(run="tiny", image="5")
    for key, row in (("Next", 6), ("Previous", 5), ("Previous", 4)):
        checked(app.button(key=key).click().run())
        assert address_of(app)["image"] == str(row)
    checked(app.number_input(key="row").set_value(12).run())
    assert address_of(app)["image"] == "12" and app.session_state["image"] == 12
    assert opened(run="tiny", image="0").button(key="Previous").disabled


def test_a_threshold_set_by_hand_moves_where_it_leaves(root: Path) -> None:
    app = opened(run="tiny", image="5", threshold="0.5")
    checked(app.text_input(key="threshold").set_value("1.01").run())
    assert "Goes to the last exit" in reason(app) and address_of(app)["threshold"] == "1.01"
    checked(app.text_input(key="threshold").set_value("0").run())
    assert "Exits at exit 1" in reason(app)
    checked(app.text_input(key="threshold").set_value("<b>x").run())
    assert "cannot be used" in said(app)


@pytest.mark.parametrize("value", ["-1", "1e9", "", HOSTILE, "\x00", "a" * 5000, "nan", "²"])
def test_a_link_may_hold_anything(root: Path, value: str) -> None:
    keys = ("image", "source", "method", "target", "baseline", "threshold", "split", "policy")
    app = opened(run="bare", **dict.fromkeys(keys, value))
    assert HOSTILE not in bodies(app) and said(app).count("There is no") >= 5
    assert (app.session_state["source"], app.session_state["target"]) == ("record", "last")


def test_a_class_is_read_whole(root: Path) -> None:
    app = opened(run="bare", target="0000000042")  # its first nine digits alone would be a class
    assert "There is no class '0000000042'" in said(app) and app.session_state["target"] == "last"


def test_a_refused_method_says_why(root: Path) -> None:
    app = opened(run="bare", method="deep_lift")
    assert "DeepLift's rules cover layers that act on one number at a time" in said(app)
    assert app.session_state["method"] == "integrated_gradients"


# -- where the exits look --


def test_the_page_offers_what_the_library_has() -> None:
    assert set(attribution_methods.METHODS) == set(METHODS) and set(attribution_methods.REFUSED) == set(NOT_OFFERED)
    assert set(attribution_methods.BASELINES) == set(BASELINES)
    unsigned = {name for name, method in attribution_methods.METHODS.items() if not method.signed}
    assert unsigned == {"saliency", "attention_rollout"}


@pytest.mark.filterwarnings("ignore:.*convergence delta")
def test_maps_and_their_quality_are_the_librarys(root: Path) -> None:
    run, _ = tiny()
    app = opened(run="tiny", image="3", target="2", baseline="mean")
    assert not app.get("plotly_chart")[1:]  # nothing is explained before one asks
    press(app, "Explain every exit")
    expected = dx.compare_exits(run.model("cpu"), run.inputs("test", [3])[0], 1, baseline="mean")
    question = model_queries.Question("integrated_gradients", 1, "mean")
    found = model_queries.cached_maps(images.ChosenImage(run, "test", 3), question)
    assert found is not None and np.allclose(found.heat, expected.heat, atol=1e-6)
    for one, there in zip(found.attributions, expected.attributions, strict=True):
        assert one.delta == pytest.approx(there.delta, abs=1e-4)
        assert all(text in bodies(app) for text in (f"{there.logit:.2f}", f"{there.difference:+.2f}"))
    assert len(app.get("plotly_chart")) == 3 and "not checked" in bodies(app)
    press(app, "Check them by hiding parts")
    quality = expected.attributions[0].quality(perturbations=0, orders=4)
    assert f"{quality.unexplained:.0%} " in bodies(app) and f"{quality.insertion_area:.2f} (" in bodies(app)
    models._model.clear()
    assert not models._shared()  # maps would keep the model in memory


def test_a_cheap_method_answers_at_once_and_others_wait(root: Path) -> None:
    app = opened(run="tiny", image="3", method="saliency")
    assert len(app.get("plotly_chart")) == 3
    checked(app.selectbox(key="method").set_value("occlusion").run())
    assert len(app.get("plotly_chart")) == 1
    checked(app.selectbox(key="method").set_value("saliency").run())
    assert len(app.get("plotly_chart")) == 3


def test_an_explanation_is_asked_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = opened(run="tiny", image="3", method="token_grad_cam")
    assert len(app.get("plotly_chart")) == 3
    monkeypatch.setattr("dmpo_explore.compare_exits", None)
    checked(app.text_input(key="threshold").set_value("0.9").run())  # not in a threshold's path
    other = opened(run="tiny", image="3", method="token_grad_cam")  # another session
    assert len(app.get("plotly_chart")) == len(other.get("plotly_chart")) == 3


def test_what_a_method_cannot_do_is_a_notice(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, **options: Any) -> None:
        raise ValueError("attention cannot be read here")

    monkeypatch.setattr("dmpo_explore.compare_exits", broken)
    app = opened(run="tiny", image="3", method="attention_rollout")
    assert "attention cannot be read here" in said(app)


# -- an uploaded image --


def uploaded(app: AppTest, name: str, data: bytes) -> AppTest:
    return checked(app.file_uploader(key="file").set_value((name, data, "image/png")).run())


@pytest.mark.parametrize("name", TAKEN)
def test_a_picture_that_is_sent_is_answered_as_the_library_does(root: Path, name: str) -> None:
    run, _ = tiny()
    app = uploaded(opened(run="tiny", source="file", threshold="0.4"), name, TAKEN[name])
    model = run.model("cpu")
    image = make_transform(model.preprocess)(read_image(TAKEN[name], name))[None]
    out = dx.infer(model, image, dx.fit_policy(run.record("val"), threshold=0.4))
    assert f"exit {out.exit[0] + 1}" in reason(app) or (out.exit[0] == 2 and "last exit" in reason(app))
    label = html.escape(run.class_names[out.label[0]])
    assert f"Prediction: {label} at {out.confidence[0]:.1%}</b>" in bodies(app)
    assert len(re.findall(r'data-pick="image', bodies(app))) == 10
    assert "image" not in address_of(app) and address_of(app)["source"] == "file"


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_picture_is_refused_kindly(root: Path, name: str) -> None:
    data, why = REFUSED[name]
    app = uploaded(opened(run="tiny", source="file"), name, data)
    assert why in said(app) and name in said(app)
    assert "dx-why" not in bodies(app)
    uploaded(app, "colour.png", TAKEN["colour.png"])
    assert "dx-why" in bodies(app) and not said(app).count("cannot be used")


def test_a_name_that_is_markup_is_text(root: Path) -> None:
    app = uploaded(opened(run="tiny", source="file"), "<b>[x](javascript:y).png", TAKEN["grey.png"])
    captions = [caption.value for caption in app.caption]
    assert any(r"\<b\>\[x\]\(javascript\:y\)\.png" in caption for caption in captions)


def test_what_is_sent_stays_in_its_session_and_off_the_disk(root: Path, tmp_path: Path) -> None:
    shared = len(models._shared())
    app = uploaded(opened(run="tiny", source="file", method="saliency"), "colour.png", TAKEN["colour.png"])
    assert len(app.get("plotly_chart")) == 3  # explained too
    assert len(models._shared()) == shared
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert kept == []
    assert "dx-why" not in bodies(opened(run="tiny", source="file"))  # another session sees nothing of it
    recorded = opened(run="tiny", image="3", method="saliency")
    assert len(recorded.get("plotly_chart")) == 3
    assert any(path.name == "heat.npy" for path in tmp_path.rglob("*"))  # of the record's images maps are kept


def test_taking_the_file_away_forgets_it(root: Path) -> None:
    app = uploaded(opened(run="tiny", source="file"), "colour.png", TAKEN["colour.png"])
    checked(app.file_uploader(key="file").set_value(None).run())
    assert "dx-why" not in bodies(app) and app.session_state["_upload"] is None


def test_without_weights_a_sent_picture_is_shown_and_the_fix_is_named(root: Path) -> None:
    app = opened(run="demo", source="file")
    assert "dmpo-explore fetch" in said(app)  # before one looks for a picture
    uploaded(app, "colour.png", TAKEN["colour.png"])
    assert "dmpo-explore fetch" in said(app) and "dx-why" not in bodies(app)
    assert any("12 × 9 pixels" in caption.value for caption in app.caption)


def test_the_camera_waits_for_its_button(root: Path) -> None:
    app = opened(run="tiny", source="camera")
    assert not app.get("camera_input")
    press(app, "Turn the camera on")
    (camera,) = app.get("camera_input")
    photo = io.BytesIO()
    Image.fromarray(read_image(TAKEN["colour.png"], "colour.png")).save(photo, "JPEG")
    checked(camera.set_value(("photo.jpg", photo.getvalue(), "image/jpeg")).run())
    assert "dx-why" in bodies(app)


def test_a_picture_unlike_the_training_data_is_said_to_be(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dmpo_explore.analysis.novelty import Crowd

    monkeypatch.setattr(Crowd, "unlike", lambda *args, **options: 0.996)
    assert "is unlike the training data" in said(opened(run="tiny", image="3")) and "99.6%" in said(
        opened(run="tiny", image="3")
    )
    monkeypatch.setattr(Crowd, "unlike", lambda *args, **options: 0.5)
    assert "unlike" not in said(opened(run="tiny", image="3"))


def test_links_lead_here_from_explore_and_compare(runs: Path) -> None:
    app = AppTest.from_file(str(MAIN), default_timeout=60)
    for key, value in {"run": "four", "threshold": "0.8", "image": "7"}.items():
        app.query_params[key] = value
    checked(app.run())
    (link,) = (element.proto for element in app.get("page_link"))
    assert parse_qs(link.query_string) == {
        "run": ["four"], "split": ["test"], "policy": ["confidence"], "threshold": ["0.8"], "image": ["7"]
    }  # fmt: skip
    compare = AppTest.from_file(str(VIEW.with_name("compare.py")), default_timeout=60)
    for key, value in {"runs": "four,six", "against": "six", "compute": "50"}.items():
        compare.query_params[key] = value
    checked(compare.run())
    links = [html.unescape(link) for link in re.findall(r'<a href="([^"]*)"', bodies(compare))]
    tiles = re.findall(r'title="test image (\d+)', bodies(compare))
    assert len(links) == 2 * len(tiles) > 0 and all(link.startswith("image?run=") for link in links)
    asked = parse_qs(links[0].partition("?")[2])
    fitted = dx.fit_policy(dx.load_run("four").record("val"), "confidence", flops=0.5)
    assert asked["run"] == ["four"] and asked["threshold"] == [str(fitted.thresholds[0])] and asked["budget"] == ["50"]
    record = dx.load_run("four").record("test")
    shown = opened(**{key: value for key, (value,) in asked.items()})
    assert reason(shown) == trace_decision(record, fitted, int(asked["image"][0])).sentence()
    assert shown.session_state["budget"] == 50


# -- to take away --


def test_the_shared_code_says_what_the_page_says(root: Path) -> None:
    run, record = tiny()
    app = opened(run="tiny", image="3", threshold="0.4", method="saliency")
    app.session_state["share"] = True
    from programs import printed

    code = next(block.value for block in checked(app.run()).code if "dx.compare_exits" in block.value)
    lines = printed(code.replace("run.model()", "run.model('cpu')")).splitlines()
    policy = dx.fit_policy(run.record("val"), threshold=0.4)
    assert lines[1].startswith(f"{policy.exits(record)[3] + 1} [")


# -- in the browser --


@pytest.fixture(scope="session")
def trained_server(trained_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(trained_root, tmp_path_factory.mktemp("trained-server") / "log.txt") as server:
        yield server


@pytest.fixture
def trained(browser: Browser, trained_server: Server) -> Iterator[Visit]:
    """A page on the trained run; afterwards: no error in the console, none shown, none logged."""
    with contextlib.closing(browser.new_context(viewport={"width": 1440, "height": 900})) as context:
        context.set_default_timeout(120_000)
        context.add_init_script(WATCH)
        visit = Visit(context.new_page(), trained_server)
        visit.page.on("pageerror", lambda error: visit.errors.append(str(error)))
        yield visit
        assert not visit.errors + visit.page.get_by_test_id("stException").all_inner_texts()
    assert "Traceback" not in trained_server.log.read_text(errors="replace")


def test_from_explore_to_one_image_and_back(trained: Visit) -> None:
    page = trained.open("?run=tiny&threshold=0.4")
    page.locator(".dx-gallery button").nth(3).click()
    link = page.get_by_role("link", name="Why there?")
    link.wait_for()
    page.wait_for_url("**image=*")
    row = image_in(page.url)
    link.click()
    trained.settle_on(".dx-why", ".dx-near li")
    assert "/image?" in page.url and image_in(page.url) == row and "threshold=0.4" in page.url
    assert page.get_by_label("Row", exact=True).input_value() == row

    before = page.locator(".dx-why").inner_text()
    page.locator(".dx-near button").first.click()
    page.wait_for_function("text => (document.querySelector('.dx-why')?.innerText ?? text) !== text", arg=before)
    trained.settle_on(".dx-near li")
    assert image_in(page.url) != row
    page.go_back()
    page.wait_for_function("text => document.querySelector('.dx-why')?.innerText === text", arg=before)


def image_in(address: str) -> str:
    (row,) = parse_qs(urlsplit(address).query)["image"]
    return row


def test_an_explanation_method_by_method_and_as_a_link(trained: Visit, browser: Browser) -> None:
    page = trained.show("image?run=tiny&threshold=0.4&image=3", ".dx-why", ".dx-near li")
    page.get_by_role("button", name="Explain every exit").click()
    trained.settle_on(".dx-quality")
    assert page.locator(".js-plotly-plot").count() == 3
    choose(page, "Method", "Saliency")
    page.wait_for_url("**method=saliency**")
    trained.settle_on(".dx-quality")
    page.get_by_role("button", name="Check them by hiding parts").click()
    page.wait_for_function("() => !document.querySelector('.dx-quality').innerText.includes('not checked')")
    trained.settle_on(".dx-quality")
    shown, link = page.locator(".dx-quality").inner_text(), page.url.removeprefix(trained.server.address)
    with contextlib.closing(browser.new_context()) as context:
        context.set_default_timeout(120_000)
        context.add_init_script(WATCH)
        other = Visit(context.new_page(), trained.server)
        other.show(link, ".dx-why", ".dx-quality")
        assert other.page.locator(".dx-quality").inner_text() == shown


def choose(page: Page, label: str, option: str) -> None:
    page.get_by_role("combobox", name=re.compile(label)).click()
    page.get_by_role("option", name=option, exact=True).click()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_maps_have_no_serious_violation(trained: Visit, scheme: str) -> None:
    trained.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    trained.show("image?run=tiny&image=3&method=saliency", ".dx-quality", ".js-plotly-plot")
    assert not (found := violations(trained)), "\n".join(found)


def test_eight_kinds_of_files(trained: Visit) -> None:
    page = trained.show("image?run=tiny&threshold=0.4", ".dx-why")
    page.get_by_role("radio", name="a file of yours").click()
    page.wait_for_selector("input[type=file]", state="attached")
    kinds = {name: (TAKEN[name], "") for name in ("print.jpg", "turned.jpeg", "web.webp", "deep.png")}
    kinds |= {name: REFUSED[name] for name in ("text.png", "cut.png", "large.png", "moving.png")}
    for name, (data, why) in kinds.items():
        mime = "image/jpeg" if "jp" in name else "image/webp" if "webp" in name else "image/png"
        page.locator("input[type=file]").set_input_files({"name": name, "mimeType": mime, "buffer": data})
        if why:
            page.get_by_role("alert").filter(has_text=why).wait_for()
            expect(page.locator(".dx-why")).to_have_count(0)
        else:
            page.get_by_text(name).nth(1).wait_for()  # the uploader's own line, and ours
            trained.settle_on(".dx-why", ".dx-near li")
    for name, data in (("moving.gif", REFUSED["moving.png"][0]), ("drawing.svg", REFUSED["drawing.png"][0])):
        page.locator("input[type=file]").set_input_files({"name": name, "mimeType": "", "buffer": data})
        page.get_by_text(re.compile("not allowed")).first.wait_for()
