"""Images: known data sets, the user's folders, files; loaders for torch.

Example:
    >>> import dmpo_explore as dx
    >>> images = dx.data.load_images("digits", "train", train_size=40)
    >>> len(images), images[0].shape, images.class_names[:3]
    (40, (8, 8, 3), ('0', '1', '2'))
    >>> dx.data.check_data(dx.DataConfig("digits")).ready  # nothing would stop a training on them
    True
"""

from typing import TYPE_CHECKING

from ..utils.lazy import public_names

if TYPE_CHECKING:
    from .check import CHECKS as CHECKS
    from .check import DataCheck as DataCheck
    from .check import Finding as Finding
    from .check import check_data as check_data
    from .check import training_plan as training_plan
    from .edits import EDITS as EDITS
    from .edits import edited as edited
    from .frame import Data as Data
    from .image_files import MOST_BYTES as MOST_BYTES
    from .image_files import SENT_FORMATS as SENT_FORMATS
    from .image_files import open_image as open_image
    from .image_files import read_image as read_image
    from .image_files import unpack_images as unpack_images
    from .image_set import ImageFiles as ImageFiles
    from .image_set import ImageSet as ImageSet
    from .image_set import Pool as Pool
    from .images import DATA_KINDS as DATA_KINDS
    from .images import data_stamp as data_stamp
    from .images import fetch_data as fetch_data
    from .images import images_of as images_of
    from .images import load_images as load_images
    from .images import open_data as open_data
    from .kinds import Inputs as Inputs
    from .kinds import Kind as Kind
    from .known import DATASETS as DATASETS
    from .manifest import Differences as Differences
    from .manifest import Manifest as Manifest
    from .manifest import make_manifest as make_manifest
    from .manifest import manifest_check as manifest_check
    from .manifest import read_manifest as read_manifest
    from .names import READERS as READERS
    from .names import Source as Source
    from .names import reader_name as reader_name
    from .splits import SPLITS as SPLITS
    from .torch_loaders import make_loader as make_loader
    from .torch_loaders import make_transform as make_transform
else:
    __getattr__, __dir__, __all__ = public_names(__name__, __file__)
