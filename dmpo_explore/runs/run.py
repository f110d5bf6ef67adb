"""Run folder: configuration, history, policies, model card, records and weights of one training.

In: a folder (`load_run` finds it by name). Out: `Run`, which reads its parts when they are used: config.json,
history.csv, policies.json, card.md, records/<split>/, weights.safetensors. Only `Run.model`, `Run.inputs` and
`Run.preprocess` import torch (`torch_model`).
"""

from __future__ import annotations

import os
import shlex
import warnings
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from os.path import lexists
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..config import Config, Preprocess
from ..data.frame import Data
from ..data.image_set import ImageFiles
from ..data.images import open_data
from ..data.manifest import Manifest, read_manifest
from ..data.splits import SPLITS
from ..fitting.fit import fit_again, made_for
from ..policies.base import Policy
from ..policies.catalogue import read_policies
from ..records.record import ExitRecord
from ..utils.files import moved_aside, read_json
from ..utils.texts import read_text
from ..utils.typing import Bools, Ints
from .run_files import WEIGHTS, images_again, of_other_weights, read_class_names, read_config, read_history

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from ..data.image_set import ImageSet
    from ..models.dmpo import DMPO


@dataclass(frozen=True)
class Run:
    """One training's folder; ``path`` is the folder, ``name`` its name, ``found_by`` the name that `load_run` found.

    Example:
        >>> import dmpo_explore as dx
        >>> run = dx.load_run("fashion")
        >>> run.name, run.path.name, run.config.model.bypass
        ('fashion', 'fashion', 'conv')
        >>> run.record("test").n_images
        10000
    """

    path: Path
    found_by: str = field(default="", compare=False, repr=False, kw_only=True)

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.name

    @property
    def reference(self) -> str:
        """What `load_run` opens the run by, whatever other runs have its name: the name that found it, or its path.

        Example:
            >>> import dmpo_explore as dx
            >>> dx.load_run("demo").reference
            'demo'
        """
        return self.found_by or str(self.path)

    @property
    def quoted(self) -> str:
        """`reference` for a shell."""
        return shlex.quote(self.reference)

    @property
    def config(self) -> Config:
        """The configuration it was trained with; ValueError naming config.json if that is not a config.

        Example:
            >>> import dmpo_explore as dx
            >>> dx.load_run("fashion").config.data.name
            'fashion-mnist'
        """
        self.__dict__["_config"] = self._config.complete()
        return self._config

    @cached_property
    def _config(self) -> Config:
        return read_config(self.path / "config.json")

    def splits(self) -> list[str]:
        """Names of the splits that have a record, sorted.

        Example:
            >>> import dmpo_explore as dx
            >>> "test" in dx.load_run("demo").splits()
            True
        """
        records, found = f"{self.path}/records", set[str]()
        with suppress(OSError):  # a slider asks at every move, and a glob takes longer
            names = (name for name in os.listdir(records) if not name.startswith("."))
            found = {name for name in names if os.path.exists(f"{records}/{name}/meta.json")}
        replaced = {name for name in moved_aside(Path(records)) if not os.path.exists(f"{records}/{name}")}
        return sorted(found | replaced)  # what is being replaced in two steps is there, too, see `utils.files`

    def record(self, split: str) -> ExitRecord:
        """The `ExitRecord` of ``split``; imports no torch.

        Raises:
            ValueError: there is none, it is of earlier weights, or as `ExitRecord.load`.

        Example:
            >>> import dmpo_explore as dx
            >>> record = dx.load_run("fashion").record("test")
            >>> record.n_images, record.n_exits
            (10000, 6)
        """
        if split not in self.splits():
            has = ", ".join(self.splits()) or "none yet"
            raise ValueError(
                f"run {self.name!r} has no record of split {split!r} (records: {has}); "
                f"make it with `dmpo-explore record {self.quoted}`"
            )
        record = ExitRecord.load(self.path / "records" / split)
        if of_other_weights(self.path, record.meta.weights_sha256):
            other = "" if split in SPLITS else f" --other-data {shlex.quote(record.meta.data)}"
            raise ValueError(
                f"the {split} record of run {self.name!r} is of earlier weights: {WEIGHTS} has changed since; make it "
                f"again with `dmpo-explore record {self.quoted}{other} --split {record.meta.split} --force`"
            )
        return record

    @property
    def fitting_split(self) -> str:
        """The split to fit on: ``calibration`` if it is recorded, else ``val``, which also chose the epoch."""
        return "calibration" if "calibration" in self.splits() else "val"

    def history(self) -> pd.DataFrame:
        """The learning curves: one row per epoch (epoch, lambda_k, loss_k, accuracy_k on val, area, …, k from 1).

        Raises:
            FileNotFoundError: no epoch has been finished. ValueError: history.csv is not such a table.

        Example:
            >>> import dmpo_explore as dx
            >>> float(dx.load_run("demo").history()["accuracy_6"].max()) > 0.9
            True
        """
        path = self.path / "history.csv"
        if not lexists(path):
            raise FileNotFoundError(f"run {self.name!r} has no epoch yet: no file {path}")
        return read_history(path)

    def policies(self, *, as_saved: bool = False) -> dict[str, Policy]:
        """The fitted policies of policies.json by name, for the run's present records (see `fitted_here`).

        An empty dict if there are none. ``as_saved``: as they stand in the file, whatever record they were fitted on.
        Those of a split that is not recorded stay so too.

        Example:
            >>> import dmpo_explore as dx
            >>> sorted(dx.load_run("demo").policies())
            ['confidence-30%', 'confidence-50%', 'confidence-70%']
        """
        path = self.path / "policies.json"
        found, splits = read_policies(path) if lexists(path) else {}, self.splits()
        return {
            name: policy if as_saved or policy.fitted.get("split") not in splits else self.fitted_here(policy, name)
            for name, policy in found.items()
        }

    def fitted_here(self, policy: Policy, name: str = "") -> Policy:
        """A saved policy for this run: as it is, or fitted again to its target if it was fitted on another record.

        Args:
            name: of the policy in the warning; default: its kind.

        Warns:
            UserWarning: it is fitted again, or cannot be.

        Example:
            >>> import dmpo_explore as dx
            >>> run = dx.load_run("demo")
            >>> policy = dx.fit_policy(run.record("calibration"), flops=0.3)
            >>> run.fitted_here(policy) is policy
            True
        """
        splits = self.splits()
        if "record" not in policy.fitted or self._has_record_of(policy):
            return policy
        about = f"policy {name or policy.name!r} was fitted on another record than run {self.name!r} has"
        if self.fitting_split not in splits:
            warnings.warn(f"{about}, and it has none to fit it on again", UserWarning, stacklevel=2)
            return policy
        found = fit_again(policy, self.record(self.fitting_split))
        how = "its target cannot be met there: it is used as it is"
        if found is not policy:
            how = f"it is fitted again to its target on {self.fitting_split}"
        warnings.warn(f"{about}; {how}", UserWarning, stacklevel=2)
        return found

    def _has_record_of(self, policy: Policy) -> bool:
        """Whether a record a policy was fitted on is here: its split's, or one of other data that is not outdated."""
        split = str(policy.fitted.get("split"))
        if split in self.splits() and made_for(policy, self.record(split)):
            return True
        for name in self.splits():
            with suppress(ValueError):
                if name.endswith(f"-{split}") and made_for(policy, self.record(name)):
                    return True
        return False

    def card(self) -> str:
        """The model card in Markdown; empty if there is none.

        Example:
            >>> import dmpo_explore as dx
            >>> dx.load_run("fashion").card().splitlines()[0]
            '# fashion'
        """
        path = self.path / "card.md"
        return read_text(path) if lexists(path) else ""

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """Names of the C classes: from the weights' header, the manifest, a record, or else from the data.

        Example:
            >>> import dmpo_explore as dx
            >>> dx.load_run("fashion").class_names[:2]
            ('T-shirt/top', 'Trouser')
        """
        if lexists(self.path / WEIGHTS) and (names := read_class_names(self.path)):
            return names
        if self.manifest is not None:
            return self.manifest.class_names
        if self.splits():
            return self.record(self.splits()[0]).meta.class_names
        return self.split_images("train").class_names

    @cached_property
    def manifest(self) -> Manifest | None:
        """The list of its training, validation and test images; None in a run without one, such as the
        bundled ones, whose data sets have fixed splits.

        Raises:
            ValueError: the file is damaged.

        Example:
            >>> import dmpo_explore as dx
            >>> dx.load_run("demo").manifest is None
            True
        """
        return read_manifest(self.path)

    @property
    def data(self) -> Data:
        """The data that its config names, opened anew.

        Example:
            >>> import dmpo_explore as dx
            >>> dx.load_run("fashion").data.rule
            'train and test are the published ones; val is 5,000 images of train, equally from every class...'
        """
        return open_data(self.config.data)

    def split_images(self, split: str) -> ImageSet:
        """All images of ``split``, as the manifest lists them; without a manifest, as the data are divided now.

        Args:
            split: or the name of a record of other images (`record_name`).

        Raises:
            FileNotFoundError: files are missing, or the data have to be fetched first.
            ValueError: files were changed, lie outside the data, or there is no such split.
        """
        if split not in SPLITS and split in self.splits():
            return images_again(self.record(split).meta, self.config.data.root)
        data = self.data
        images = data.images(split) if self.manifest is None else self.manifest.images(data, split)
        folder, base = self.path.resolve(), data.folder.resolve()
        paths = images.pixels.paths if isinstance(images.pixels, ImageFiles) and base.is_relative_to(folder) else []
        if outside := next((path for path in paths if not path.resolve().is_relative_to(folder)), None):
            raise ValueError(f"{base} lies in the run's own folder and names {outside}, which lies outside; not opened")
        return images

    @property
    def source(self) -> str:
        """Where it was downloaded from, ``hf://owner/name@commit``; empty for a run that was not."""
        from .hub import source_of

        return source_of(self.path)

    def push_to_hub(self, repo: str, **how: Any) -> str:
        """Push it to a repository of the Hugging Face Hub: `runs.push_run` with its arguments."""
        from .hub import push_run

        return push_run(self, repo, **how)

    def image_set(self, split: str) -> ImageSet:
        """The images of ``split`` with their labels; if it has a record, the record's images in the record's order.

        Raises:
            FileNotFoundError: the data have to be fetched first.
            ValueError: the data are not those that were recorded.

        Example:
            >>> import dmpo_explore as dx
            >>> dx.load_run("fashion").image_set("test")[0].shape
            (28, 28, 3)
        """
        whole = images = self.split_images(split)
        if split not in self.splits():
            return images
        record = self.record(split)
        if record.meta.indices is not None:
            images = images.at(record.meta.indices)
        recorded = record.meta.images_sha256  # of these images, or of the split that they were chosen from
        if self.manifest is not None and recorded not in ("", images.fingerprint, whole.fingerprint):
            raise ValueError(f"the {split} record of run {self.name!r} is of other images than its manifest lists")
        if images.class_names != record.meta.class_names or not np.array_equal(images.labels, record.labels):
            raise ValueError(
                f"{self.config.data.name} {split} is not what run {self.name!r} recorded: classes or labels differ"
            )
        return images

    def preprocess(self) -> Preprocess:
        """The model's input: image size, mean, deviation and interpolation; needs no weights, imports torch.

        Example:
            >>> import dmpo_explore as dx
            >>> dx.load_run("fashion").preprocess().image_size
            70
        """
        from .torch_model import preprocess_of

        return preprocess_of(self.config.model)

    def inputs(self, split: str, rows: Ints | Bools | slice | list[int] = slice(None)) -> Tensor:
        """Preprocessed images (B, 3, S, S) float32 for `model`.

        Args:
            split: as for `image_set`.
            rows: which of its images: indices, mask or slice.

        Raises:
            ValueError: no images at these rows; or as `image_set`.

        Example:
            >>> import dmpo_explore as dx
            >>> tuple(dx.load_run("fashion").inputs("test", slice(0, 2)).shape)
            (2, 3, 70, 70)
        """
        from .torch_model import stack_inputs

        images = self.image_set(split).subset(rows)
        if not len(images):
            raise ValueError(f"no images at rows {rows!r}")
        return stack_inputs(images, self.preprocess())

    def model(self, device: str = "auto", *, merge: bool = False, precision: str = "no") -> DMPO:
        """The trained `DMPO` in eval mode.

        Args:
            device: ``auto`` (a GPU if there is one), ``cpu``, ``cuda`` …
            merge: merge its tuning into the weights (`models.tuning.merge`): the same outputs faster, but it can no
                longer be trained.
            precision: ``bf16`` or ``fp16``: its weights are cast once, not by autocast at every call. The outputs are
                bit by bit those of autocast, and it runs under autocast only: `dx.infer` and `dx.stream` see to that, a
                direct call needs ``torch.autocast``. Needs ``merge``.

        Raises:
            FileNotFoundError: no epoch has been finished, or the backbone has to be fetched first.
            ValueError: the weights are truncated, foreign, or were trained on another backbone file; unknown device or
                precision, or a precision without ``merge``.

        Example:
            >>> import dmpo_explore as dx
            >>> run = dx.load_run("demo")
            >>> model = run.model("cpu", merge=True)  # doctest: +SKIP
            >>> model(run.inputs("test", slice(0, 2))).shape  # doctest: +SKIP
            torch.Size([2, 6, 10])
        """
        from .torch_model import load_model

        n_classes = len(self.class_names)
        return load_model(self.path, self.config, n_classes, device, merge=merge, precision=precision)


def outdated_splits(run: Run) -> list[str]:
    """Splits whose record is of earlier weights than the run has now; `Run.record` refuses to open it.

    Records that name no weights are never among these.

    Example:
        >>> import dmpo_explore as dx
        >>> outdated_splits(dx.load_run("demo"))
        []
    """
    return [split for split in run.splits() if of_other_weights(run.path, _weights_sha256(run, split))]


def _weights_sha256(run: Run, split: str) -> str:
    try:
        return str(read_json(run.path / "records" / split / "meta.json").get("weights_sha256", ""))
    except (OSError, ValueError, AttributeError):  # a broken record, which has an error of its own
        return ""
