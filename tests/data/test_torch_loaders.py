"""Images as batches: resized and normalised, augmented, in views that follow from seed, row and number alone."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from timm.data import create_transform
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from dmpo_explore.config import Preprocess
from dmpo_explore.data.images import load_images
from dmpo_explore.data.torch_loaders import (
    AREA,
    ImageDataset,
    Mixture,
    Views,
    changes,
    draw_mixture,
    least_area,
    make_loader,
    make_transform,
)
from dmpo_explore.utils.torch_tools import seeded

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
DIGITS = load_images("digits", "test").subset(slice(30))


def plain(size: int = 8, **options: Any) -> Preprocess:
    """Values from 0 to 1."""
    return Preprocess(size, (0.0,) * 3, (1.0,) * 3, **options)


@given(value=st.integers(0, 255), size=st.integers(1, 40), height=st.integers(1, 30), width=st.integers(1, 30))
def test_a_plain_picture_stays_plain(value: int, size: int, height: int, width: int) -> None:
    out = make_transform(Preprocess(size, MEAN, STD))(np.full((height, width, 3), value, dtype=np.uint8))
    expected = (value / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
    assert (out.shape, out.dtype) == ((3, size, size), torch.float32)
    torch.testing.assert_close(out, expected[:, None, None].expand(3, size, size), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [14, 28, 70])
def test_resizing_equals_pillow_within_a_grey_level(size: int) -> None:
    picture = load_images("fashion-mnist", "test")[3]
    out = make_transform(plain(size))(picture)
    wanted = np.asarray(Image.fromarray(picture).resize((size, size), Image.Resampling.BICUBIC))
    difference = (out * 255).permute(1, 2, 0).numpy() - wanted.astype(np.float32)
    assert np.abs(difference).max() <= 1.01


def timm_view(image: np.ndarray, size: int, crop_pct: float) -> np.ndarray:
    how = {"interpolation": "bicubic", "mean": (0.0,) * 3, "std": (1.0,) * 3}
    chain = create_transform(size, crop_pct=crop_pct, crop_mode="center", **how)
    return np.asarray(chain(Image.fromarray(image)).permute(1, 2, 0))


@pytest.mark.parametrize("shape", [(40, 90), (91, 40), (50, 50), (20, 25)])
@pytest.mark.parametrize("crop_pct", [1.0, 0.875])
def test_a_centre_crop_is_timms(shape: tuple[int, int], crop_pct: float) -> None:
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    image = np.stack([rows * 2, columns * 2, (rows + columns) % 200], axis=-1).astype(np.uint8)
    pre = plain(32, resize="crop", crop_pct=crop_pct)
    out = make_transform(pre)(image).permute(1, 2, 0).numpy()
    assert np.abs(out - timm_view(image, 32, crop_pct)).max() * 255 <= 2.01  # Pillow resizes there
    chain = v2.Resize(pre.shorter_side)(torch.from_numpy(image).permute(2, 0, 1))
    assert tuple(chain.shape[1:]) == pre.scaled(*shape)
    if shape[0] == shape[1] and crop_pct == 1:
        assert np.array_equal(out, make_transform(replace(pre, resize="squash"))(image).permute(1, 2, 0).numpy())


def test_the_source_is_left_alone_and_may_be_read_only() -> None:
    picture = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    picture.setflags(write=False)
    out = make_transform(plain(4))(picture)
    out.zero_()
    assert picture.reshape(-1).tolist() == list(range(48))


@pytest.mark.parametrize(
    ("preprocess", "how", "words"),
    [
        (Preprocess(8, MEAN, STD, resize="cut"), {}, r"unknown resizing 'cut'. Valid: crop, squash"),
        (Preprocess(8, MEAN, STD, "cubic"), {}, r"unknown interpolation 'cubic'.*bicubic"),
        (Preprocess(8, (0.5,), (0.5,)), {}, "three entries"),
        (Preprocess(8, MEAN, (0.2, 0.0, 0.2)), {}, "above 0"),
        (plain(), {"augment": "heavy"}, r"unknown augmentation 'heavy'. Valid: light, none, strong"),
    ],
)
def test_no_such_transform(preprocess: Preprocess, how: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make_loader(DIGITS, preprocess, **{"batch_size": 4} | how)


def test_dataset_and_loader_keep_order_and_labels() -> None:
    pictures = load_images("digits", "test").subset(slice(0, 10))
    pre = Preprocess(16, MEAN, STD)
    dataset = ImageDataset(pictures, make_transform(pre))
    batches = list(make_loader(pictures, pre, batch_size=4))
    assert [len(images) for images, _ in batches] == [4, 4, 2]
    assert torch.cat([labels for _, labels in batches]).tolist() == pictures.labels.tolist()
    assert batches[0][1].dtype == torch.int64
    torch.testing.assert_close(batches[2][0][1], dataset[9][0], rtol=0, atol=0)
    assert len(dataset) == 10


def test_the_global_seed_alone_decides_an_epoch() -> None:
    """What resuming bit-equal rests on."""
    pictures = load_images("digits", "test").subset(slice(0, 64))
    pre = Preprocess(8, MEAN, STD)
    used = make_loader(pictures, pre, batch_size=16, shuffle=True, flip=True, crop_scale=0.7)
    list(used)  # an epoch behind it
    fresh = make_loader(pictures, pre, batch_size=16, shuffle=True, flip=True, crop_scale=0.7)
    epochs = []
    for loader, seed in ((used, 5), (fresh, 5), (fresh, 6)):
        torch.manual_seed(seed)
        images, labels = zip(*loader, strict=True)
        epochs.append((torch.cat(images), torch.cat(labels)))
    assert torch.equal(epochs[0][0], epochs[1][0])
    assert torch.equal(epochs[0][1], epochs[1][1])
    assert not torch.equal(epochs[0][1], epochs[2][1])
    assert sorted(epochs[0][1].tolist()) == sorted(pictures.labels.tolist())


@pytest.mark.parametrize("augment", ["light", "strong"])
def test_processes_that_are_not_forked_get_the_images(augment: str) -> None:
    pictures, pre = load_images("digits", "test").subset(slice(4)), Preprocess(16, MEAN, STD)
    views = Views(4, seed=0, mixes=True)
    loader = make_loader(pictures, pre, batch_size=4, flip=True, augment=augment, views=views)
    assert torch.equal(pickle.loads(pickle.dumps(loader.dataset))[3][0], loader.dataset[3][0])


# -- augmentation: older options stay as they were --

ROWS, COLUMNS = np.mgrid[:120, :160] / 100
IMAGE = (127 + 60 * np.stack([np.sin(5 * ROWS) + COLUMNS, np.cos(4 * COLUMNS), ROWS - np.sin(3 * COLUMNS)], -1)).astype(
    np.uint8
)


def viewed(seed: int, size: int = 32, **options: Any) -> Tensor:
    with seeded(seed):
        return make_transform(plain(size, interpolation="bilinear"), **options)(IMAGE)


def test_the_older_options_draw_as_they_always_did() -> None:
    """Old trainings are repeated bit by bit."""
    how: dict[str, Any] = {"interpolation": InterpolationMode.BILINEAR, "antialias": True}
    chains = {
        (False, 1.0): [v2.Resize((32, 32), **how)],
        (True, 1.0): [v2.Resize((32, 32), **how), v2.RandomHorizontalFlip()],
        (True, 0.5): [v2.RandomResizedCrop((32, 32), scale=(0.5, 1), **how), v2.RandomHorizontalFlip()],
        (False, 0.5): [v2.RandomResizedCrop((32, 32), scale=(0.5, 1), **how)],
    }
    end = [v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.0] * 3, [1.0] * 3)]
    for (flip, crop_scale), chain in chains.items():
        for seed in range(5):
            with seeded(seed):
                expected = v2.Compose([*chain, *end])(torch.from_numpy(IMAGE).permute(2, 0, 1))
            assert torch.equal(viewed(seed, flip=flip, crop_scale=crop_scale), expected)


def test_light_is_a_crop_of_a_stated_least_area() -> None:
    for seed in range(5):
        light = viewed(seed, augment="light", flip=True)
        assert torch.equal(light, viewed(seed, crop_scale=AREA, flip=True))
        assert torch.equal(viewed(seed, augment="light", crop_scale=0.8), viewed(seed, crop_scale=0.8))
    assert [least_area(kind, 1.0) for kind in ("none", "light", "strong")] == [1.0, AREA, AREA]


def test_strong_changes_most_of_the_crops() -> None:
    same = [torch.equal(viewed(s, augment="strong"), viewed(s, augment="light")) for s in range(60)]
    assert 2 <= sum(same) <= 20  # 1 of 14 changes is none, and some change nothing here


@pytest.mark.parametrize("augment", ["none", "light", "strong"])
def test_one_seed_is_one_view_at_any_size(augment: str) -> None:
    """A teacher with larger images sees the same crop, mirrored alike, and the same change."""
    own, others = [], []
    for seed in range(20):
        small, large, other = (viewed(seed + more, size, augment=augment, flip=True)
                               for size, more in ((48, 0), (96, 0), (96, 99)))  # fmt: skip
        for found, view in ((own, large), (others, other)):
            found.append(float((small - torch.nn.functional.avg_pool2d(view, 2)).abs().mean()))
    assert max(own) < 0.02
    assert augment == "none" or np.median(others) > 0.06


def test_one_change_of_rand_augment_at_up_to_half_of_its_strengths() -> None:
    (choice,) = changes("strong")
    assert isinstance(choice, v2.RandomChoice)
    assert [(kind.num_ops, kind.magnitude, kind.num_magnitude_bins) for kind in choice.transforms] == [
        (1, strength, 31) for strength in range(16)
    ]
    black = torch.zeros(3, 16, 16, dtype=torch.uint8)
    assert all(torch.equal(choice(black), black) for _ in range(30))
    assert changes("none") == changes("light") == []


# -- views --


def seen(views: Views | None, size: int = 8, **options: Any) -> dict[int, Tensor]:
    """Row → image, of an epoch in an order of its own."""
    loader = make_loader(DIGITS, plain(size), batch_size=7, shuffle=True, augment="strong",
                         flip=True, views=views, indexed=True, **options)  # fmt: skip
    return {int(row): image for images, _, rows in loader for image, row in zip(images, rows, strict=True)}


def same(a: dict[int, Tensor], b: dict[int, Tensor]) -> list[bool]:
    return [torch.equal(a[row], b[row]) for row in range(30)]


def test_a_view_follows_from_seed_row_and_number_alone() -> None:
    views = Views(30, seed=5, count=3, mixes=True)
    torch.manual_seed(0)
    first = seen(views)
    torch.manual_seed(1)  # another order of images, and other numbers everywhere else
    assert all(same(first, seen(Views(30, seed=5, mixes=True))))
    assert sum(same(first, seen(views.at(1)))) < 5 and sum(same(first, seen(Views(30, seed=6, mixes=True)))) < 5
    views.begin(4)
    assert views.number == 1 and all(same(seen(views), seen(views.at(1))))
    views.begin(6)
    assert all(same(seen(views), first))
    assert sum(same(seen(None), seen(None))) < 5  # without views each epoch goes on with the global generator


def test_workers_show_the_same_views() -> None:
    views = Views(30, seed=5, mixes=True)
    views.begin(2)
    assert all(same(seen(views), seen(views, workers=2)))


def test_views_leave_the_global_generator_alone() -> None:
    torch.manual_seed(7)
    state = torch.get_rng_state()
    with Views(3, seed=0).drawing(1):
        torch.rand(4)
    assert Views(3, seed=0, mixes=True).mixture(0) == Views(3, seed=0, mixes=True).mixture(0)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_half_of_the_views_are_mixed_by_both_ways_alike() -> None:
    views = Views(10, seed=0, mixes=True)
    found = [views.at(number).mixture(row) for number in range(40) for row in range(10)]
    mixed = [mixture for mixture in found if mixture is not None]
    assert 170 < len(mixed) < 230 and 70 < sum(mixture.box is None for mixture in mixed) < 130
    assert {mixture.partner for mixture in mixed} == {*range(10)}
    assert 0.4 < float(np.mean([mixture.share for mixture in mixed if mixture.box is None])) < 0.6
    assert all(Views(10, seed=0).mixture(row) is None for row in range(10))


def test_a_mixed_view_is_made_of_the_views_of_both_images() -> None:
    unmixed, views = seen(Views(30, seed=2)), Views(30, seed=2, mixes=True)
    mixed = seen(views)
    for row in range(30):
        mixture = views.mixture(row)
        expected = unmixed[row] if mixture is None else mixture.of(unmixed[row], unmixed[mixture.partner])
        assert torch.equal(mixed[row], expected)


@pytest.mark.parametrize("size", [7, 32])
def test_cutmix_leaves_the_stated_share(size: int) -> None:
    generator, boxes = np.random.default_rng(0), 0
    for _ in range(60):
        mixture = draw_mixture(generator, 5)
        image = mixture.of(torch.zeros(3, size, size), torch.ones(3, size, size))
        boxes += mixture.box is not None
        rounding = 2 / size if mixture.box else 0  # half a pixel on each of four sides
        assert 1 - float(image.mean()) == pytest.approx(mixture.share, abs=1e-5 + rounding)
    assert 10 < boxes < 50
    assert Mixture(0, 1.0, (0.5, 0.5, 0.5, 0.5)).of(torch.zeros(1, 4, 4), torch.ones(1, 4, 4)).sum() == 0
