"""The index: one row per image, one Parquet part per shard, shared by all views."""

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from selectkit import artifact
from selectkit.errors import CacheError, DataError

Objects = npt.NDArray[np.object_]
Int64s = npt.NDArray[np.int64]
_TEXT = ("id", "path", "label", "group", "content_hash", "status")
_REPEATED = ("label", "group", "status")
_NUMBERS = ("width", "height")


@dataclass(frozen=True, slots=True)
class IndexPart:
    """The index of one shard: sequences of equal length, one entry per row.

    Attributes:
        id: Unique and not empty.
        path: Source path or key.
        label: Label name, None = unlabelled.
        group: Group id, None = none.
        content_hash: "sha256:..." of the file, "" when it could not be read.
        status: "ok" or "failed:<reason>".
        width: Pixels, 0 when unknown.
        height: Pixels, 0 when unknown.
    """

    id: Sequence[str]
    path: Sequence[str]
    label: Sequence[str | None]
    group: Sequence[str | None]
    content_hash: Sequence[str]
    status: Sequence[str]
    width: Sequence[int]
    height: Sequence[int]

    def check(self, rows: int) -> None:
        """Check lengths and values.

        Args:
            rows: The length that every sequence must have.

        Raises:
            DataError: With the column, the row and the value that is wrong.
        """
        for field in fields(self):
            n = len(getattr(self, field.name))
            if n != rows:
                raise DataError(f"index column {field.name!r} has {n} entries for {rows} rows.")
        for column in _TEXT:
            _refuse_unwritable(column, getattr(self, column))
        seen: set[str] = set()
        for row, (name, status, digest) in enumerate(
            zip(self.id, self.status, self.content_hash, strict=True)
        ):
            if not name or name in seen:
                raise DataError(
                    f"id {name!r} in row {row} is {'there twice' if name else 'empty'}: "
                    "every row needs its own id."
                )
            seen.add(name)
            if status != "ok" and not status.startswith("failed:"):
                raise DataError(f"status {status!r} of {name!r} is neither 'ok' nor 'failed:...'.")
            if status == "ok" and not digest:
                raise DataError(f"{name!r} has status 'ok' but no content hash.")


def _refuse_unwritable(column: str, values: Sequence[str | None]) -> None:
    """File names that are no UTF-8 reach Python as lone surrogates."""
    for row, value in enumerate(values):
        if value is not None and not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                raise DataError(
                    f"{column} {value!r} in row {row} is no valid text: rename the file."
                ) from None


@dataclass(frozen=True, slots=True)
class Index:
    """All committed rows, columns of equal length M; `row` is the row number in the store."""

    row: Int64s
    id: Objects
    path: Objects
    label: Objects
    group: Objects
    content_hash: Objects
    status: Objects
    width: Int64s
    height: Int64s

    def __len__(self) -> int:
        return len(self.row)

    @property
    def ok(self) -> npt.NDArray[np.bool_]:
        """Shape (M,): the image could be read."""
        return np.asarray(self.status == "ok", dtype=bool)

    @property
    def labelled(self) -> npt.NDArray[np.bool_]:
        """Shape (M,): the row has a label."""
        return np.array([label is not None for label in self.label], dtype=bool)

    @property
    def key(self) -> Objects:
        """Shape (M,): what decides the split: the group, else the content hash."""
        pairs = zip(self.group, self.content_hash, strict=True)
        keys = [digest if group is None else group for group, digest in pairs]
        return np.array(keys, dtype=object)

    @property
    def classes(self) -> tuple[str, ...]:
        """Label names of the ok rows, sorted; by value when all are integers."""
        return sorted_classes({str(name) for name in self.label[self.ok & self.labelled]})


def sorted_classes(names: set[str]) -> tuple[str, ...]:
    """Return label names in their order: by value when all are integers, else by text.

    Examples:
        >>> sorted_classes({"10", "9"}), sorted_classes({"10", "9", "cat"})
        (('9', '10'), ('10', '9', 'cat'))
    """
    if all(name.removeprefix("-").isdecimal() for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))


def images_hash(part: IndexPart | Index, rows: int) -> str:
    """Return the content hash of [id, content hash, status] of the first rows."""
    columns = zip(part.id[:rows], part.content_hash[:rows], part.status[:rows], strict=True)
    return artifact.content_hash([list(row) for row in columns])


def to_parquet(part: IndexPart) -> bytes:
    """Return the part as Parquet: equal parts give equal bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {name: pa.array(list(getattr(part, name)), pa.string()) for name in _TEXT}
    columns |= {
        name: pa.array([int(v) for v in getattr(part, name)], pa.int32()) for name in _NUMBERS
    }
    sink = io.BytesIO()
    pq.write_table(
        pa.table(columns), sink, compression="zstd", version="2.6", use_dictionary=list(_REPEATED)
    )
    return sink.getvalue()


@dataclass(frozen=True, slots=True)
class StoredPart:
    """A part as read from disk: file name, content, rows it must hold, number of its first row."""

    name: str
    data: bytes
    rows: int
    first: int


def from_parquet(parts: Iterable[StoredPart]) -> Index:
    """Return the index of several parts.

    Args:
        parts: In the order of their rows; taken one by one, so that a generator saves memory.

    Returns:
        The index.

    Raises:
        CacheError: If a part is no Parquet file or has other columns or another number of rows.
    """
    columns: dict[str, list[npt.NDArray[Any]]] = {field.name: [] for field in fields(Index)}
    words: dict[str | None, str | None] = {}
    for part in parts:
        table = _table(part)
        columns["row"].append(np.arange(part.first, part.first + part.rows, dtype=np.int64))
        for name in _TEXT:
            column = table.column(name).combine_chunks()
            values = _shared(column, words) if name in _REPEATED else column.to_numpy(False)
            columns[name].append(values)
        for name in _NUMBERS:
            columns[name].append(table.column(name).to_numpy().astype(np.int64))
    empty = {name: np.empty(0, object if name in _TEXT else np.int64) for name in columns}
    return Index(**{name: np.concatenate([empty[name], *found]) for name, found in columns.items()})


def _table(part: StoredPart) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(pa.BufferReader(part.data), read_dictionary=list(_REPEATED))
    except (pa.ArrowException, OSError) as error:
        raise CacheError(f"{part.name} is damaged: no Parquet file ({error}).") from None
    if table.column_names != [*_TEXT, *_NUMBERS] or table.num_rows != part.rows:
        raise CacheError(
            f"{part.name} holds {table.num_rows} rows of {', '.join(table.column_names)}; its "
            f"commit says {part.rows} rows of {', '.join((*_TEXT, *_NUMBERS))}."
        )
    return table


def _shared(encoded: Any, words: dict[str | None, str | None]) -> Objects:
    """A dictionary-encoded column; a repeated value is one object however often it occurs."""
    known = _objects([words.setdefault(w, w) for w in [*encoded.dictionary.to_pylist(), None]])
    codes = encoded.indices.fill_null(len(known) - 1).to_numpy(zero_copy_only=False)
    return np.asarray(known[codes], dtype=object)


def _objects(values: list[Any]) -> Objects:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array
