"""What is tried next: drawn settings first, then those that past learning curves favour."""

from __future__ import annotations

import numpy as np
import optuna
import pytest
from search_settings import SPACE

from dmpo_explore.neighbours.trajectory_search import proposals
from dmpo_explore.neighbours.trajectory_search.proposals import STARTUP, LearningCurveSampler, propose
from dmpo_explore.search.study import EPOCH, distributions, read_curves, suggest


def begin(seed: int = 0) -> optuna.Study:
    return optuna.create_study(directions=["maximize", "minimize"], sampler=LearningCurveSampler(SPACE, seed))


def ask(study: optuna.Study, accuracy: float | None = None) -> optuna.Trial:
    """A trial; with an accuracy, after its only epoch."""
    trial = study.ask()
    suggest(trial, SPACE)
    trial.set_user_attr("planned", 4)
    if accuracy is not None:
        entry = {"accuracy": [accuracy], "flops_fraction": [0.2], "threshold": [0.5], "seconds": 1.0}
        trial.set_user_attr(f"{EPOCH}1", entry)
    return trial


def test_settings_lie_in_the_space_and_are_repeatable() -> None:
    drawn = [[ask(study).params for _ in range(STARTUP)] for study in (begin(), begin(), begin(1))]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len({tuple(p.values()) for p in drawn[0]}) == STARTUP
    for params in drawn[0]:
        assert params.keys() == SPACE.domains.keys() == distributions(SPACE).keys()
        assert all(d._contains(d.to_internal_repr(params[key])) for key, d in distributions(SPACE).items())
        SPACE.config(params)


def test_later_settings_are_proposed_from_what_was_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    study = begin()
    asked: list[int] = []
    monkeypatch.setattr(proposals, "propose", lambda space, known, rng: asked.append(len(known)) or space.draw(rng))
    for _ in range(STARTUP + 2):
        study.tell(ask(study, 0.5), (0.5, 0.2))
    assert asked == [STARTUP, STARTUP + 1]


@pytest.mark.slow
def test_a_proposal_follows_what_extends_the_front() -> None:
    rng = np.random.default_rng(0)
    study = begin()
    for _ in range(30):
        trial = study.ask()
        params = suggest(trial, SPACE)
        trial.set_user_attr("planned", 2)
        good = 0.9 - abs(params["model.dropout"] - 0.1) - 0.2 * (params["model.exits"] == 2)
        trial.set_user_attr(f"{EPOCH}1", {"accuracy": [good], "flops_fraction": [0.2], "seconds": 1.0})
        study.tell(trial, (good, 0.2))
    known = read_curves(study.get_trials())
    proposed = [propose(SPACE, known, rng) for _ in range(6)]
    assert np.mean([abs(p["model.dropout"] - 0.1) for p in proposed]) < 0.08  # drawn: 0.17
    assert sum(p["model.exits"] == "[1, 3]" for p in proposed) >= 5
