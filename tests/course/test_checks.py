"""Checks of builds: the library's part passes, and plausible wrong ones are refused with a hint."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import binom
from torch import Tensor, nn
from torch.nn import functional as F

import dmpo_explore as dx
from dmpo_explore.course import checks, parts


class DetachedStage(parts.SideStage):
    def forward(self, tokens: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return super().forward(tokens, None if state is None else state.detach() * 1)


class SkippedState(parts.SideStage):
    def forward(self, tokens: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return super().forward(tokens, None)


class StateFirst(parts.SideStage):
    def forward(self, tokens: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        state, _ = super().forward(tokens, state)
        return state, torch.cat((state, tokens), dim=-1)


class RandomStart(parts.PatchBypass):
    def __init__(self, *sizes: Any) -> None:
        super().__init__(*sizes)
        nn.init.normal_(self.up.weight)


class NoResidual(parts.PatchBypass):
    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x) - x


class DetachedBypass(parts.PatchBypass):
    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x.detach())


class ColumnsFirst(parts.PatchBypass):
    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        hidden = self.down(self.norm(x))
        patches = hidden[:, 1:].transpose(1, 2).unflatten(2, self.grid[::-1])
        mixed = self.conv(patches).flatten(2).transpose(1, 2)
        return x + self.up(F.gelu(torch.cat((hidden[:, :1], mixed), dim=1)))


class Own(parts.SecondOrderPredictor):
    """The predictor as a student writes it, with places for mistakes."""

    begin, centred, fewer, divided, rounds, back, floor = 1, 1, 0, True, 5, 0.5, 1e-6
    triangle = staticmethod(torch.triu_indices)

    def forward(self, x: Tensor) -> Tensor:
        reduced = self.reduce(x[:, self.begin :])
        reduced = reduced - self.centred * reduced.mean(dim=1, keepdim=True)
        sigma = reduced.mT @ reduced / (reduced.shape[1] - self.fewer)
        rows, columns = self.triangle(*sigma.shape[1:])
        return self.first(self.read(x)) + self.second(self.root(sigma)[:, rows, columns])  # type: ignore[no-any-return]

    def root(self, sigma: Tensor) -> Tensor:
        trace = sigma.diagonal(dim1=1, dim2=2).sum(dim=1)[:, None, None] + self.floor
        eye = torch.eye(sigma.shape[1], dtype=sigma.dtype)
        y, z = sigma / trace if self.divided else sigma, eye
        for _ in range(self.rounds):
            step = (3 * eye - z @ y) / 2
            y, z = y @ step, step @ z
        return y * trace**self.back

    def read(self, x: Tensor) -> Tensor:
        return x[:, 1:].mean(dim=1)


class DetachedPredictor(parts.SecondOrderPredictor):
    def forward(self, x: Tensor) -> Tensor:
        found = super().forward(x)
        return found.detach() + 0 * self.first.bias.sum() + 0 * sum(w.sum() for w in self.parameters())


class OneMore(Own):
    def __init__(self, width: int = 160, channels: int = 24, n_classes: int = 81) -> None:
        super().__init__(width, channels, n_classes)
        self.reduce = nn.Linear(width, channels)


class WholeMatrix(Own):
    def __init__(self, width: int = 160, channels: int = 24, n_classes: int = 81) -> None:
        super().__init__(width, channels, n_classes)
        self.second = nn.Linear(channels**2, n_classes, bias=False)


def own(**mistake: Any) -> Any:
    return type("Own", (Own,), mistake)


def no_root(self: Own, sigma: Tensor) -> Tensor:
    return sigma


PREDICTORS: dict[str, tuple[Any, str]] = {
    "bias": (OneMore, r"a weight reduce.bias is not needed"),
    "shape": (WholeMatrix, r"second.weight has the shape \(3, 16\), and it needs \(3, 10\)"),
    "class token": (own(begin=0), "the class token is in Σ"),
    "not centred": (own(centred=0), "Σ is not centred"),
    "N - 1": (own(fewer=1), "by N − 1, not by N"),
    "no root": (own(root=no_root), "the root is missing"),
    "four rounds": (own(rounds=4), "four rounds, not five"),
    "six rounds": (own(rounds=6), "six rounds, not five"),
    "not scaled back": (own(back=0), "multiply it by √"),
    "not divided": (own(divided=False), "begin with A = Σ / tr Σ"),
    "lower triangle": (own(triangle=staticmethod(torch.tril_indices)), "the triangle is the upper one"),
    "no floor": (own(floor=0), "add 1e-6 to the trace"),
    "first reads the class token": (own(read=lambda self, x: x[:, 0]), "`first` reads the class token"),
    "first reads all tokens": (own(read=lambda self, x: x.mean(dim=1)), "`first` reads the mean of all tokens"),
    "a value without its gradient": (DetachedPredictor, "gradient of .* is not: detach nothing"),
    "only the mean": (own(root=lambda self, sigma: 0 * sigma), "`second` reads patches alone, centred"),
}


class TrunkReadsBypass(parts.EarlyExitNet):
    def forward(self, tokens: Tensor) -> Tensor:
        state, logits = None, []
        for k, stage in enumerate(self.stages):
            state, read = stage(tokens[k], state)
            read = self.bypasses[k](read)
            state = read[..., -state.shape[-1] :]
            logits.append(self.predictors[k](self.norms[k](read)))
        return torch.stack(logits, dim=1)


class NormFirst(parts.EarlyExitNet):
    def forward(self, tokens: Tensor) -> Tensor:
        state, logits = None, []
        for k, stage in enumerate(self.stages):
            state, read = stage(tokens[k], state)
            logits.append(self.predictors[k](self.bypasses[k](self.norms[k](read))))
        return torch.stack(logits, dim=1)


def above(confidence: Any, threshold: float) -> Any:
    """Above the threshold instead of from it on."""
    passes = confidence > threshold
    passes[:, -1] = True
    return passes.argmax(axis=1)


def without_last(confidence: Any, threshold: float) -> Any:
    return (confidence >= threshold).argmax(axis=1)


def swapped(correct: Any, exits: Any) -> Any:
    here, last = correct[np.arange(len(exits)), exits], correct[:, -1]
    return here & ~last, ~here & last


def computes_all(look: Callable[..., Any], n_images: int, n_exits: int, threshold: float) -> Any:
    """The right exits, but every exit is computed for every image."""
    confidence = np.stack([look(k, np.arange(n_images)) for k in range(n_exits)], axis=1)
    passes = confidence >= threshold
    passes[:, -1] = True
    return passes.argmax(axis=1)


def looks_by_a_mask(look: Callable[..., Any], n_images: int, n_exits: int, threshold: float) -> Any:
    return look(0, np.ones(n_images, bool))


def skips_the_last(look: Callable[..., Any], n_images: int, n_exits: int, threshold: float) -> Any:
    """The right exits, but the last one is never computed."""
    exits, rows = np.full(n_images, n_exits - 1), np.arange(n_images)
    for k in range(n_exits - 1):
        if not len(rows):
            break
        sure = look(k, rows) >= threshold
        exits[rows[sure]] = k
        rows = rows[~sure]
    return exits


def never_ends(look: Callable[..., Any], n_images: int, n_exits: int, threshold: float) -> Any:
    """The right exits, but exits are also computed when no image is left."""
    exits, rows = np.full(n_images, n_exits - 1), np.arange(n_images)
    for k in range(n_exits):
        sure = look(k, rows) >= threshold
        exits[rows[sure]] = k
        rows = rows[~sure]
    return exits


def goes_on(errors: Any, n: int, epsilon: float, delta: float) -> int:
    """All that pass, also behind the first failure."""
    return int((binom.cdf(errors, n, epsilon) <= delta).sum())


def keeps_sign_wrong(model: Any, image: Any, hidden: Any, size: int) -> Any:
    return -np.ones((2, 4))


def schedule(epoch: int, epochs: int) -> Any:
    return dx.training.loss_weights("linear", epoch, epochs, 4)


CORRECT = [*(parts.PARTS | {"weights": schedule, "DMPO": parts.EarlyExitNet}).items(), ("Predictor", Own)]

INCORRECT: list[tuple[str, Any, str]] = [
    *(("Predictor", answer, hint) for answer, hint in PREDICTORS.values()),
    ("Stage", SkippedState, r"Down\(tokens\) \+ state"),
    ("Stage", DetachedStage, "the gradient of input 2 is not: detach nothing"),
    ("Stage", StateFirst, "tokens, then the new state"),
    ("Bypass", RandomStart, "at the start it must be the identity"),
    ("Bypass", NoResidual, "at the start it must be the identity"),
    ("Bypass", DetachedBypass, "the gradient of input 1 is not: detach nothing"),
    ("Bypass", ColumnsFirst, "row by row in `self.grid`"),
    ("weights", lambda epoch, epochs: schedule(0, epochs), "and it should be"),
    ("weights", lambda epoch, epochs: schedule(min(epoch + 1, epochs - 1), epochs), "and it should be"),
    ("DMPO", TrunkReadsBypass, "bypass, norm, predictor"),
    ("DMPO", NormFirst, "bypass, norm, predictor"),
    ("exits_of", above, "reaching it is enough"),
    ("exits_of", without_last, "the last exit takes what is left"),
    ("mistakes", swapped, "lost: incorrect at its exit"),
    ("loop", computes_all, "computed twice, or for an image that had exited"),
    ("loop", looks_by_a_mask, "not a mask"),
    ("loop", skips_the_last, "it must answer them"),
    ("loop", never_ends, "for no image at all"),
    ("passing", goes_on, "before the first failure"),
    ("drops_of", keeps_sign_wrong, "the logit of the last exit's class"),
]


@pytest.mark.parametrize(("name", "answer"), CORRECT)
def test_the_librarys_part_and_one_written_as_in_the_lesson_pass(name: str, answer: Any) -> None:
    assert repr(checks.CHECKS[name](answer)).startswith("✔ Correct")


@pytest.mark.parametrize(("name", "answer", "hint"), INCORRECT)
def test_a_plausible_build_is_refused_with_a_hint(name: str, answer: Any, hint: str) -> None:
    with pytest.raises(checks.NotYet, match=hint):
        checks.CHECKS[name](answer)


@pytest.mark.parametrize("name", checks.CHECKS)
@pytest.mark.parametrize("answer", [None, object, nn.Identity, lambda *_, **__: None, lambda *_, **__: 0.5])
def test_what_is_no_part_is_refused_in_one_line(name: str, answer: Any) -> None:
    with pytest.raises(checks.NotYet) as refused:
        checks.CHECKS[name](answer)
    (line,) = refused.value._render_traceback_()
    assert line.startswith("✘ Not yet: ") and "\n" not in line


def test_a_check_does_not_move_the_dice() -> None:
    torch.manual_seed(3)
    due = torch.rand(3)
    torch.manual_seed(3)
    checks.stage(parts.SideStage)
    assert torch.equal(torch.rand(3), due)


def test_what_is_not_written_yet_is_named_where_it_is_used() -> None:
    part = checks.missing("Stage")
    with pytest.raises(checks.NotYet, match="needs your Stage"):
        part(128, 32)
    with pytest.raises(checks.NotYet, match="needs your Stage"):

        class Derived(part):  # type: ignore[valid-type, misc]
            pass
