"""A stage of a model: trunk, bypass and predictor; and the answers of earlier exits in its own.

Answers of earlier exits in an exit's own: a weighted sum of log-probabilities, one number per pair of exits.
In: logits of an exit and log-probabilities of the exits before it. Out: the exit's answer. As the ensembles of Zero
Time Waste (Wolczyk et al. 2021, arXiv 2106.05409): a product of powers of the exits' probabilities. Ours: no bias per
class, and where the weights are fitted (`dmpo_explore.training.fitted_earlier_exits`).
An exit that stops an image has run with all exits before it, so their answers cost no forward pass: 2C FLOPs each.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..utils.registry import lookup
from .backbone import LAYOUTS, ExitShape
from .predictors import at_least_float32, full_precision


class EarlierExits(nn.Module):
    """Exit k's answer: Σ_j w_j log p_j, w_j ≥ 0, over the exits j = 1 … k. At first w is 1 for the exit itself, else 0.

    The weights have no gradient; they are fitted after each epoch of a training. Float32 also under autocast.

    Args:
        n_earlier: k − 1, the number of exits before this one.
    """

    def __init__(self, n_earlier: int) -> None:
        super().__init__()
        own = torch.zeros(n_earlier + 1)
        own[-1] = 1
        self.weights = nn.Parameter(own, requires_grad=False)

    def collect(self, logits: Tensor, earlier: Tensor | None = None) -> Tensor:
        """Own logits (B, C) and log-probabilities (B, k−1, C) of earlier exits, or None → all of them, (B, k, C)."""
        own = at_least_float32(logits).log_softmax(dim=-1)[:, None]
        return own if earlier is None else torch.cat((earlier, own), dim=1)

    def forward(self, said: Tensor) -> Tensor:
        """Log-probabilities (B, k, C) → logits (B, C)."""
        with full_precision(said):
            return (self.weights.to(said)[None] @ said)[:, 0]  # a product that counts as FLOPs


# One stage of a model: a part of the trunk and the exit behind it, and what a walk gets from it.
#
# In: the state of the stage before and its side output. Out: `StageOutput`: the next state, logits, the next side
# output.


class Stage(nn.Module):
    """One stage: a part of the trunk and the exit after it.

    Args:
        trunk: state → state: tokens (B,N,D), or a map.
        bypass: (tokens, side) → (tokens, side); its output is read by the predictor only.
        norm: the exit norm, per token.
        predictor: tokens (B,N,D) → logits (B,C); with ``reads_raw`` it also gets the trunk's own output, as tokens.
        width, grid, prefix: D, (rows, columns) of the patch tokens, number of prefix tokens.
        class_token: whether the first of these is a class token.
        layout: of the state: ``tokens``, ``channels_first`` (B,C,H,W) or ``channels_last`` (B,H,W,C).
        earlier: for an exit that also reads earlier exits' answers; in eval mode only: exits are trained on their own.

    Raises:
        ValueError: ``earlier`` beside a bypass that reads the previous one (``ladder``).

    Example:
        >>> import dmpo_explore as dx
        >>> model = dx.build_model(dx.ModelConfig("test_vit", "random", 32, exits=2), n_classes=3)
        >>> model.stages[0].width, model.stages[0].grid
        (64, (2, 2))
    """

    def __init__(
        self,
        trunk: nn.Module,
        bypass: nn.Module,
        norm: nn.Module,
        predictor: nn.Module,
        *,
        width: int,
        grid: tuple[int, int],
        prefix: int,
        class_token: bool = False,
        layout: str = "tokens",
        earlier: EarlierExits | None = None,
    ) -> None:
        super().__init__()
        self.trunk, self.bypass, self.norm, self.predictor = trunk, bypass, norm, predictor
        self.scale = nn.Parameter(torch.ones(()))  # logit scale, one per exit (release)
        self.width, self.grid, self.prefix, self.layout = width, grid, prefix, layout
        self.class_token = class_token
        self.reads_side: bool = getattr(bypass, "reads_side", True)
        self.reads_raw: bool = getattr(predictor, "reads_raw", False)
        self._to_tokens = lookup(LAYOUTS, layout, "layout")
        self.earlier = earlier

    @property
    def shape(self) -> ExitShape:
        """The tokens' shape at its exit."""
        return ExitShape(self.width, self.grid, self.prefix, self.class_token)

    def tokens(self, state: Tensor) -> Tensor:
        """This stage's trunk output as tokens (B,N,D); the patches of a map row by row."""
        return self._to_tokens(state)

    def once(self, x: Tensor, raw: Tensor) -> Tensor:
        """``x`` (B,N,D) with every token once that several patches of the trunk's output ``raw`` share: (B,n,D).

        A trunk whose patches share tokens has a method of this name; of any other it is ``x`` itself.
        """
        once: Callable[[Tensor, Tensor], Tensor] | None = getattr(self.trunk, "once", None)
        return x if once is None else once(x, raw)

    def classify(self, read: Tensor, raw: Tensor) -> Tensor:
        """Tokens (B,N,D) after the bypass, and before it → logits (B,C): exit norm, predictor, scale."""
        inputs = (self.norm(self.once(read, raw)), *([self.once(raw, raw)] if self.reads_raw else []))
        logits: Tensor = self.predictor(*inputs) * self.scale
        return logits

    def predict(self, state: Tensor, side: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Logits of the exit, from the trunk's output.

        Args:
            state: this stage's trunk output.
            side: the previous stage's side output, else None.

        Returns:
            logits (B,C) and this stage's side output.
        """
        output = StageOutput(0, self, state, state, side)
        return output.logits, output.side


class StageOutput:
    """Result of one stage for a batch; its exit is computed on first use.

    Attributes:
        k: the stage, counted from 0.
        stage: the module itself.
        state: the trunk's output for the next stage, in the backbone's layout.

    Example:
        >>> import torch
        >>> import dmpo_explore as dx
        >>> model = dx.build_model(dx.ModelConfig("test_vit", "random", 32, exits=2), n_classes=3).eval()
        >>> first = next(model.walk(torch.zeros(1, 3, 32, 32)))  # the second stage does not run
        >>> first.k, tuple(first.tokens.shape), tuple(first.logits.shape)
        (0, (1, 5, 64), (1, 3))
    """

    def __init__(
        self, k: int, stage: Stage, state: Tensor, here: Tensor, side: StageOutput | Tensor | None = None
    ) -> None:
        self.k, self.stage, self.state = k, stage, state
        self._here, self._given = here, side
        self._logits: Tensor | None = None
        self._own_logits: Tensor | None = None
        self._log_probabilities: Tensor | None = None
        self._after_bypass: tuple[Tensor, Tensor | None] | None = None

    @property
    def tokens(self) -> Tensor:
        """(B,N,D): the trunk's output as tokens, which the bypass reads."""
        return self.stage.tokens(self._here)

    @property
    def read(self) -> Tensor:
        """(B,N,D): the bypass's output, which exit norm and predictor read."""
        return self._bypassed[0]

    @property
    def side(self) -> Tensor | None:
        """Side output for the next stage: a ``ladder`` bypass's, or log-probabilities (B,k,C) where exits read them."""
        return self._bypassed[1] if self.stage.earlier is None else self._said

    # kept by hand: functools.cached_property takes a lock in Python 3.11, where torch.compile would stop

    @property
    def logits(self) -> Tensor:
        """(B,C): this exit's logits."""
        if self._logits is None:
            earlier = self.stage.earlier
            self._logits = self.own_logits if earlier is None or self.stage.training else earlier(self._said)
        return self._logits

    @property
    def own_logits(self) -> Tensor:
        """(B,C): the predictor's logits, without earlier exits' answers."""
        if self._own_logits is None:
            self._own_logits = self.stage.classify(self.read, self.tokens)
        return self._own_logits

    @property
    def _said(self) -> Tensor:
        """Log-probabilities of this exit and of those before it, (B,k,C)."""
        assert self.stage.earlier is not None
        if self._log_probabilities is None:
            self._log_probabilities = self.stage.earlier.collect(self.own_logits, self._take_given())
        return self._log_probabilities

    @property
    def _bypassed(self) -> tuple[Tensor, Tensor | None]:
        if self._after_bypass is None:
            given = None
            if self.stage.earlier is None:  # else `_said` takes it
                given = self._take_given() if self.stage.reads_side else None
                self._given = None  # a finished stage keeps no earlier one alive
            self._after_bypass = self.stage.bypass(self.tokens, given)
        return self._after_bypass

    def _take_given(self) -> Tensor | None:
        given, self._given = self._given, None
        return given.side if isinstance(given, StageOutput) else given
