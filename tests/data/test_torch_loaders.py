from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from timm.data import create_transform
from torchvision.transforms import v2

from dmpo_explore.config import Preprocess
from dmpo_explore.data.images import load_images
from dmpo_explore.data.torch_loaders import ImageDataset, Views, make_loader, make_transform

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@given(value=st.integers(0, 255), size=st.integers(1, 40), height=st.integers(1, 30), width=st.integers(1, 30))
def test_a_plain_picture_stays_plain(value: int, size: int, height: int, width: int) -> None:
    out = make_transform(Preprocess(size, MEAN, STD))(np.full((height, width, 3), value, dtype=np.uint8))
    expected = (value / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
    assert (out.shape, out.dtype) == ((3, size, size), torch.float32)
    torch.testing.assert_close(out, expected[:, None, None].expand(3, size, size), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [14, 28, 70])
def test_resizing_equals_pillow_within_a_grey_level(size: int) -> None:
    picture = load_images("fashion-mnist", "test")[3]
    out = make_transform(Preprocess(size, (0.0,) * 3, (1.0,) * 3))(picture)
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
    pre = Preprocess(32, (0.0,) * 3, (1.0,) * 3, resize="crop", crop_pct=crop_pct)
    out = make_transform(pre)(image).permute(1, 2, 0).numpy()
    assert np.abs(out - timm_view(image, 32, crop_pct)).max() * 255 <= 2.01  # Pillow resizes there
    chain = v2.Resize(pre.shorter_side)(torch.from_numpy(image).permute(2, 0, 1))
    assert tuple(chain.shape[1:]) == pre.scaled(*shape)
    if shape[0] == shape[1] and crop_pct == 1:
        assert np.array_equal(out, make_transform(replace(pre, resize="squash"))(image).permute(1, 2, 0).numpy())


def test_the_source_is_left_alone_and_may_be_read_only() -> None:
    picture = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    picture.setflags(write=False)
    out = make_transform(Preprocess(4, (0.0,) * 3, (1.0,) * 3))(picture)
    out.zero_()
    assert picture.reshape(-1).tolist() == list(range(48))


def test_flip_mirrors_about_half_of_them() -> None:
    picture = np.zeros((4, 4, 3), dtype=np.uint8)
    picture[:, :2] = 255
    transform = make_transform(Preprocess(4, (0.0,) * 3, (1.0,) * 3), flip=True)
    torch.manual_seed(0)
    lefts = [float(transform(picture)[0, 0, 0]) for _ in range(100)]
    assert set(lefts) == {0.0, 1.0}
    assert 30 < sum(lefts) < 70


def test_crops_keep_at_least_the_share_that_was_asked_for() -> None:
    rows = np.repeat(np.arange(100, dtype=np.uint8)[:, None], 100, axis=1)
    picture = np.stack([rows, rows.T, rows], axis=-1)  # red tells the row, green the column
    pre = Preprocess(50, (0.0,) * 3, (1.0,) * 3, "nearest")
    torch.manual_seed(0)
    crops = [255 * make_transform(pre, crop_scale=0.5)(picture) for _ in range(50)]
    sizes = [float(c[0].max() - c[0].min() + 2) * float(c[1].max() - c[1].min() + 2) / 10_000 for c in crops]
    assert 0.46 < min(sizes) < 0.6 and 0.9 < max(sizes) <= 1.05
    whole = make_transform(pre)(picture)
    assert torch.equal(make_transform(pre, crop_scale=1.0)(picture), whole)


def test_transform_bad_input() -> None:
    with pytest.raises(ValueError, match=r"unknown resizing 'cut'. Valid: crop, squash"):
        make_transform(Preprocess(8, MEAN, STD, resize="cut"))
    with pytest.raises(ValueError, match=r"unknown interpolation 'cubic'.*bicubic"):
        make_transform(Preprocess(8, MEAN, STD, "cubic"))
    with pytest.raises(ValueError, match="three entries"):
        make_transform(Preprocess(8, (0.5,), (0.5,)))
    with pytest.raises(ValueError, match="above 0"):
        make_transform(Preprocess(8, MEAN, (0.2, 0.0, 0.2)))


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
