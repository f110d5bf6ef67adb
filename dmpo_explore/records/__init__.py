"""Exit records: scores of every image at every exit of a split, written once and read many times.

Example:
    >>> import dmpo_explore as dx
    >>> record = dx.load_run("demo").record("test")
    >>> record.n_images, record.n_exits, record.confidence.shape
    (1300, 6, (1300, 6))
    >>> record.correct.mean(axis=0).round(2).tolist()  # accuracy of every exit
    [0.85, 0.87, 0.88, 0.89, 0.9, 0.91]
"""

from typing import TYPE_CHECKING

from ..utils.lazy import public_names

if TYPE_CHECKING:
    from .record import ExitRecord as ExitRecord
    from .record import RecordMeta as RecordMeta
    from .record import cascade as cascade
    from .scores import SCORES as SCORES
    from .scores import Score as Score
    from .scores import scores as scores
    from .scores import tempered as tempered
    from .validation import FILES as FILES
    from .validation import FORMAT_VERSION as FORMAT_VERSION
    from .validation import OPTIONAL as OPTIONAL
    from .validation import SCORE_TYPES as SCORE_TYPES
    from .writer import feature_embedding as feature_embedding
else:
    __getattr__, __dir__, __all__ = public_names(__name__, __file__)
