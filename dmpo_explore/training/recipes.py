"""Recipes: options of a training that were chosen together, under one name; imports no torch.

In: a name of ``RECIPES``. Out: a config with its options. The command line's ``--help`` prints them all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..config import OPTIONS, Config
from ..utils.registry import lookup


@dataclass(frozen=True)
class Recipe:
    """Options that were chosen together.

    Args:
        about: what images it is for, and what chose it; a sentence. options: ``part.name`` → value, as JSON has it.
        blocks: of the backbone that its exits were chosen for.
    """

    about: str
    options: Mapping[str, Any]
    blocks: int

    def arguments(self) -> str:
        """Its options as they are typed.

        Example:
            >>> RECIPES["photographs"].arguments()
            '--image-size 84 --exits 3,4,5,6,8,12 --epochs 24 --tuning-lr 0.0005 --label-smoothing 0.1 \
--crop-scale 0.7 --augment light --teacher own --teacher-size 98'
        """
        return " ".join(text for key, value in self.options.items() for text in OPTIONS[key].arguments(value))


RECIPES = {
    "photographs": Recipe(
        "For photographs; chosen on validation images of Caltech-101 and of groceries: mild crops, many epochs at a "
        "quarter of the trunk's rate, and a teacher, the full model, which is trained first.",
        {
            "model.image_size": 84,
            "model.exits": [3, 4, 5, 6, 8, 12],
            "training.epochs": 24,
            "training.tuning_lr": 5e-4,
            "training.label_smoothing": 0.1,
            "training.crop_scale": 0.7,
            "training.augment": "light",
            "training.teacher": "own",
            "training.teacher_size": 98,
        },
        blocks=12,
    ),
}


def with_recipe(name: str, base: Config) -> Config:
    """``base`` with the options of a recipe; ValueError for an unknown name.

    Example:
        >>> with_recipe("photographs", Config()).model.exits
        (3, 4, 5, 6, 8, 12)
    """
    return base.updated(lookup(RECIPES, name, "recipe").options)


def described_recipes() -> str:
    """All recipes as a Markdown list."""
    return "\n\n".join(f"- `{name}`: `{recipe.arguments()}`. {recipe.about}" for name, recipe in RECIPES.items())
