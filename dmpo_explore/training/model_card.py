"""A run's card: config, cost and history → Markdown for people."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from ..analysis.tables import HEADING
from ..config import Config, ModelConfig, TrainingConfig
from ..models.flops import CONVENTION, ModelFlops
from .kinds import TRAINING_PARTS

Row = dict[str, float]


def run_card(
    name: str,
    config: Config,
    cost: ModelFlops,
    history: Sequence[Row],
    images: int,
    class_counts: Sequence[int] = (),
    plans: Sequence[int] = (),
    unlabelled: int = 0,
) -> str:
    """Model card: data, settings, accuracy on validation images, and FLOPs, as Markdown.

    Args:
        history: rows of `EpochResult.row`.
        images: training images. class_counts: of each class, stated where the training balances them.
        plans: of each epoch, how many epochs were planned when it was trained.
        unlabelled: images without labels.
    """
    model, training = config.model, config.training
    bypass, predictor = model.exit_parts
    best = max(history, key=lambda row: row["area"])
    seconds = sum(row["seconds"] for row in history)
    exits = [f"{best[f'accuracy_{k}']:.4f}" for k in range(1, len(cost.cumulative) + 1)]
    further = f" and {unlabelled:,} unlabelled ones" if unlabelled else ""
    epochs = f"{len(history)} epoch{'s' * (len(history) > 1)}"
    parts = [f"| {part} | {count:,} |" for part, count in cost.parameters.items()]
    return "\n".join(
        [
            f"# {name}",
            "",
            f"{model.backbone} at {model.image_size} px, images {model.resizing}; "
            f"tuning `{model.tuning}`{_layers(cost)}, bypass `{bypass}`, predictor `{predictor}`, "
            f"schedule of the loss weights `{training.schedule}`, coupling `{training.coupling}`.",
            *_changes(model),
            *_balance(config.training, class_counts),
            *filter(None, (kind.described(config) for kind in TRAINING_PARTS.values())),
            f"{images:,} training images of {config.data.name}{further}, {epochs}, {seconds:.0f} s. "
            f"Kept: epoch {best['epoch']:.0f}, which has the largest area under the accuracy–FLOPs curve "
            f"on at most {training.validation_size:,} validation images ({best['area']:.4f}).",
            *_extended(plans),
            "",
            *_exit_table(exits, cost),
            "",
            _counted(cost),
            "",
            "| part | parameters |",
            "|---|---|",
            *parts,
            "",
        ]
    )


def _layers(cost: ModelFlops) -> str:
    tuned, there = cost.layers
    return f" of {tuned} of the trunk's {there} linear layers and undivided convolutions" if tuned else ""


def _changes(model: ModelConfig) -> list[str]:
    texts = [change.described(options) for change, options in model.changes]
    return [f"{text[0].upper()}{text[1:]}." for text in texts if text]


def _balance(training: TrainingConfig, counts: Sequence[int]) -> list[str]:
    if training.class_balance == "none":
        return []
    low, high = (min(counts), max(counts)) if counts else (0, 0)
    sizes = f"Classes have {low:,} to {high:,} training images." if low < high else f"Every class has {low:,} images."
    return [f"Class balance `{training.class_balance}`, β {training.balance_beta:g}. {sizes}"]


def _extended(plans: Sequence[int]) -> list[str]:
    """A sentence if the run was trained longer than planned at first."""
    parts = [(planned, len(list(rows))) for planned, rows in groupby(plans)]
    if len(parts) < 2:
        return []
    words = ", then ".join(f"{count} planned for {planned}" for planned, count in parts)
    return [f"Trained longer than planned at first. Epochs, and the length that their schedules are made for: {words}."]


def own_sections(path: Path) -> str:
    """The sections that a reader has added to a card, from the first heading ``##`` on, without `card_results`.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "card.md"
        >>> own_sections(path)
        ''
        >>> path.write_text("# mine\\n\\n## Results\\n\\n| 1 |\\n\\n## Licence\\n\\nMIT\\n", encoding="utf-8")
        43
        >>> own_sections(path)
        '\\n## Licence\\n\\nMIT\\n'
    """
    if not path.is_file():
        return ""
    _, *sections = path.read_text(encoding="utf-8").split("\n## ")
    return "".join(f"\n## {text}" for text in sections if text.partition("\n")[0] != HEADING.removeprefix("## "))


def recount_card(card: str, cost: ModelFlops) -> str:
    """A card with other FLOPs; the rest is unchanged, and so is a card without a table of exits.

    Example:
        >>> from dmpo_explore.models.flops import ModelFlops
        >>> cost = ModelFlops(10, (40,), (0,), (0,), (4,), 60, {}, (57,))
        >>> card = "# mine\\n| exit | validation accuracy | compute |\\n|---|---|---|\\n| 1 | 0.9000 | 0.9500 |\\n"
        >>> recount_card(card, cost).splitlines()[-1]
        '| 1 | 0.9000 | 0.9000 | 0.9500 |'
    """
    lines = card.splitlines()
    start = next((i for i, line in enumerate(lines) if line.startswith("| exit |")), None)
    if start is None:
        return card
    old = lines[start + 2 : start + 2 + len(cost.cumulative)]
    lines[start : start + 2 + len(old)] = _exit_table([row.split("|")[2].strip() for row in old], cost)
    lines = [_counted(cost) if "The plain backbone:" in line else line for line in lines]
    return "\n".join(lines) + "\n"


def _exit_table(accuracies: Sequence[str], cost: ModelFlops) -> list[str]:
    shares = zip(accuracies, cost.cumulative, cost.as_trained, strict=True)
    return [
        "| exit | validation accuracy | compute, share of the plain backbone | as trained |",
        "|---|---|---|---|",
        *(
            f"| {k} | {accuracy} | {flops / cost.reference:.4f} | {trained / cost.reference:.4f} |"
            for k, (accuracy, flops, trained) in enumerate(shares, start=1)
        ),
    ]


def _counted(cost: ModelFlops) -> str:
    return f"{CONVENTION}. The plain backbone: {cost.reference:,} FLOPs an image."
