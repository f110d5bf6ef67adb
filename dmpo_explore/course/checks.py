"""What a reader builds is kept in files beside his notebooks, and later lessons find it there.

In: the cell that a check has accepted. Out: ``my_parts/NAME.py``, plain Python, which `mine` reads.
"""

from __future__ import annotations

import re
import runpy
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, wraps
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from scipy.stats import binom
from torch import Tensor, nn

import dmpo_explore as dx

from ..utils.files import write_text
from ..utils.torch_tools import seeded
from . import parts

FOLDER = Path("my_parts")  # beside the notebook
HEADER = "# Written by the course from your notebook: run the cell there again to renew it.\n\n"
HEADER += "import numpy as np\nimport torch\nfrom torch import nn\nfrom torch.nn import functional as F\n\n"
HEADER += "import dmpo_explore as dx\n\n\n"


def shell() -> Any:
    """The IPython that runs the notebook; None outside of it."""
    return sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None


def cell() -> str:
    """The text of the notebook cell that runs at present; empty outside of IPython."""
    return str(shell().history_manager.input_hist_raw[-1]) if shell() is not None else ""


def keep(name: str) -> None:
    """Write the running cell, without its check, to ``my_parts/NAME.py``, if it is the cell that builds the part."""
    text = re.sub(r"(?m)^checks\..*\n?", "", cell()).strip()
    if re.search(rf"(?m)^(class|def) {name}\b", text):  # not one that reads it again
        FOLDER.mkdir(exist_ok=True)
        write_text(FOLDER / f"{name}.py", HEADER + text + "\n")


# Checks of what a reader builds: each compares it with the library's, on the same inputs and with the same weights.
#
# In: a class or function as the student's edition asks for it. Out: a line that says it is correct, after which the
# cell is kept (`keep`), or `NotYet`, which a notebook shows as one line: what is not right yet, and a hint.
# `mine` reads what was kept, if it still passes.

Lines = Iterator[tuple[bool, str]]  # whether it holds, and the hint if not
KINDS = {"b": ("b", "true or false"), "i": ("iu", "whole numbers"), "f": ("fiu", "numbers")}  # of numpy's dtypes


class NotYet(Exception):
    """What is built does not pass; a notebook shows the message alone."""

    def _render_traceback_(self) -> list[str]:
        return [f"✘ Not yet: {self}"]


def missing(name: str) -> type:
    """Stands in for a part whose cell still has its three dots: whatever uses it says which part that is."""

    def refuse(*args: Any, **options: Any) -> None:
        raise NotYet(f"this cell needs your {name}: build it above, where its three dots are, then go on")

    return type(name, (), {"__new__": refuse, "__init_subclass__": refuse})


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
            if re.search(r"(?m)^\s*\.\.\.\s*$", cell()):
                shell().user_ns[name] = missing(name)
                raise NotYet("nothing is written here yet: put your lines in place of the three dots, and run it again")
            try:
                with seeded(0):
                    wrong = next((hint for holds, hint in lines(answer) if not holds), None)
            except NotYet:
                raise
            except Exception as error:  # anything may be written
                raise NotYet(f"it cannot be run ({type(error).__name__}: {error})") from None
            if wrong:
                raise NotYet(wrong)
            keep(name)
            return Passed(lines.__doc__ or "")

        CHECKS[name] = check
        return check

    return made


def same(found: Any, due: Any, hint: str) -> Lines:
    """Lines of a check: an array has the kind, shape and values of another."""
    values, wanted = np.asarray(found), np.asarray(due)
    kinds, name = KINDS[wanted.dtype.kind]
    yield found is not None, f"it returns nothing: {hint}"
    yield values.shape == wanted.shape, f"it returns the shape {values.shape}, not {wanted.shape}: {hint}"
    yield values.dtype.kind in kinds, f"it must return {name}, not {values.dtype}: {hint}"
    for where in np.argwhere(~np.isclose(values.astype(float), wanted.astype(float), rtol=1e-5, atol=1e-6)):
        at = f" at {', '.join(map(str, where))}" if len(where) else ""
        yield False, f"it returns {values[*where]}{at}, and it should be {wanted[*where]}: {hint}"


def same_weights(found: nn.Module, due: nn.Module) -> Lines:
    """Lines of a check: a module has the weights of another, by name and shape."""
    ours, theirs = ({name: tuple(w.shape) for name, w in module.state_dict().items()} for module in (found, due))
    for name in [*theirs, *ours]:
        yield name in theirs, f"a weight {name} is not needed: there are {', '.join(theirs)}"
        yield name in ours, f"{name} is missing: it needs the shape {theirs[name]}"
        yield ours[name] == theirs[name], f"{name} has the shape {ours[name]}, and it needs {theirs[name]}"


def same_results(found: nn.Module, due: nn.Module, inputs: Sequence[Any], *hints: str) -> Lines:
    """Lines of a check: with random weights, two modules give the same, and the same gradients; a hint per output."""
    for weight in due.parameters():
        nn.init.normal_(weight, std=0.5)
    found.load_state_dict(due.state_dict())
    given = {f"input {i}": x.requires_grad_() for i, x in enumerate(inputs, start=1) if isinstance(x, Tensor)}
    ours, theirs = (module(*inputs) for module in (found, due))
    if isinstance(theirs, tuple):
        yield isinstance(ours, tuple) and len(ours) == len(theirs), f"it must return {len(theirs)} things"
    else:
        ours, theirs = (ours,), (theirs,)
    for own, wanted, hint in zip(ours, theirs, hints, strict=True):
        yield isinstance(own, Tensor), f"it returns {'nothing' if own is None else type(own).__name__}: {hint}"
        yield own.shape == wanted.shape, f"it returns the shape {tuple(own.shape)}, not {tuple(wanted.shape)}"
        yield torch.allclose(own, wanted, rtol=1e-5, atol=1e-6), f"other values than the library's: {hint}"
        slopes = _slopes(found, given, own)
        for name, slope in _slopes(due, given, wanted).items():
            same = torch.allclose(slopes[name], slope, rtol=1e-4, atol=1e-6)
            yield same, f"the values are correct, the gradient of {name} is not: detach nothing"


def _slopes(module: nn.Module, inputs: Mapping[str, Tensor], output: Tensor) -> dict[str, Tensor]:
    """The gradient of a module's every weight and input; 0 where ``output`` does not depend on it."""
    read = {**dict(module.named_parameters()), **inputs}
    slopes = torch.autograd.grad(output.square().sum(), [*read.values()], retain_graph=True, materialize_grads=True)
    return dict(zip(read, slopes, strict=True))


@build("Stage")
def stage(answer: Any) -> Lines:
    """Correct: with the same weights your stage gives what the course's gives, and the same gradients."""
    ours, theirs = answer(8, 3).double(), parts.SideStage(8, 3).double()
    yield from same_weights(ours, theirs)
    tokens, state = (torch.randn(2, 7, d, dtype=torch.float64) for d in (8, 3))
    new = "first comes the new state, MLP(Down(tokens) + state), with a GELU in the MLP"
    yield from same_results(ours, theirs, (tokens, state), new, "the exit reads tokens, then the new state")
    first = "without a state, as at the first stage, the MLP reads Down(tokens) alone"
    yield from same_results(ours, theirs, (tokens, None), first, first)


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
    yield from same_results(ours, theirs, (tokens,), hint)


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
    yield from same_results(ours, theirs, (tokens,), second)
    empty = ours(torch.zeros_like(tokens))
    yield bool(torch.isfinite(empty).all()), "where all patches are alike Σ is 0: add 1e-6 to the trace"


@build("weights")
def weights(answer: Callable[[int, int], Any]) -> Lines:
    """Correct: the release's cross-over, as `--schedule linear` has it."""
    for epochs in (2, 5, 12, 100):
        for epoch in (0, epochs // 2, epochs - 1):
            due = dx.training.loss_weights("linear", epoch, epochs, 4)
            yield from same(answer(epoch, epochs), due, f"epoch {epoch} of {epochs}, counted from 0")


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
    yield from same_results(ours, theirs, (torch.randn(3, 2, 5, 5, dtype=torch.float64),), hint)


@cache
def _record() -> dx.ExitRecord:
    return dx.load_run("demo").record("test").subset(np.arange(0, 1300, 3))


@build("exits_of")
def exits(answer: Callable[[Any, float], Any]) -> Lines:
    """Correct: the exits are those of the library's policy, at every threshold that was tried."""
    confidence = _record().confidence
    for threshold in (0.0, 0.25, 0.4, 0.9, float(confidence[:, 0].max()), 1.01):
        given = confidence.copy()
        due = dx.fit_policy(_record(), threshold=threshold).exits(_record())
        hint = f"exits at the threshold {threshold:.3f}; reaching it is enough, and the last exit takes what is left"
        yield from same(answer(given, threshold), due, hint)
        yield bool((given == confidence).all()), "the exits are correct, but the confidences were changed on the way"


@build("mistakes")
def mistakes(answer: Callable[[Any, Any], Any]) -> Lines:
    """Correct: they are the images that `dx.Outcome` finds, at any exits."""
    record = _record()
    anywhere = np.random.default_rng(0).integers(0, record.n_exits, record.n_images)
    for found in (anywhere, dx.fit_policy(record, threshold=0.4).exits(record)):
        outcome, given = dx.Outcome(record, found), answer(record.correct.copy(), found.copy())
        yield isinstance(given, tuple) and len(given) == 2, "it must return two masks"
        yield from same(given[0], outcome.early_exit_error, "lost: incorrect at its exit, correct at the last")
        avoided = outcome.correct & ~record.correct[:, -1]
        yield from same(given[1], avoided, "saved: correct at its exit, incorrect at the last")


@build("loop")
def loop(answer: Callable[..., Any]) -> Lines:
    """Correct: it reads the exits so far and computes none in vain. On a real model that is the saving."""
    record = _record()
    for threshold in (0.0, 0.4, 0.8, float(record.confidence[0, 0]), 1.01):
        looked = np.zeros((record.n_images, record.n_exits), int)

        def look(k: int, rows: Any, looked: Any = looked) -> Any:
            if np.asarray(rows).dtype == bool:
                raise NotYet("`look` takes numbers of images, not a mask: np.flatnonzero(mask)")
            rows = np.asarray(rows, int)
            if not len(rows):
                raise NotYet(f"exit {k + 1} is computed for no image at all: stop when every image has exited")
            looked[rows, k] += 1
            return record.confidence[rows, k]

        due = dx.fit_policy(record, threshold=threshold).exits(record)
        yield from same(answer(look, record.n_images, record.n_exits, threshold), due, f"threshold {threshold:.3f}")
        needed = np.arange(record.n_exits) <= due[:, None]
        twice = "the exits are correct, but one was computed twice, or for an image that had exited before it"
        yield bool((looked <= needed).all()), twice
        never = "the exits are correct, but images that reach the last exit never had it computed: it must answer them"
        yield bool((looked >= needed).all()), never


@build("passing")
def passing(answer: Callable[[Any, int, float, float], Any]) -> Lines:
    """Correct: it is Learn then Test, a fixed order, a p-value per threshold, and a stop at the first failure."""
    for errors, n, epsilon, delta in (
        ([0, 3, 9, 2, 1, 8], 500, 0.01, 0.05),
        ([9, 0, 0], 500, 0.01, 0.05),
        ([0, 0, 1], 500, 0.01, 0.05),
        ([0, 0], 50, 0.05, 0.05),
        (range(40), 655, 0.05, 0.05),
        (range(40), 655, 0.03, 0.2),
    ):
        due = np.minimum.accumulate(binom.cdf(errors, n, epsilon) <= delta).sum()
        hint = f"thresholds that pass before the first failure, for errors {list(errors)[:6]} of {n}"
        yield from same(answer(np.array(errors), n, epsilon, delta), due, hint)


@build("drops_of")
def drops(answer: Callable[..., Any]) -> Lines:
    """Correct: it is what `dx.attribute(…, method="feature_ablation")` gives, for all exits at once."""
    config = dx.ModelConfig("test_vit", "random", 32, exits=2, predictor="linear", bypass_width=4)
    model = dx.build_model(config, n_classes=5).eval()
    for x in torch.randn(2, 3, 32, 32):
        hidden = dx.attribution.make_baseline(model, x[None], "black")[0]
        maps = dx.compare_exits(model, x, method="feature_ablation").attributions
        due = np.stack([one.tokens.ravel() for one in maps])
        hint = "the logit of the last exit's class, less the same with one patch hidden; patches row by row"
        yield from same(answer(model, x.clone(), hidden, 16), due, hint)


class Mine(SimpleNamespace):
    """Parts by name; printed, it says of each whether it is the reader's own or the course's."""

    def __repr__(self) -> str:
        whose = {True: "the course's", False: f"yours, from {FOLDER}"}
        return "\n".join(f"{name:<9} {whose[part is parts.PARTS[name]]}" for name, part in vars(self).items())


def mine(*names: str) -> Mine:
    """The named parts, `Stage`, `Bypass` or `Predictor`: those that you built, or else the course's.

    Raises:
        NotYet: a file of yours that cannot be run, or no longer passes.

    Example:
        >>> mine("Bypass")
        Bypass    the course's
    """
    found = Mine()
    for name in names:
        path, part = FOLDER / f"{name}.py", parts.PARTS[name]
        if path.is_file():
            try:
                part = runpy.run_path(str(path), run_name="my_parts")[name]
                CHECKS[name](part)
            except NotYet as error:
                raise NotYet(f"{path}: {error} Delete the file, or mend it.") from None
            except Exception as error:
                said = f"{path} cannot be run ({type(error).__name__}: {error}); delete it, or mend it"
                raise NotYet(said) from None
        setattr(found, name, part)
    return found
