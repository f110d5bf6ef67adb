"""Plug-ins: loaded alike everywhere, stated by runs, never loaded by a run itself."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from calls import call, fails
from plugged import EXAMPLES, plugged
from tiny import tiny_config

import dmpo_explore as dx
from dmpo_explore.joints import JOINTS
from dmpo_explore.models.bypass import BYPASSES, ConvBypass
from dmpo_explore.plugin_needs import LOADED, VARIABLE, PluginNeed
from dmpo_explore.plugins import load_plugin, unload

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def unloaded() -> Iterator[None]:
    before = {*LOADED}
    yield
    for name in {*LOADED} - before:
        unload(name)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def program(code: str, *paths: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter that has these plug-ins in its environment."""
    more = {VARIABLE: os.pathsep.join(map(str, paths)), **environment}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False,
                          env=os.environ | {"PYTHONPATH": str(ROOT)} | more)  # fmt: skip


# -- loading --


def test_an_entry_is_there_with_its_options_and_gone_again() -> None:
    with plugged("context_bypass") as found:
        assert "context" in dx.OPTIONS["model.bypass"].names and dx.OPTIONS["model.context"].default == 1.0
        config = dx.ModelConfig("test_vit", "random", 32, exits=2, bypass="context", context=0.5)
        assert dx.build_model(config, 3).stages[0].bypass.context == 0.5
        assert dx.Config(model=config).with_plugins().plugins == (PluginNeed(found.name, found.sha256),)
        assert found.path in os.environ[VARIABLE].split(os.pathsep)
    assert "context" not in BYPASSES and "model.context" not in dx.OPTIONS
    assert found.path not in os.environ.get(VARIABLE, "").split(os.pathsep)


def test_loaded_twice_it_is_loaded_once(tmp_path: Path) -> None:
    file = write(tmp_path / "once.py", "from dmpo_explore.joints import COMMANDS\nCOMMANDS['once'] = print\n")
    assert load_plugin(file) == load_plugin(file)
    write(file, file.read_text() + "# changed\n")
    with pytest.raises(ValueError, match="has changed since it was loaded"):
        load_plugin(file)


OPTIONS = """
from dataclasses import dataclass
from dmpo_explore.joints import {joint}
from dmpo_explore.utils.options import option
@dataclass(frozen=True)
class Mine:
    {name}: int = option(1, "A number.")
class Flat:
    options = Mine
{joint}["flat"] = Flat()
"""
SCORE = """
from dmpo_explore.policies import POLICIES, SCORES, Score, ScorePolicy
SCORES["gap"] = Score("gap", {compute}, better="high")
class GapPolicy(ScorePolicy):
    name, reads, compares, summary = "gap", ("gap",), "gap", "the gap of the two largest logits"
    rule = "Exit at a gap of at least **{{}}**."
    {more}
POLICIES["gap"] = GapPolicy
"""
GAP = "lambda logits: logits.max(-1) - logits.min(-1)"
WIDE = "threshold_none = 1000.0"
FALLING = """falling, threshold_all, threshold_none = True, 1.01, 0.0
    grid = classmethod(lambda cls, K, C: [0.0])"""
GRID = (
    f"{WIDE}\n    @classmethod\n    def grid(cls, n_exits, n_classes):\n        return [1000.0, *range(50, 0, -1), 0.0]"
)


def test_values_beyond_the_thresholds_are_no_silent_wrong_number(tmp_path: Path) -> None:
    record = dx.load_run("demo").record("calibration")
    wrong = pytest.raises(ValueError, match=r"policy 'gap' compares values from .* to .*; its threshold_all=0")
    with plugged(write(tmp_path / "gap.py", SCORE.format(compute=GAP, more=""))), wrong:
        dx.fit_policy(record, "gap", accuracy_drop=0.01)
    with plugged(write(tmp_path / "gap.py", SCORE.format(compute=GAP, more=GRID))):
        fitted = dx.fit_policy(record, "gap", flops=0.3)
        assert dx.apply(fitted, record).summary()["flops_fraction"] <= 0.3
        assert dx.fit_policy(record, "gap", risk="too_early", epsilon=0.02).thresholds[0] < 50


def plugged_in() -> tuple[object, ...]:
    """What plug-ins have added to the joints and the config, and which are loaded."""
    added = {(kind, name): origin for kind, joint in JOINTS.items() for name, origin in joint.origins.items()}
    return added, {*dx.OPTIONS}, {*LOADED}


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("1 / 0", ImportError, "ZeroDivisionError"),
        ("import nothing_of_that_name", ImportError, "nothing_of_that_name"),
        ("def f(:", ImportError, "SyntaxError"),
        ("from dmpo_explore.models import BYPASSES\nBYPASSES['conv'] = None", ValueError, "'conv' exists already"),
        ("from dmpo_explore.models import BYPASSES\nBYPASSES.update(conv=None)", ValueError, "'conv' exists already"),
        ("from dmpo_explore.models import BYPASSES\ndel BYPASSES['conv']", ValueError, "'conv' is not its own"),
        ("from dmpo_explore.models import BYPASSES\nBYPASSES.clear(); raise KeyError", ImportError, "KeyError"),
        ("COMMANDS.clear()", ValueError, "is not its own; it may not be removed"),
        ("from dmpo_explore.plugins import load_plugin\nload_plugin(__file__)", ImportError, "loads itself"),
        ("class Mute(Exception):\n    def __str__(self): 1 / 0\nraise Mute", ImportError, "Mute has no text"),
        # -- two options of one name: in a part of the config, and on the command line, which has those of all parts --
        (OPTIONS.format(joint="SCHEDULES", name="epochs"), ValueError, "'epochs' of Mine"),
        (OPTIONS.format(joint="BYPASSES", name="epochs"), ValueError, "option --epochs"),
        (OPTIONS.format(joint="BYPASSES", name="data"), ValueError, "--data"),
        # -- a policy that contradicts itself --
        (SCORE.format(compute=GAP, more=WIDE), ImportError, r"needs a grid\(cls, n_exits, n_classes\) of its own"),
        (SCORE.format(compute=GAP, more=f"{GRID}\n    rule = 'Exit.'"), ImportError, "must hold one {}"),
        (SCORE.format(compute=GAP, more=f"{GRID}\n    falling = True"), ImportError, "falling=True, so threshold_all"),
        (
            SCORE.format(compute=GAP, more=FALLING),
            ImportError,
            "falling=True contradicts the score 'gap', which is better='high'",
        ),
        (SCORE.format(compute=GAP, more=f"{GRID}\n    name = 'other'"), ImportError, "its name is 'other'"),
    ],
)
def test_a_broken_one_is_named_and_leaves_nothing(
    tmp_path: Path, text: str, kind: type[Exception], message: str
) -> None:
    before = plugged_in()
    begun = "from dmpo_explore.joints import COMMANDS\nCOMMANDS['mine'] = print\n"
    file = write(tmp_path / "broken.py", begun + text)
    with pytest.raises(kind, match=message) as error:
        load_plugin(file)
    assert "broken.py" in str(error.value)
    assert plugged_in() == before and BYPASSES["conv"] is ConvBypass


@pytest.mark.parametrize("name", ["absent.py", "text.txt"])
def test_what_is_no_plug_in(tmp_path: Path, name: str) -> None:
    if name == "text.txt":
        write(tmp_path / name, "x = 1")
    with pytest.raises((FileNotFoundError, ValueError), match=name):
        load_plugin(tmp_path / name)


# -- every process --


@pytest.mark.slow
def test_the_environment_loads_it_in_another_process_and_a_broken_one_warns(tmp_path: Path) -> None:
    broken = write(tmp_path / "broken.py", "1 / 0")
    done = program(
        "import dmpo_explore as dx; print('context' in dx.OPTIONS['model.bypass'].names)",
        broken, EXAMPLES / "context_bypass.py",
    )  # fmt: skip
    assert done.stdout.strip() == "True" and "ZeroDivisionError" in done.stderr


@pytest.mark.parametrize("value", ["early_exit_extras", "early_exit_extras:added"])
def test_an_installed_package_is_loaded_by_its_entry_point(tmp_path: Path, value: str) -> None:
    text = "from dmpo_explore.joints import COMMANDS\nCOMMANDS['extra'] = added = print\n"
    write(tmp_path / "early_exit_extras.py", text)
    (tmp_path / "early_exit_extras-1.0.dist-info").mkdir()
    write(tmp_path / "early_exit_extras-1.0.dist-info/METADATA", "Name: early-exit-extras\nVersion: 1.0\n")
    write(tmp_path / "early_exit_extras-1.0.dist-info/entry_points.txt",
          f"[dmpo_explore.plugins]\nextras = {value}\ngone = nowhere.at_all\n")  # fmt: skip
    done = program(
        "import dmpo_explore; from dmpo_explore.plugin_needs import LOADED; from dmpo_explore.joints import COMMANDS;"
        "found = LOADED['extras'];"
        "print(found.path, found.sha256, found.installed, found.module, COMMANDS.origins['extra'])",
        PYTHONPATH=os.pathsep.join([str(ROOT), str(tmp_path)]),
    )
    digest = hashlib.sha256(text.encode()).hexdigest()
    name = "early_exit_extras"
    assert done.stdout.split() == [str(tmp_path / f"{name}.py"), digest, "True", name, "extras"], done.stderr
    assert "plug-in gone (nowhere.at_all): there is no module nowhere.at_all; it is left out" in done.stderr


# -- runs --


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs root with ``mine``, trained and recorded with the example bypass."""
    root = tmp_path_factory.mktemp("plugged")
    with pytest.MonkeyPatch.context() as patch, plugged("context_bypass"):
        patch.setenv("DMPO_EXPLORE_RUNS", str(root))
        run = dx.train(tiny_config(60, epochs=1, model={"bypass": "context", "context": 0.5}), "mine", device="cpu")
        dx.record_run(run, "val", device="cpu")
    return root


@pytest.fixture
def mine(made: Path, monkeypatch: pytest.MonkeyPatch) -> dx.Run:
    """That run, in the runs root of a test."""
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(made))
    return dx.load_run("mine")


def test_a_run_states_what_it_needs_opens_with_it_and_is_whole_with_and_without(mine: dx.Run) -> None:
    call("check", "mine")
    with plugged("context_bypass") as found:
        call("check", "mine")
        assert mine.config.plugins == (PluginNeed("context_bypass", found.sha256),)
        assert mine.config.model.context == 0.5  # type: ignore[attr-defined]
        out = dx.infer(mine.model("cpu"), mine.inputs("val", slice(0, 8)), dx.policies.FixedPolicy((2,)))
        assert out.label.tolist() == mine.record("val").prediction[:8, 1].tolist()


def test_without_it_the_record_opens_and_one_line_says_what_is_missing(mine: dx.Run) -> None:
    assert mine.record("val").n_exits == 2 and mine.config.model.bypass == "context"
    with pytest.raises(ValueError, match=r"run 'mine' needs the plug-in context_bypass.*--plugin"):
        mine.model("cpu")
    assert "context_bypass" in fails("record", "mine", "--split", "test")
    assert "context_bypass" in fails("train", "--resume", "mine", "--epochs", "2")
    assert "mine" in call("evaluate", "mine", "--split", "val", "--threshold", "0.9").output
    assert "mine" in call("runs").stdout


def test_a_changed_file_is_named(mine: dx.Run, tmp_path: Path) -> None:
    changed = write(tmp_path / "context_bypass.py", (EXAMPLES / "context_bypass.py").read_text() + "\n# changed\n")
    with plugged(changed), pytest.warns(UserWarning, match="context_bypass has changed since run 'mine'"):
        mine.model("cpu")


def test_a_run_never_loads_code_by_itself(made: Path, tmp_path: Path) -> None:
    """The needs of a hostile run are a name and a hash: nothing in them is opened."""
    for needs in ([{"name": "../evil", "sha256": "0" * 64}], [{"name": "x", "sha256": "y"}], [{"name": "x"}], "x"):
        config = json.loads((made / "mine/config.json").read_text()) | {"plugins": needs}
        with pytest.raises(ValueError, match="plugins must be a list"):
            dx.Config.from_dict(config)
    write(tmp_path / "evil.py", "raise SystemExit('loaded')")
    config = json.loads((made / "mine/config.json").read_text())
    config["plugins"] = [{"name": "evil", "sha256": "0" * 64}]
    assert dx.Config.from_dict(config).plugins[0].name == "evil" and "evil" not in LOADED


def test_a_search_states_what_it_needs() -> None:
    """A study that is resumed without the plug-in says so before anything else."""
    with plugged("context_bypass"):
        space = dx.SearchSpace.from_dict({"space": {"bypass": ["context", "none"], "context": [0.5, 1.0]}}).to_dict()
        assert [need["name"] for need in space["plugins"]] == ["context_bypass"]
        assert dx.SearchSpace.from_dict(space).to_dict() == space
    with pytest.raises(ValueError, match=r"this search needs the plug-in context_bypass"):
        dx.SearchSpace.from_dict(space)
    assert "plugins" not in dx.SearchSpace.from_dict({"space": {"bypass": ["conv", "none"]}}).to_dict()


def test_code_to_copy_loads_the_plug_in_of_a_policy() -> None:
    from dmpo_explore_app.services import code_export

    with plugged("renyi_policy") as found:
        run = dx.load_run("demo")
        policy = dx.fit_policy(run.record("calibration"), "renyi", flops=0.3)
        program_text, command = (
            make(run, "test", policy) for make in (code_export.python_code, code_export.command_line)
        )
        assert f"dx.load_plugin({found.path!r})\n" in program_text
        assert command.startswith(f"dmpo-explore --plugin {found.path} evaluate demo --policy renyi")
    assert "plugin" not in code_export.command_line(run, "test", dx.fit_policy(run.record("calibration"), flops=0.3))


# -- mistakes in a plug-in --


@pytest.mark.parametrize(
    ("compute", "message"),
    [
        ("lambda logits: logits.__imul__(0)[..., 0]", "score 'gap' failed on numpy arrays: ValueError: .* read-only"),
        ("lambda logits: __import__('sys').exit(0)", "score 'gap' failed on numpy arrays: SystemExit"),
        ("lambda logits: 1 / 0", "score 'gap' failed on numpy arrays: ZeroDivisionError"),
        ("lambda logits: logits.sort(dim=-1).values[..., -1]", "score 'gap' failed on numpy arrays: TypeError"),
        ("lambda logits: None", "score 'gap' failed on numpy arrays: TypeError"),
        ("lambda logits: logits[..., 0] * float('nan')", "score 'gap' is NaN for 5 of 5 images"),
    ],
)
def test_a_score_that_fails_is_named_and_changes_nothing(tmp_path: Path, compute: str, message: str) -> None:
    record = dx.load_run("demo").record("calibration").subset(slice(0, 5))
    assert record.logits is not None
    before = record.logits.copy()
    with (
        plugged(write(tmp_path / "gap.py", SCORE.format(compute=compute, more=GRID))),
        pytest.raises(ValueError, match=message),
    ):
        record.score("gap")
    assert (record.logits == before).all()


@pytest.mark.usefixtures("mine")
def test_a_changed_plug_in_is_named_where_its_weights_or_options_no_longer_fit(tmp_path: Path) -> None:
    text = (EXAMPLES / "context_bypass.py").read_text()
    wider = text.replace("self.context = context", "self.context, self.more = context, nn.Linear(2, 2)")
    renamed = text.replace("context: float = option", "surroundings: float = option").replace(
        "config.part(ContextOptions).context", "config.part(ContextOptions).surroundings"
    )
    with (
        plugged(write(tmp_path / "context_bypass.py", wider)),
        pytest.warns(UserWarning, match="has changed"),
        pytest.raises(ValueError, match=r"missing.*the plug-in context_bypass has changed since run 'mine'"),
    ):
        dx.load_run("mine").model("cpu")
    with plugged(write(tmp_path / "context_bypass.py", renamed)):
        assert dx.load_run("mine").record("val").n_exits == 2 and "mine" in call("runs").stdout
        with (
            pytest.warns(UserWarning, match="has changed"),
            pytest.raises(ValueError, match=r"run 'mine' has options no plug-in has now: context"),
        ):
            dx.load_run("mine").model("cpu")
