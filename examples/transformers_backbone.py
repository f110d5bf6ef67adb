"""A model of transformers as a backbone: it and its image processor, saved in the folder `my-model` beside this file.

dmpo-explore train --backbone transformers_backbone.py:make --data FOLDER --record
"""

from pathlib import Path

from transformers import AutoImageProcessor, AutoModel

import dmpo_explore as dx


def make() -> object:
    """The model at the image size of its configuration."""
    place = Path(__file__).parent / "my-model"
    wanted = AutoImageProcessor.from_pretrained(place)
    return dx.models.cut_transformers(AutoModel.from_pretrained(place), mean=wanted.image_mean, std=wanted.image_std)
