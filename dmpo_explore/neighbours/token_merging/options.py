"""Options of token merging."""

from __future__ import annotations

from dataclasses import dataclass

from ...utils.options import check_options, option


@dataclass(frozen=True)
class TokenMerging:
    """How many tokens are merged, and where.

    Raises:
        ValueError: a value out of range.

    Example:
        >>> TokenMerging(merge=2).described()
        '2 patch tokens merged away before each block from block 3 on'
    """

    merge: int = option(
        0, "Token merging (ViTs): patch tokens merged away before each block; 0: none.", label="Tokens merged", ge=0
    )
    merge_from: int = option(3, "First block before which tokens are merged.", ge=1)

    def __post_init__(self) -> None:
        check_options(self)

    def described(self) -> str:
        """In words; empty where nothing is merged."""
        tokens = f"{self.merge} patch token{'s' * (self.merge > 1)}"
        return f"{tokens} merged away before each block from block {self.merge_from} on" if self.merge else ""
