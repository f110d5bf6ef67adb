"""The course: what the notebooks share, so that one downloaded notebook runs beside an installed package.

Live figures (which need the extra ``notebooks``), exercises with their checks, small trainings on frozen tokens, the
study's tables, photographs of clothing, the animation of images that exit, and the drawing of the network.

Example:
    >>> import dmpo_explore as dx
    >>> sorted(dx.course.study_table("gradients")["arm"].unique())  # what the notebooks compare
    ['dmpo', 'dmpo-no-bypass', 'dmpo-uniform', 'naive-both']
"""

from typing import TYPE_CHECKING

from ..utils.lazy import public_names

if TYPE_CHECKING:
    from . import checks as checks
    from . import colours as colours
    from . import exercises as exercises
    from . import garment as garment
    from . import interactive as interactive
    from . import moving as moving
    from . import on_tokens as on_tokens
    from . import own_images as own_images
    from . import parts as parts
    from . import rivals as rivals
    from . import small_cnn as small_cnn
    from . import training as training
    from .camera import Camera as Camera
    from .drawing import Drawing as Drawing
    from .drawing import network as network
    from .guesses import Guess as Guess
    from .guesses import guess as guess
    from .photographs import photographs as photographs
    from .photographs import public_photographs as public_photographs
    from .tables import study_table as study_table
    from .workbook import mine as mine
else:
    __getattr__, __dir__, __all__ = public_names(__name__, __file__)
