"""Image sources: where records come from and how their bytes are read.

Three kinds: a folder (one subfolder per class), a manifest (CSV or Parquet), and "digits", the
1,797 handwritten digits that ship with scikit-learn. The order of records is fixed, so row i of a
store stays row i; a source describes itself as JSON and can be opened again from that.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from selectkit.errors import ConfigError, DataError
from selectkit.extract.images import ReadAhead
from selectkit.extract.listing import (
    MANIFEST_SUFFIXES,
    Record,
    column_of,
    folder_records,
    read_table,
    text_column,
)
from selectkit.location import Location, Url, location

NO_LABEL = "none"


class Source(Protocol):
    """What the extraction engine needs of a source. Users may bring their own."""

    def records(self) -> list[Record]:
        """Return all records in their fixed order; ids are unique."""
        ...

    def read(self, path: str) -> bytes:
        """Return the bytes of one record's image; may raise OSError."""
        ...

    def describe(self) -> dict[str, Any]:
        """Return JSON that says what this is and is enough for `reopen`."""
        ...


@dataclass(frozen=True, slots=True)
class FolderSource:
    """Images in a folder; the first-level subfolder is the class.

    Images directly in the root have no label. The listing is recursive, sorted by relative POSIX
    path; hidden files and files without an image suffix are ignored.

    Attributes:
        root: The folder, perhaps of an object store.
        listing: All records.
        ignored: Number of files without an image suffix, by their suffix.
    """

    root: Location
    listing: tuple[Record, ...]
    ignored: dict[str, int] = field(default_factory=dict)
    images: ReadAhead = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "images", ReadAhead(self.listing, self.root))

    @classmethod
    def open(cls, root: Location) -> "FolderSource":
        """List a folder.

        Args:
            root: An existing folder.

        Returns:
            The source, with at least one record.

        Raises:
            DataError: If the folder holds no image.
        """
        listing, ignored = folder_records(root)
        if not listing:
            found = ", ".join(f"{n} of {suffix}" for suffix, n in ignored.items())
            raise DataError(
                f"{root} holds no image (hidden files and files without an image suffix are "
                f"ignored{f': {found}' if found else ''}). Pass the folder above the class "
                "folders, or a CSV manifest."
            )
        return cls(root.resolve(), tuple(listing), ignored)

    def records(self) -> list[Record]:
        """Return all records, sorted by relative path."""
        return list(self.listing)

    def read(self, path: str) -> bytes:
        """Return the bytes of one file."""
        return self.images.read(path)

    def describe(self) -> dict[str, Any]:
        """Return kind, absolute location and the hash of the listing."""
        return {"kind": "folder", "location": str(self.root), **_listing_facts(self.listing)}


@dataclass(frozen=True, slots=True)
class ManifestSource:
    """A CSV or Parquet table with one row per image.

    Paths are relative to the table, absolute, or URLs.
    """

    file: Location
    columns: dict[str, str | None]
    listing: tuple[Record, ...]
    images: ReadAhead = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "images", ReadAhead(self.listing, self.file.parent))

    @classmethod
    def open(
        cls,
        file: Location,
        *,
        path: str | None = None,
        label: str | None = None,
        group: str | None = None,
        id: str | None = None,
    ) -> "ManifestSource":
        """Read a table.

        Args:
            file: A `.csv` (UTF-8) or `.parquet` file.
            path: Column of image paths, default "path".
            label: Column of labels, default "label"; "none" means that no image has a label.
                Empty cells are unlabelled rows.
            group: Column of group ids; default "group" if there is such a column.
            id: Column of unique ids; default "id" if there is such a column, else the path.

        Returns:
            The source, with at least one record.

        Raises:
            DataError: If the table cannot be read or is empty, a column is missing, a path or an
                id is empty, or an id is not unique.
        """
        table = read_table(file)
        have = list(table.columns)
        hint = "For images without labels say so: --label none."
        columns = {
            "path": column_of(have, path, "path", file, "Name it with --path COLUMN."),
            "label": None
            if label == NO_LABEL
            else column_of(have, label, "label", file, f"Name another with --label COLUMN. {hint}"),
            "group": column_of(have, group, "group" if "group" in have else None, file),
            "id": column_of(have, id, "id" if "id" in have else None, file),
        }
        cells = {
            what: text_column(table[name], name, file, required=what in {"path", "id"})
            for what, name in columns.items()
            if name is not None
        }
        nothing: list[str | None] = [None] * len(table)
        rows = zip(
            cells.get("id", cells["path"]),
            cells["path"],
            cells.get("label", nothing),
            cells.get("group", nothing),
            strict=True,
        )
        listing = tuple(Record(str(i), str(p), lab, grp) for i, p, lab, grp in rows)
        if not listing:
            raise DataError(f"{file} has no rows. A manifest needs one row per image.")
        _refuse_duplicates(listing, file)
        return cls(file.resolve(), columns, listing)

    def records(self) -> list[Record]:
        """Return all records in the order of the table."""
        return list(self.listing)

    def read(self, path: str) -> bytes:
        """Return the bytes of one file."""
        return self.images.read(path)

    def describe(self) -> dict[str, Any]:
        """Return kind, absolute location, the columns used and the hash of the listing."""
        return {
            "kind": "manifest",
            "location": str(self.file),
            "columns": dict(self.columns),
            **_listing_facts(self.listing),
        }


@dataclass(frozen=True, slots=True)
class DigitsSource:
    """The 1,797 handwritten 8x8 digits of scikit-learn, as PNG bytes equal on every machine."""

    def records(self) -> list[Record]:
        """Return 1,797 records with labels "0" to "9"."""
        _, labels = _digits()
        return [
            Record(f"{i:04d}", f"digits/{i:04d}.png", str(y), None) for i, y in enumerate(labels)
        ]

    def read(self, path: str) -> bytes:
        """Return one image as PNG bytes."""
        from selectkit.extract.png import grey_png

        images, _ = _digits()
        return grey_png(images[int(Path(path).stem)])

    def describe(self) -> dict[str, Any]:
        """Return kind and the hash of the listing."""
        return {"kind": "digits", "location": "digits", **_listing_facts(self.records())}


def open_source(
    spec: str | Path | Url,
    *,
    path: str | None = None,
    label: str | None = None,
    group: str | None = None,
    id: str | None = None,
) -> Source:
    """Open a source of images.

    Args:
        spec: A folder, a CSV or Parquet manifest, each a path or a URL (s3://, gs://, az://), or
            "digits".
        path: Manifest column of image paths.
        label: Manifest column of labels, or "none" for images without labels.
        group: Manifest column of group ids.
        id: Manifest column of unique ids.

    Returns:
        A `FolderSource`, a `ManifestSource` or a `DigitsSource`.

    Raises:
        DataError: If there is no such place or it holds no usable record.
        ConfigError: If a column is named for a source that has no columns.
    """
    columns = {"path": path, "label": label, "group": group, "id": id}
    place = location(spec)
    if _is_manifest(place):
        return ManifestSource.open(place, path=path, label=label, group=group, id=id)
    is_folder = isinstance(place, Url) or place.is_dir()
    if is_folder or str(spec) == "digits":
        named = [f"--{key}" for key, value in columns.items() if value is not None]
        if named:
            raise ConfigError(
                f"{', '.join(named)} names a column, but {spec} is not a manifest. "
                "Leave it out, or pass a CSV or Parquet file."
            )
        return FolderSource.open(place) if is_folder else DigitsSource()
    raise DataError(
        f"there is no source {str(spec)!r}. Pass a folder of images, a CSV or Parquet manifest, "
        'or "digits" for the built-in example.'
    )


def reopen(description: dict[str, Any]) -> Source:
    """Open the source that `describe` described, with the same columns.

    Args:
        description: What `Source.describe` returned.

    Returns:
        The source as it is now: its listing may have grown.

    Raises:
        DataError: If it is gone or of a kind that cannot be opened again.
    """
    kind, where = description.get("kind"), str(description.get("location"))
    if kind == "digits":
        return DigitsSource()
    if kind not in {"folder", "manifest"}:
        raise DataError(f"a source of kind {kind!r} cannot be opened again. Pass the source.")
    place = location(where)
    if isinstance(place, Path) and not (place.is_dir() if kind == "folder" else place.is_file()):
        raise DataError(f"the {kind} {place} is gone. Restore it, or pass its new place.")
    if kind == "folder":
        return FolderSource.open(place)
    columns = dict(description["columns"])
    columns["label"] = columns["label"] or NO_LABEL
    return ManifestSource.open(place, **columns)


def image_reader(description: dict[str, Any], paths: Sequence[str]) -> Callable[[str], bytes]:
    """Return what reads images of a source that `describe` described, without listing it.

    Args:
        description: What `Source.describe` returned.
        paths: The images that will be read, in this order: objects are read ahead.

    Returns:
        From the path of a record to its bytes; may raise OSError, and RemoteError when the object
        store as a whole cannot be used.

    Raises:
        DataError: If the source is of a kind that cannot be opened again.
    """
    kind, where = description.get("kind"), str(description.get("location"))
    if kind == "digits":
        return DigitsSource().read
    if kind not in {"folder", "manifest"}:
        raise DataError(f"a source of kind {kind!r} cannot be opened again. Pass the source.")
    place = location(where)
    listing = [Record(path, path, None, None) for path in paths]
    return ReadAhead(listing, place if kind == "folder" else place.parent).read


def require_readable(source: Source) -> None:
    """Refuse a source none of whose first images can be read: a wrong folder, a lost mount.

    Args:
        source: Where the images are.

    Raises:
        DataError: If not one of the first hundred files can be read.
    """
    first = source.records()[:100]
    for record in first:
        try:
            source.read(record.path)
        except OSError as error:
            reason = error.strerror or str(error)
        else:
            return
    raise DataError(
        f"none of the first {len(first)} images can be read: {first[-1].path}: {reason}. Paths in "
        "a manifest are relative to its folder; --path names their column."
    )


def _listing_facts(listing: tuple[Record, ...] | list[Record]) -> dict[str, Any]:
    from selectkit.artifact import content_hash

    rows = [[r.id, r.path, r.label, r.group] for r in listing]
    return {"records": len(rows), "listing": content_hash(rows)}


def _is_manifest(place: Location) -> bool:
    if isinstance(place, Url):
        return place.suffix.lower() in MANIFEST_SUFFIXES
    return place.is_file()


def _refuse_duplicates(listing: tuple[Record, ...], file: Location) -> None:
    twice = [key for key, n in Counter(r.id for r in listing).items() if n > 1]
    if twice:
        shown = ", ".join(map(repr, twice[:3])) + (", ..." if len(twice) > 3 else "")
        raise DataError(
            f"{file}: {len(twice)} ids are not unique: {shown}. Remove the doubles, or name a "
            "column of unique ids with --id COLUMN."
        )


@cache
def _digits() -> tuple[npt.NDArray[np.uint8], list[int]]:
    from sklearn.datasets import load_digits

    data = load_digits()
    return np.round(data.images * (255 / 16)).astype(np.uint8), [int(y) for y in data.target]
