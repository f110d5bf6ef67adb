"""Token merging (ToMe, arXiv 2210.09461): the trunk change ``token_merging``, by ``--merge`` and ``--merge-from``."""

from __future__ import annotations

from typing import Any

from ...joints import TRUNK_CHANGES, TrunkChange
from .options import TokenMerging


def _merged(backbone: Any, options: TokenMerging) -> Any:
    from .merged_trunk import merge_tokens

    return merge_tokens(backbone, options.merge, options.merge_from)


def _unexportable(options: TokenMerging) -> str:
    reason = f"merges tokens (merge={options.merge}), which is not exported: ONNX has no stable sort"
    return reason if options.merge else ""


TRUNK_CHANGES["token_merging"] = TrunkChange(
    TokenMerging,
    _merged,
    order=1,  # its trunks are no longer plain sequences of blocks
    described=TokenMerging.described,
    unexportable=_unexportable,
)
