"""Optuna's samplers and its pruner in a search, and samplers that others add."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
from plugged import plugged
from search_settings import make_space, trial

from dmpo_explore.cli.search import continued, sampler_from
from dmpo_explore.joints import SamplerKind
from dmpo_explore.search.goal import Goal
from dmpo_explore.search.samplers import SAMPLERS, SamplerConfig, above_median
from dmpo_explore.search.search_run import run_search
from dmpo_explore.search.study import load_study, open_study, suggest

PLUGIN = """
from dataclasses import dataclass
from optuna.samplers import RandomSampler
from dmpo_explore.joints import SAMPLERS, SamplerKind
from dmpo_explore.utils.options import check_options, option
@dataclass(frozen=True)
class Shift:
    shift: int = option(0, "Added to the seed.", ge=0, le=9)
    def __post_init__(self):
        check_options(self)
def sampler(study, space, seed, options):
    return RandomSampler(seed + options.shift)
SAMPLERS["shifted"] = SamplerKind(sampler, lambda now, others, goal: True, options=Shift)
"""


def drawn(config: SamplerConfig, seed: int = 0, trials: int = 3, study: optuna.Study | None = None) -> list[Any]:
    space = make_space()
    study = study or optuna.create_study(directions=["maximize", "minimize"])
    study.sampler = config.make(study, space, seed)
    found = []
    for _ in range(trials):
        one = study.ask()
        found.append(suggest(one, space))
        study.tell(one, (0.5, 0.5))
    return found


@pytest.mark.parametrize("name", ["tpe", "nsga2", "random"])
def test_optunas_own_propose_settings_of_the_space(name: str) -> None:
    config = SamplerConfig(name)
    for params in (found := drawn(config, trials=12)):
        make_space().config(params)
    assert found == drawn(config, trials=12) != drawn(config, seed=100, trials=12)


def test_a_worker_that_comes_later_with_the_same_seed_does_not_draw_the_same() -> None:
    study = optuna.create_study(directions=["maximize", "minimize"])
    first = drawn(SamplerConfig("random"), study=study)
    assert not any(params in first for params in drawn(SamplerConfig("random"), study=study))


def test_optunas_median_decides_by_hypervolume() -> None:
    past = [trial(i, [0.4 + 0.05 * i, 0.6 + 0.05 * i], planned=2) for i in range(5)]
    assert above_median(trial(9, [0.51], planned=2), past, Goal())
    assert not above_median(trial(9, [0.49], planned=2), past, Goal())
    assert above_median(trial(9, [0.01], planned=2), past[1:], Goal())  # too few to judge by
    unfinished = [trial(i, [0.4 + 0.05 * i], planned=2) for i in range(5)]
    assert above_median(trial(9, [0.01], planned=2), unfinished, Goal())


def test_the_one_that_asks_for_it_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    preferred = [name for name, kind in SAMPLERS.items() if kind.preferred]
    assert SamplerConfig().sampler == preferred[0]
    for name in preferred:
        monkeypatch.delitem(SAMPLERS, name)
    assert SamplerConfig().sampler == "tpe"


def test_another_sampler_comes_with_its_options(tmp_path: Path) -> None:
    (tmp_path / "shifted.py").write_text(PLUGIN)
    with plugged(tmp_path / "shifted.py"):
        config = sampler_from("shifted", {"shift": 3, "rank": 8})
        assert config is not None and config.values() == {"sampler": "shifted", "shift": 3}
        assert continued("s", config, trials=1).endswith("--resume s --trials 1 --sampler shifted --shift 3")
        assert drawn(config, seed=1) == drawn(SamplerConfig("shifted"), seed=4) != drawn(config, seed=4)
        with pytest.raises(ValueError, match="shift=10"):
            SamplerConfig("shifted", shift=10)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="unknown sampler 'shifted'"):
        SamplerConfig("shifted")
    assert sampler_from(None, {"rank": 8}) is None


@pytest.mark.slow
def test_a_study_keeps_its_sampler(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[str, int | None]] = []

    def spying(name: str) -> SamplerKind:
        def sampler(study: Any, space: Any, seed: int | None, options: Any) -> Any:
            made.append((name, seed))
            return optuna.samplers.RandomSampler(seed)

        return SamplerKind(sampler, above_median)

    for name in ("one", "other"):
        monkeypatch.setitem(SAMPLERS, name, spying(name))
    run_search("s", make_space(), minutes=1e-9, sampler="one", seed=5)
    run_search("s", resume=True, minutes=1e-9)
    run_search("s", resume=True, minutes=1e-9, sampler="other")  # of that worker
    run_search("s", resume=True, minutes=1e-9, seed=7)
    assert made == [("one", 5), ("one", None), ("other", None), ("one", 7)]


def test_a_study_of_an_earlier_version_continues_with_the_default(runs: Path) -> None:
    assert "sampler" not in open_study("old", make_space(), None, resume=False, patience=60).user_attrs
    run_search("old", resume=True, minutes=1e-9)
    assert load_study("old", None).user_attrs["sampler"] == SamplerConfig().values()
