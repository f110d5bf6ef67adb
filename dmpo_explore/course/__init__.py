"""The course: what the lessons share, so that one downloaded notebook runs beside an installed package.

Live figures and guesses (which need the extra ``notebooks``), the checkout camera, the parts that a reader builds and
their checks, a small training loop, the study's tables, and the drawing of the network.

Example:
    >>> import dmpo_explore as dx
    >>> dx.course.study_table("last-exit")["question"].tolist()
    ['naive exits, last exit', 'naive exits with bypass, last exit', 'DMPO, last exit']
"""

from typing import TYPE_CHECKING

from ..utils.lazy import public_names

if TYPE_CHECKING:
    from . import checks as checks
    from . import interactive as interactive
    from . import parts as parts
    from . import training as training
    from .camera import Camera as Camera
    from .checks import mine as mine
    from .interactive import Guess as Guess
    from .interactive import network as network
    from .interactive import study_table as study_table
else:
    __getattr__, __dir__, __all__ = public_names(__name__, __file__)
