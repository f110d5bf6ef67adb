"""Checks of builds: the library's part passes, and plausible wrong ones are refused with a hint."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

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


class ColumnsFirst(parts.PatchBypass):
    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        hidden = self.down(self.norm(x))
        patches = hidden[:, 1:].transpose(1, 2).unflatten(2, self.grid[::-1])
        mixed = self.conv(patches).flatten(2).transpose(1, 2)
        return x + self.up(F.gelu(torch.cat((hidden[:, :1], mixed), dim=1)))


class WithClassToken(parts.CovarianceHead):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(torch.cat((x[:, :1], x), dim=1))


class NoRoot(parts.CovarianceHead):
    def forward(self, x: Tensor) -> Tensor:
        from dmpo_explore.models import covariance, upper_triangle

        return self.first(x[:, 1:].mean(dim=1)) + self.second(upper_triangle(covariance(self.reduce(x[:, 1:]))))


class NoFloor(parts.CovarianceHead):
    def forward(self, x: Tensor) -> Tensor:
        spread = (x[:, 1:] - x[:, 1:].mean(dim=1, keepdim=True)).square().sum(dim=(1, 2))
        return super().forward(x) * (spread / spread)[:, None]  # 0 / 0 where all patches are alike


class TrunkReadsBypass(parts.EarlyExitNet):
    def forward(self, tokens: Tensor) -> Tensor:
        state, logits = None, []
        for k, stage in enumerate(self.stages):
            state, read = stage(tokens[k], state)
            read = self.bypasses[k](read)
            state = read[..., -state.shape[-1] :]
            logits.append(self.heads[k](self.norms[k](read)))
        return torch.stack(logits, dim=1)


class NormFirst(parts.EarlyExitNet):
    def forward(self, tokens: Tensor) -> Tensor:
        state, logits = None, []
        for k, stage in enumerate(self.stages):
            state, read = stage(tokens[k], state)
            logits.append(self.heads[k](self.bypasses[k](self.norms[k](read))))
        return torch.stack(logits, dim=1)


LIBRARY = parts.PARTS

INCORRECT: list[tuple[str, Any, str]] = [
    ("Stage", SkippedState, r"Down\(tokens\) \+ state"),
    ("Stage", StateFirst, "tokens, then the new state"),
    ("Bypass", RandomStart, "at the start it must be the identity"),
    ("Bypass", NoResidual, "at the start it must be the identity"),
    ("Bypass", ColumnsFirst, "row by row in `self.grid`"),
    ("Head", WithClassToken, "without the class token"),
    ("Head", NoRoot, "five iterations"),
    ("Head", NoFloor, "add 1e-6 to the trace"),
    ("weights", lambda epoch, epochs: parts.weights(0, epochs), "and it should be"),
    ("weights", lambda epoch, epochs: parts.weights(min(epoch + 1, epochs - 1), epochs), "and it should be"),
    ("DMPO", TrunkReadsBypass, "bypass, norm, head"),
    ("DMPO", NormFirst, "bypass, norm, head"),
]


@pytest.mark.parametrize("name", LIBRARY)
def test_the_librarys_part_passes(name: str) -> None:
    assert repr(checks.CHECKS[name](LIBRARY[name])).startswith("✔ Correct")


@pytest.mark.parametrize(("name", "answer", "hint"), INCORRECT, ids=[f"{n}-{i}" for i, (n, *_) in enumerate(INCORRECT)])
def test_a_plausible_build_is_refused_with_a_hint(name: str, answer: Any, hint: str) -> None:
    with pytest.raises(checks.NotYet, match=hint):
        checks.CHECKS[name](answer)


@pytest.mark.parametrize("name", LIBRARY)
@pytest.mark.parametrize("answer", [None, object, nn.Identity, lambda *_: None])
def test_what_is_no_part_is_refused_in_one_line(name: str, answer: Any) -> None:
    with pytest.raises(checks.NotYet) as refused:
        checks.CHECKS[name](answer)
    (line,) = refused.value._render_traceback_()
    assert line.startswith("✘ Not yet: ") and "\n" not in line


def test_a_value_without_its_gradient_is_refused() -> None:
    class Detached(parts.CovarianceHead):
        def forward(self, x: Tensor) -> Tensor:
            found = super().forward(x)
            return found.detach() + 0 * self.first.bias.sum() + 0 * sum(w.sum() for w in self.parameters())

    with pytest.raises(checks.NotYet, match="gradient of .* is not: detach nothing"):
        checks.head(Detached)


def test_a_check_does_not_move_the_dice() -> None:
    torch.manual_seed(3)
    due = torch.rand(3)
    torch.manual_seed(3)
    checks.stage(parts.SideStage)
    assert torch.equal(torch.rand(3), due)


def test_what_is_not_written_yet_is_named_where_it_is_used() -> None:
    part = checks.Missing("Stage")
    with pytest.raises(checks.NotYet, match="needs your Stage"):
        part(128, 32)
    with pytest.raises(checks.NotYet, match="needs your Stage"):

        class Derived(part):  # type: ignore[valid-type, misc]
            pass
