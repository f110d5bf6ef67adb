from .record import ExitRecord as ExitRecord
from .record import RecordMeta as RecordMeta
from .validation import FILES as FILES
from .validation import FORMAT_VERSION as FORMAT_VERSION
from .validation import OPTIONAL as OPTIONAL
from .validation import SCORE_TYPES as SCORE_TYPES
