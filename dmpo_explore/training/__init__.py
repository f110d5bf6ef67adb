"""Training: losses, loss-weight schedules, training parts, the training loop, checkpoints, the model card.

Example:
    >>> import dmpo_explore as dx
    >>> [dx.training.loss_weights("switch", epoch, 4, n_exits=4) for epoch in (0, 3)]  # early exits gain weight
    [(0.01, 0.01, 1.0, 2.0), (1.5, 1.0, 0.2475, 0.2675)]
    >>> config = dx.training.with_recipe("photographs", dx.Config())
    >>> config.training.epochs, config.model.image_size
    (24, 84)
    >>> run = dx.train(config, "mine")  # doctest: +SKIP
"""

from typing import TYPE_CHECKING

from ..utils.lazy import public_names

if TYPE_CHECKING:
    from .checkpoint import read_checkpoint as read_checkpoint
    from .kinds import TRAINING_PARTS as TRAINING_PARTS
    from .kinds import PartKind as PartKind
    from .kinds import PartSetup as PartSetup
    from .loop import EpochResult as EpochResult
    from .loop import Validation as Validation
    from .loop import fit as fit
    from .losses import COUPLINGS as COUPLINGS
    from .losses import BalancedSampler as BalancedSampler
    from .losses import class_weights as class_weights
    from .losses import distillation as distillation
    from .losses import exit_losses as exit_losses
    from .losses import weighted_loss as weighted_loss
    from .optimizer import make_optimizer as make_optimizer
    from .part_options import RECIPES as RECIPES
    from .part_options import with_recipe as with_recipe
    from .parts import Batch as Batch
    from .parts import TrainingContext as TrainingContext
    from .parts import TrainingPart as TrainingPart
    from .schedules import END as END
    from .schedules import SCHEDULES as SCHEDULES
    from .schedules import START as START
    from .schedules import loss_weights as loss_weights
    from .schedules import resample as resample
else:
    __getattr__, __dir__, __all__ = public_names(__name__, __file__)
