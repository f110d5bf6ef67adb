"""Images that belong to the rows of scores: a folder of images, or a CSV file of paths, one per row.

In: the folder or the file, and the number of rows. Out: `ImageFiles`. Headers alone are read here; pixels are read when
an image is shown. Every error names the first bad file and what to change.
"""

from __future__ import annotations

from pathlib import Path

from ..data.image_files import image_suffixes, images_in, known_formats, opened, read_errors
from ..data.image_set import ImageFiles
from ..data.labels import columns_by_name, csv_rows, folded


def image_list(place: str | Path, n_rows: int) -> ImageFiles:
    """The images of ``n_rows`` rows of scores, in order.

    Args:
        place: a folder, whose images are taken sorted by path, subfolders included; or a CSV file with one path per
            row, relative to its folder or absolute. With a first row of column names its column ``path`` is taken.

    Raises:
        FileNotFoundError: no such folder or file, or images are missing.
        ValueError: another number of images than rows, a file that is no image, or another kind of file.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for i in range(2):
        ...         Image.new("L", (4, 4), 100 * i).save(f"{folder}/{i}.png")
        ...     image_list(folder, 2)[1].shape
        (4, 4, 3)
    """
    place = Path(place)
    if place.is_dir():
        paths = images_in(place)
        if not paths:
            raise ValueError(f"{place} has no images ({', '.join(sorted(image_suffixes()))}); give another folder")
    elif place.suffix.lower() == ".csv":
        paths = _paths(place)
    elif place.exists():
        raise ValueError(f"{place} must be a folder of images, or a CSV file of paths")
    else:
        raise FileNotFoundError(f"no folder or file {place}; correct the path")
    if len(paths) != n_rows:
        raise ValueError(f"{place} has {len(paths):,} images for {n_rows:,} rows of scores; give one image per row")
    if absent := [path for path in paths if not path.exists()]:
        raise FileNotFoundError(
            f"{place}: {len(absent):,} of {n_rows:,} images are missing, first {absent[0]}; correct the paths"
        )
    _check_headers(place, paths)
    return ImageFiles(paths)


def _paths(file: Path) -> list[Path]:
    rows = [row for row in csv_rows(file) if row]
    named = bool(rows) and "path" in map(folded, rows[0])
    column = columns_by_name(rows[0], str(file))["path"] if named else 0
    listed = rows[1:] if named else rows
    if short := next((i for i, row in enumerate(listed, 1) if len(row) <= column or not row[column].strip()), None):
        raise ValueError(f"{file}: row {short} has no path; write one path per row")
    return [file.parent / row[column].strip() for row in listed]


def _check_headers(place: Path, paths: list[Path]) -> None:
    bad: list[str] = []
    for path in paths:
        try:
            with read_errors(path), path.open("rb") as stream, opened(stream, known_formats()):
                pass
        except (OSError, ValueError) as error:
            bad.append(str(error))
    if bad:
        count = f"{len(bad):,} of {len(paths):,} files are no images, first "
        raise ValueError(f"{place}: {count}{bad[0]}; replace them")
