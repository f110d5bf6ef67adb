"""Exit policies: scores of the exits so far in, exit or continue out; numpy and torch alike.

Example:
    >>> import dmpo_explore as dx
    >>> record = dx.load_run("demo").record("test")
    >>> policy = dx.POLICIES["confidence"]((0.8,))
    >>> float((policy.exits(record) == 0).mean().round(2))  # the share of images that exit 1 is sure of
    0.25
"""

from typing import TYPE_CHECKING

from ..utils.lazy import public_names

if TYPE_CHECKING:
    from ..records.scores import SCORES as SCORES
    from ..records.scores import Score as Score
    from ..records.scores import scores as scores
    from ..records.scores import tempered as tempered
    from .base import Candidates as Candidates
    from .base import Comparison as Comparison
    from .base import Policy as Policy
    from .catalogue import POLICIES as POLICIES
    from .catalogue import learned_policy as learned_policy
    from .catalogue import load_policy as load_policy
    from .catalogue import policy_from_dict as policy_from_dict
    from .catalogue import policy_plugin as policy_plugin
    from .catalogue import read_policies as read_policies
    from .catalogue import write_policies as write_policies
    from .learned import BudgetedPolicy as BudgetedPolicy
    from .learned import GatePolicy as GatePolicy
    from .ranking import CountPolicy as CountPolicy
    from .ranking import ScorePolicy as ScorePolicy
    from .rules import ConfidencePolicy as ConfidencePolicy
    from .rules import EntropyPolicy as EntropyPolicy
    from .rules import FixedPolicy as FixedPolicy
    from .rules import MarginPolicy as MarginPolicy
    from .rules import OraclePolicy as OraclePolicy
    from .rules import PatienceConfidencePolicy as PatienceConfidencePolicy
    from .rules import PatiencePolicy as PatiencePolicy
    from .rules import RandomPolicy as RandomPolicy
    from .rules import zeros as zeros
    from .running import RunningPolicy as RunningPolicy
    from .running import hold_budget as hold_budget
else:
    __getattr__, __dir__, __all__ = public_names(__name__, __file__)
