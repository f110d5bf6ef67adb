"""The card says what was trained and which epoch was kept."""

from __future__ import annotations

from dmpo_explore.config import Config, ModelConfig, TrainingConfig
from dmpo_explore.models.flops import CONVENTION, ModelFlops
from dmpo_explore.runs.store import load_run
from dmpo_explore.training.checkpoint import run_card


def test_card_names_the_kept_epoch_and_costs() -> None:
    cost = ModelFlops(10, (40, 40), (1, 1), (5, 0), (4, 4), 90, {"trunk": 1234, "trainable": 56}, (63, 111))
    history = [
        {"epoch": 1, "accuracy_1": 0.5, "accuracy_2": 0.6, "area": 0.55, "seconds": 10.0},
        {"epoch": 2, "accuracy_1": 0.7, "accuracy_2": 0.8, "area": 0.75, "seconds": 11.0},
        {"epoch": 3, "accuracy_1": 0.6, "accuracy_2": 0.7, "area": 0.65, "seconds": 12.0},
    ]
    card = run_card("mine", Config(), cost, history, 2000, [900, 1100])
    assert "balance" not in card
    balanced = Config(training=TrainingConfig(class_balance="weights", balance_beta=0.999))
    stated = run_card("mine", balanced, cost, history, 2000, [900, 1100])
    assert "Class balance `weights`, β 0.999. Classes have 900 to 1,100 training images." in stated
    assert card.startswith("# mine\n") and "at 70 px, images squashed to a square; tuning" in card
    cropped = run_card("mine", Config(model=ModelConfig(resize="crop")), cost, history, 2000)
    assert "at 70 px, images aspect kept, centre crop; tuning" in cropped
    assert "2,000 training images of fashion-mnist, 3 epochs, 33 s" in card
    assert "Kept: epoch 2" in card and "(0.7500)" in card
    assert "| 1 | 0.7000 | 0.6667 | 0.7000 |" in card  # (10 + 40 + 1 + 5 + 4) / 90, and 63 / 90 as trained
    assert "| 2 | 0.8000 | 1.1667 | 1.2333 |" in card  # every earlier bypass and predictor counted
    assert "| trunk | 1,234 |" in card and CONVENTION in card


def test_a_single_exit_has_the_last_ones_parts() -> None:
    cost = ModelFlops(10, (40,), (0,), (0,), (4,), 60, {}, (57,))
    history = [{"epoch": 1, "accuracy_1": 0.5, "area": 0.5, "seconds": 1.0}]
    for exits in (1, (6,)):
        card = run_card("mine", Config(model=ModelConfig(exits=exits, last_predictor="moment")), cost, history, 20)
        assert "bypass `none`, predictor `moment`" in card
    for name in ("demo-single", "demo-cnn-single", "fashion-single"):
        assert "bypass `none`, predictor `linear`" in load_run(name).card()
