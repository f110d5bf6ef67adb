"""Bypasses: values, identity at the start, what each of them reads."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from dmpo_explore import ModelConfig, build_model
from dmpo_explore.models.bypass import BYPASSES, Bypass, LadderBypass, NoBypass, convolve_patches

B, D, HIDDEN, GRID, PREFIX = 3, 12, 5, (3, 4), 2
N = PREFIX + GRID[0] * GRID[1]


def tokens(seed: int = 0) -> Tensor:
    return torch.randn(B, N, D, generator=torch.Generator().manual_seed(seed))


def opened(name: str, grid: tuple[int, int] = GRID, prefix: int = PREFIX) -> Any:
    """A bypass whose last layer is no longer zero."""
    torch.manual_seed(0)
    bypass: Any = BYPASSES[name](D, HIDDEN, grid, prefix)
    if hasattr(bypass, "up"):
        torch.nn.init.normal_(bypass.up.weight)
        torch.nn.init.normal_(bypass.up.bias)
    return bypass


def reference_hidden(bypass: Any, x: Tensor) -> Tensor:
    """GELU(DWConv(Down(LN x))) by loops over patches and their neighbours."""
    down = F.layer_norm(x, (D,), bypass.norm.weight, bypass.norm.bias) @ bypass.down.weight.T + bypass.down.bias
    h, w = bypass.grid
    rows = [down[:, i] for i in range(bypass.prefix)]
    for r in range(h):
        for c in range(w):
            total = bypass.conv.bias.expand(len(x), -1).clone()
            for dr in (-1, 0, 1):
                for dc in (-1, 0, 1):
                    if 0 <= r + dr < h and 0 <= c + dc < w:
                        neighbour = down[:, bypass.prefix + (r + dr) * w + c + dc]
                        total = total + neighbour * bypass.conv.weight[:, 0, 1 + dr, 1 + dc]
            rows.append(total)
    return F.gelu(torch.stack(rows, dim=1))


def influence(bypass: Bypass, source: int) -> set[int]:
    """Output tokens that change when input token ``source`` does."""
    x = tokens()
    y = x.clone()
    y[:, source] += torch.linspace(-3, 3, D)
    moved = (bypass(y)[0] - bypass(x)[0]).abs().amax(dim=(0, 2)) > 1e-6
    return set(moved.nonzero().flatten().tolist())


@pytest.mark.parametrize("name", BYPASSES)
def test_every_bypass_keeps_its_laws(name: str) -> None:
    """At first it is the identity; rows and prefix tokens stay alone; every weight has a gradient."""
    x, handed = tokens(), torch.randn(B, N, HIDDEN)
    out, side = BYPASSES[name](D, HIDDEN, GRID, PREFIX)(x)
    assert torch.equal(out, x) and (side is None) == (name != "ladder")
    bypass = opened(name)
    assert (name == "none") == (not [*bypass.parameters()])
    out, _ = bypass(x)
    assert torch.equal(out, bypass(x, handed)[0]) == (name != "ladder")
    torch.testing.assert_close(bypass(x[1:2])[0], out[1:2])
    for source in range(PREFIX):
        assert influence(bypass, source) == {source}
    with torch.autocast("cpu", torch.bfloat16):
        rounded = bypass(x)[0]
    torch.testing.assert_close(rounded.float(), out, rtol=0.05, atol=0.2)
    if name != "none":
        out.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in bypass.parameters())


@pytest.mark.parametrize("name", ["conv", "mlp", "ladder"])
def test_gradient_reaches_down_after_one_step(name: str) -> None:
    torch.manual_seed(0)
    bypass: Any = BYPASSES[name](D, HIDDEN, GRID, PREFIX)
    goal = tokens(1)
    optimizer = torch.optim.AdamW(bypass.parameters(), lr=0.1)
    norms = []
    for _ in range(2):
        optimizer.zero_grad()
        F.mse_loss(bypass(tokens())[0], goal).backward()
        assert bypass.up.weight.grad.norm() > 0
        norms.append(float(bypass.down.weight.grad.norm()))
        optimizer.step()
    assert norms[0] == 0 and norms[1] > 1e-3


@pytest.mark.parametrize("prefix", [PREFIX, 0])
def test_conv_equals_loops(prefix: int) -> None:
    bypass, x = opened("conv", prefix=prefix), tokens()[:, PREFIX - prefix :]
    expected = x + reference_hidden(bypass, x) @ bypass.up.weight.T + bypass.up.bias
    torch.testing.assert_close(bypass(x)[0], expected)


def test_conv_mixes_exactly_the_neighbourhood() -> None:
    bypass, (h, w) = opened("conv"), GRID
    for r in range(h):
        for c in range(w):
            near = {PREFIX + i * w + j for i in range(h) for j in range(w) if abs(i - r) <= 1 and abs(j - c) <= 1}
            assert influence(bypass, PREFIX + r * w + c) == near


def test_prefix_tokens_skip_the_convolution() -> None:
    bypass, x = opened("conv"), tokens()
    before = bypass(x)[0]
    torch.nn.init.normal_(bypass.conv.weight)
    after = bypass(x)[0]
    assert torch.equal(before[:, :PREFIX], after[:, :PREFIX])
    assert not torch.allclose(before[:, PREFIX:], after[:, PREFIX:])
    expected = x[:, :PREFIX] + bypass.up(F.gelu(bypass.down(bypass.norm(x[:, :PREFIX]))))
    torch.testing.assert_close(after[:, :PREFIX], expected)


def test_mlp_touches_prefix_tokens_only_where_there_are_any() -> None:
    x, bypass = tokens(), opened("mlp")
    out = bypass(x)[0]
    torch.testing.assert_close(
        out[:, :PREFIX] - x[:, :PREFIX], bypass.up(F.gelu(bypass.down(bypass.norm(x[:, :PREFIX]))))
    )
    assert torch.equal(out[:, PREFIX:], x[:, PREFIX:])
    patches = x[:, PREFIX:]
    bare = opened("mlp", prefix=0)
    torch.testing.assert_close(bare(patches)[0], patches + bare.up(F.gelu(bare.down(bare.norm(patches)))))


def test_ladder_reads_the_side() -> None:
    bypass, x = opened("ladder"), tokens()
    assert isinstance(bypass, LadderBypass)
    previous = torch.randn(B, N, HIDDEN)
    own = reference_hidden(bypass, x)
    out, side = bypass(x, previous)
    torch.testing.assert_close(side, own + 0.5 * previous)
    torch.testing.assert_close(out, x + side @ bypass.up.weight.T + bypass.up.bias)
    out.sum().backward()
    torch.testing.assert_close(bypass.gate.grad, (previous @ bypass.up.weight.T).sum())
    first, side = bypass(x)
    torch.testing.assert_close(side, own)
    torch.testing.assert_close(first, bypass(x, torch.zeros_like(own))[0])


def test_ladder_hands_gradient_to_the_exit_before() -> None:
    first, second, x = opened("ladder"), opened("ladder"), tokens()
    _, side = first(x)
    second(tokens(1), side)[0].square().sum().backward()
    assert first.down.weight.grad.norm() > 0 and first.up.weight.grad is None


def test_kernel_centre_is_the_identity() -> None:
    weight = torch.zeros(D, 1, 3, 3)
    weight[:, :, 1, 1] = 1
    assert torch.equal(convolve_patches(tokens(), weight, None, GRID, PREFIX), tokens())


def test_kernel_reads_rows_and_columns_in_raster_order() -> None:
    weight = torch.zeros(D, 1, 3, 3)
    weight[:, :, 1, 2] = 1  # the right neighbour
    x = tokens()
    out = convolve_patches(x, weight, None, GRID, PREFIX)[:, PREFIX:].reshape(B, *GRID, D)
    patches = x[:, PREFIX:].reshape(B, *GRID, D)
    assert torch.equal(out[:, :, :-1], patches[:, :, 1:])
    assert out[:, :, -1].abs().max() == 0


class OwnBypass(Bypass):
    """As a plug-in writes one: two layers, of any widths."""

    widths = (64, 64)  # that go in, and that come out

    def __init__(self, width: int, hidden: int, grid: tuple[int, int], prefix: int) -> None:
        super().__init__(width, hidden, grid, prefix)
        self.down, self.up = torch.nn.Linear(self.widths[0], hidden), torch.nn.Linear(hidden, self.widths[1])

    def forward(self, x: Tensor, side: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        return self.up(self.down(x)), None


class ReturnsOne(Bypass):
    def forward(self, x: Tensor, side: Tensor | None = None) -> Any:
        return x


class Wide(OwnBypass):
    widths = (48, 64)


class Long(OwnBypass):
    widths = (64, 65)


FITS_NOT = "exit 1, after block 3: .*{}.*tokens .*64.*{}.*{}"


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Wide, FITS_NOT.format("Wide", "mat1 and mat2", "down 48→20")),
        (Long, FITS_NOT.format("Long", r"it gives \(1, 5, 65\)", "up 20→65")),
        (ReturnsOne, r"ReturnsOne.*\(tokens, side\)"),
    ],
)
def test_one_that_does_not_fit_is_named_with_its_layers_and_the_width(
    kind: type[Bypass], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(BYPASSES, "own", kind)
    with pytest.raises(ValueError, match=message):
        build_model(ModelConfig("test_vit", "random", 32, exits=2, bypass="own", bypass_width=20), 3)


def test_the_trial_of_a_bypass_draws_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Drops(Bypass):
        def forward(self, x: Tensor, side: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
            return F.dropout(x, 0.5), None

    seen = []
    for kind in (NoBypass, Drops):
        monkeypatch.setitem(BYPASSES, "own", kind)
        torch.manual_seed(0)
        build_model(ModelConfig("test_vit", "random", 32, exits=2, bypass="own"), 3)
        seen.append(torch.rand(1).item())
    assert seen[0] == seen[1]


def test_the_trial_of_a_bypass_moves_no_running_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    class Normalised(Bypass):
        def __init__(self, width: int, hidden: int, grid: tuple[int, int], prefix: int) -> None:
            super().__init__(width, hidden, grid, prefix)
            self.batch_norm = torch.nn.BatchNorm1d(width)

        def forward(self, x: Tensor, side: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
            return self.batch_norm(x.mT).mT, None

    monkeypatch.setitem(BYPASSES, "own", Normalised)
    model = build_model(ModelConfig("test_vit", "random", 32, exits=2, bypass="own"), 3)
    found: Any = model.stages[0].bypass
    assert found.batch_norm.num_batches_tracked == 0 and found.training
