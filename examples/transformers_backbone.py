"""A model of transformers as a backbone: the folder `my-model` of its `save_pretrained`, beside this file.

dmpo-explore train --backbone transformers_backbone.py:make --data FOLDER --record
"""

from pathlib import Path

import dmpo_explore as dx


def make() -> object:
    """The model at the image size of its configuration."""
    return dx.models.cut_transformers(Path(__file__).parent / "my-model")
