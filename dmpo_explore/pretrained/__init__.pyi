from .sources import SOURCES as SOURCES
from .weights import KEYWORDS as KEYWORDS
from .weights import WeightsFile as WeightsFile
from .weights import cached_weights as cached_weights
from .weights import fetch_weights as fetch_weights
from .weights import find_weights as find_weights
from .weights import is_hub as is_hub
