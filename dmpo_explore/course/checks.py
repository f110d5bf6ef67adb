"""Checks of what a reader builds: each compares it with the library's part, with the same weights and inputs.

In: a class or function as the student's edition asks for it. Out: a line that says it is correct, after which the cell
is kept (`workbook.keep`), or `NotYet`, which a notebook shows as one line: what is not right yet, and a hint.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn

import dmpo_explore as dx

from . import parts, workbook

Lines = Iterator[tuple[bool, str]]  # whether it holds, and the hint if not
EMPTY = "nothing is written here yet: put your lines in place of the three dots, and run the cell again"


class NotYet(Exception):
    """What is built does not pass; a notebook shows the message alone."""

    def _render_traceback_(self) -> list[str]:
        return [f"✘ Not yet: {self}"]


class Missing:
    """Stands in for a part whose cell still has its three dots: whatever uses it says which part that is."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, *args: Any, **options: Any) -> Any:
        raise NotYet(
            f"this cell needs your {self.name}, and its three dots are still there: build it above, then go on"
        )

    __mro_entries__ = __call__  # of a class that is derived from it


class Passed(str):
    """The line of a check that is passed."""

    def __repr__(self) -> str:
        return f"✔ {self}"


CHECKS: dict[str, Callable[[Any], Passed]] = {}  # name of the part → its check


def build(name: str) -> Callable[[Callable[[Any], Lines]], Callable[[Any], Passed]]:
    """Make a check of ``name`` from lines: the first that does not hold is what it says. Its docstring says correct."""

    def made(lines: Callable[[Any], Lines]) -> Callable[[Any], Passed]:
        @wraps(lines)
        def check(answer: Any) -> Passed:
            if re.search(r"(?m)^\s*\.\.\.\s*$", workbook.cell()):
                workbook.put(name, Missing(name))
                raise NotYet(EMPTY)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                try:
                    for holds, hint in lines(answer):
                        if not holds:
                            raise NotYet(hint)
                except NotYet:
                    raise
                except Exception as error:  # anything may be written
                    raise NotYet(f"it cannot be run ({type(error).__name__}: {error})") from None
            workbook.keep(name)
            return Passed(lines.__doc__ or "")

        CHECKS[name] = check
        return check

    return made


def same_weights(found: nn.Module, due: nn.Module) -> Lines:
    """Lines of a check: a module has the weights of another, by name and shape."""
    ours, theirs = found.state_dict(), due.state_dict()
    for name in [*theirs, *ours]:
        yield name in theirs, f"a weight {name} is not needed: there are {', '.join(theirs)}"
        yield name in ours, f"{name} is missing: it needs the shape {tuple(theirs[name].shape)}"
        shapes = [tuple(weights[name].shape) for weights in (ours, theirs)]
        yield shapes[0] == shapes[1], f"{name} has the shape {shapes[0]}, and it needs {shapes[1]}"


def same_results(found: nn.Module, due: nn.Module, inputs: tuple[Any, ...], hints: Mapping[int, str]) -> Lines:
    """Lines of a check: with random weights, two modules give the same, and the same gradients; a hint per output."""
    for weight in due.parameters():
        nn.init.normal_(weight, std=0.5)
    found.load_state_dict(due.state_dict())
    ours, theirs = (module(*inputs) for module in (found, due))
    several = isinstance(theirs, tuple)
    if several:
        yield isinstance(ours, tuple) and len(ours) == len(theirs), f"it must return {len(theirs)} things"
    for i, (own, wanted) in enumerate(zip(ours, theirs, strict=True) if several else [(ours, theirs)]):
        yield isinstance(own, Tensor), f"it returns {'nothing' if own is None else type(own).__name__}: {hints[i]}"
        yield own.shape == wanted.shape, f"it returns the shape {tuple(own.shape)}, not {tuple(wanted.shape)}"
        yield torch.allclose(own, wanted, rtol=1e-5, atol=1e-6), f"other values than the library's: {hints[i]}"
        slopes = _slopes(found, own)
        for name, other in _slopes(due, wanted).items():
            one = slopes[name]
            both = one is not None and other is not None
            same = torch.allclose(one, other, rtol=1e-4, atol=1e-6) if both else one is other  # type: ignore[arg-type]
            yield same, f"the values are correct, the gradient of {name} is not: detach nothing"


def _slopes(module: nn.Module, output: Tensor) -> dict[str, Tensor | None]:
    """The gradient of a module's every weight; None where ``output`` does not depend on it."""
    names, weights = zip(*module.named_parameters(), strict=True)
    found = torch.autograd.grad(output.square().sum(), weights, retain_graph=True, allow_unused=True)
    return dict(zip(names, found, strict=True))


@build("Stage")
def stage(answer: Any) -> Lines:
    """Correct: with the same weights your stage gives what the course's gives, and the same gradients."""
    ours, theirs = answer(8, 3).double(), parts.SideStage(8, 3).double()
    yield from same_weights(ours, theirs)
    tokens, state = (torch.randn(2, 7, d, dtype=torch.float64) for d in (8, 3))
    hints = {
        0: "first comes the new state, MLP(Down(tokens) + state), with a GELU in the MLP",
        1: "the exit reads tokens, then the new state",
    }
    yield from same_results(ours, theirs, (tokens, state), hints)
    first = "without a state, as at the first stage, the MLP reads Down(tokens) alone"
    yield from same_results(ours, theirs, (tokens, None), {0: first, 1: first})


@build("Bypass")
def bypass(answer: Any) -> Lines:
    """Correct: it starts as the identity, and with the same weights it gives what `dx.models.ConvBypass` gives."""
    ours, theirs = answer(8, 3, (2, 4)).double(), parts.PatchBypass(8, 3, (2, 4)).double()
    yield from same_weights(ours, theirs)
    tokens = torch.randn(2, 9, 8, dtype=torch.float64)
    start = ours(tokens)
    yield isinstance(start, Tensor), "forward must return the tokens, (B, N, D)"
    identity = "at the start it must be the identity: x + up(…), weight and bias of `up` zero"
    yield torch.equal(start, tokens), identity
    hint = "the class token skips the convolution, but not GELU and `up`; patches lie row by row in `self.grid`"
    yield from same_results(ours, theirs, (tokens,), {0: hint})


MISTAKES: dict[str, dict[str, Any]] = {  # in Σ and its root: what a check says, and what `_otherwise` then does
    "the class token is in Σ, which is that of the patches, `x[:, 1:]`": {"begin": 0},
    "Σ is not centred: subtract each channel's mean over the patches first": {"centre": 0},
    "Σ is divided by N − 1, not by N": {"less": 1},
    "the root is missing: `second` reads the triangle of √Σ, not of Σ": {"rounds": 0},
    "Newton–Schulz runs four rounds, not five": {"rounds": 4},
    "Newton–Schulz runs six rounds, not five": {"rounds": 6},
    "this is the root of A = Σ / tr Σ: multiply it by √(tr Σ)": {"back": 0.5},
    "the triangle is the upper one, row by row: `torch.triu_indices`": {"indices": torch.tril_indices},
}


def _otherwise(of: Any, x: Tensor, mistake: Mapping[str, Any]) -> Tensor:
    """The logits (B, C) of a predictor ``of`` with one of `MISTAKES`."""
    usual: dict[str, Any] = {"begin": 1, "centre": 1, "less": 0, "rounds": 5, "back": 0, "indices": torch.triu_indices}
    begin, centre, less, rounds, back, indices = (usual | dict(mistake)).values()
    reduced = of.reduce(x[:, begin:])
    centred = reduced - centre * reduced.mean(dim=1, keepdim=True)
    sigma = centred.mT @ centred / (centred.shape[1] - less)
    trace = sigma.diagonal(dim1=1, dim2=2).sum(dim=1)[:, None, None]
    root = dx.models.newton_schulz(sigma, rounds) / trace**back if rounds else sigma
    rows, columns = indices(*sigma.shape[1:])
    return of.first(x[:, 1:].mean(dim=1)) + of.second(root[:, rows, columns])  # type: ignore[no-any-return]


@build("Predictor")
def predictor(answer: Any) -> Lines:
    """Correct: with the same weights it gives what `dx.models.CovariancePredictor` gives."""
    ours, theirs = answer(8, 4, 3).double(), parts.SecondOrderPredictor(8, 4, 3).double()
    yield from same_weights(ours, theirs)
    tokens = 3 * torch.randn(2, 10, 8, dtype=torch.float64) + 1
    ours.load_state_dict(theirs.state_dict())
    found = ours(tokens)
    if isinstance(found, Tensor) and found.shape == (2, 3):
        yield bool((found.abs() < 1e6).all()), "it grows without bound: the rounds begin with A = Σ / tr Σ"
        for hint, mistake in MISTAKES.items():
            yield not torch.allclose(found, _otherwise(theirs, tokens, mistake)), hint
        rest = found - theirs(tokens) + theirs.first(tokens[:, 1:].mean(dim=1))
        for hint, read in {"the class token": tokens[:, 0], "the mean of all tokens": tokens.mean(dim=1)}.items():
            yield not torch.allclose(rest, theirs.first(read)), f"`first` reads {hint}, not the mean of the patches"
    second = "`second` reads patches alone, centred, over N; five rounds; times √tr; the triangle row by row"
    yield from same_results(ours, theirs, (tokens,), {0: second})
    empty = ours(torch.zeros_like(tokens))
    yield bool(torch.isfinite(empty).all()), "where all patches are alike Σ is 0: add 1e-6 to the trace"


@build("weights")
def weights(answer: Callable[[int, int], Any]) -> Lines:
    """Correct: the release's cross-over, as `--schedule linear` has it."""
    for epochs in (2, 5, 12, 100):
        for epoch in (0, epochs // 2, epochs - 1):
            due, found = parts.weights(epoch, epochs), answer(epoch, epochs)
            yield found is not None and len(found) == 4, "it must return four numbers, one for each exit"
            near = torch.allclose(torch.as_tensor(found, dtype=torch.float64), torch.tensor(due).double(), atol=1e-6)
            shown = ", ".join(f"{float(value):.3g}" for value in found)
            wanted = ", ".join(f"{value:.3g}" for value in due)
            yield near, f"epoch {epoch} of {epochs} (from 0): ({shown}), and it should be ({wanted})"


@build("DMPO")
def assembled(answer: Any) -> Lines:
    """Correct: bypasses stay aside, every exit has its norm, and the logits are (images, exits, classes)."""

    def of(kind: Any) -> Any:
        stages = [parts.SideStage(5, 3) for _ in range(3)]
        bypasses = [parts.PatchBypass(8, 3, (2, 2)), parts.PatchBypass(8, 3, (2, 2)), nn.Identity()]
        second, mean = parts.SecondOrderPredictor, parts.MeanPredictor
        return kind(stages, bypasses, [second(8, 4, 5), second(8, 4, 5), mean(8, 5)], 8).double()

    ours, theirs = of(answer), of(parts.EarlyExitNet)
    yield from same_weights(ours, theirs)
    hint = "stage k gets the state of stage k − 1; the exit's way is bypass, norm, predictor; stack along dimension 1"
    yield from same_results(ours, theirs, (torch.randn(3, 2, 5, 5, dtype=torch.float64),), {0: hint})
