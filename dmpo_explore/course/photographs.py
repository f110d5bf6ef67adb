"""Photographs for a notebook: of Caltech-101 where it is on this computer, else public-domain ones of scikit-image.

In: how many. Out: arrays with names. A build of the notebooks sets ``NOTEBOOK_PUBLIC``, so that what is saved shows
only public-domain photographs.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt

from ..data.images import load_images
from ..utils.extras import extra_imports

OF_IMAGENET = ("dalmatian", "Leopards", "grand_piano", "revolver")  # of Caltech-101 and of ImageNet
PUBLIC = ("chelsea", "coffee", "rocket", "camera", "astronaut")  # of skimage.data: CC0 or public domain


def public_photographs(count: int = 3) -> dict[str, npt.NDArray[Any]]:
    """Photographs in the public domain that come with scikit-image: name → (h,w,3) uint8.

    Args:
        count: at most five.

    Raises:
        ImportError: scikit-image is not installed; the message names the extra.

    Example:
        >>> import dmpo_explore as dx
        >>> {name: image.shape for name, image in dx.course.public_photographs(1).items()}
        {'chelsea': (300, 451, 3)}
    """
    with extra_imports("a notebook's photographs", "notebooks"):
        from skimage import data
    images = {name: np.asarray(getattr(data, name)()) for name in PUBLIC[:count]}
    return {name: image if image.ndim == 3 else np.stack([image] * 3, axis=-1) for name, image in images.items()}


def photographs(count: int = 3) -> dict[str, npt.NDArray[Any]]:
    """Photographs of Caltech-101's test split where it is on this computer, else `public_photographs`.

    Args:
        count: how many, each of another class; first classes that ImageNet has, too.

    Example:
        >>> import dmpo_explore as dx
        >>> len(dx.course.photographs(2))
        2
    """
    if os.environ.get("NOTEBOOK_PUBLIC"):
        return public_photographs(count)
    try:
        images = load_images("caltech101", "test")
    except FileNotFoundError:
        return public_photographs(count)
    first = [images.class_names.index(name) for name in OF_IMAGENET if name in images.class_names]
    others = [c for c in range(len(images.class_names)) if c not in first]
    classes = first[:count] + [others[int(i)] for i in np.linspace(0, len(others) - 1, max(0, count - len(first)))]
    rows = [int(np.flatnonzero(images.labels == c)[0]) for c in classes]
    return {images.class_names[c]: images[row] for c, row in zip(classes, rows, strict=True)}
