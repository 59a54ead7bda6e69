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
        status: "ok", "failed:<reason>" or "deleted".
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
            if status not in {"ok", "deleted"} and not status.startswith("failed:"):
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


class Index:
    """All committed rows, columns of equal length M.

    The columns stay what Arrow holds until they are asked for: a million rows take some 100 MB, as
    Python texts several times as much.

    Attributes:
        row: Row numbers in the store, (M,) int64.
    """

    def __init__(self, row: Int64s, table: Any) -> None:
        """Take the columns.

        Args:
            row: Shape (M,).
            table: A `pyarrow.Table` of M rows with the columns of `IndexPart`, those that repeat
                themselves as dictionaries, the same in all chunks.
        """
        self.row = row
        self._table = table
        self._known: dict[str, npt.NDArray[Any]] = {}

    def __len__(self) -> int:
        return len(self.row)

    @property
    def id(self) -> Objects:
        """Shape (M,): ids."""
        return self._column("id")

    @property
    def path(self) -> Objects:
        """Shape (M,): source paths."""
        return self._column("path")

    @property
    def label(self) -> Objects:
        """Shape (M,): label names, None = unlabelled."""
        return self._column("label")

    @property
    def group(self) -> Objects:
        """Shape (M,): group ids, None = none."""
        return self._column("group")

    @property
    def content_hash(self) -> Objects:
        """Shape (M,): "sha256:..." of the files, "" when one could not be read."""
        return self._column("content_hash")

    @property
    def status(self) -> Objects:
        """Shape (M,): "ok", "failed:<reason>" or "deleted" (gone from the source)."""
        return self._column("status")

    @property
    def width(self) -> Int64s:
        """Shape (M,): pixels, 0 when unknown."""
        return self._column("width")

    @property
    def height(self) -> Int64s:
        """Shape (M,): pixels, 0 when unknown."""
        return self._column("height")

    @property
    def statuses(self) -> dict[str, int]:
        """Number of rows by status, sorted by it."""
        counts = self._table.column("status").value_counts().to_pylist()
        return dict(sorted((entry["values"], entry["counts"]) for entry in counts))

    def _column(self, name: str) -> npt.NDArray[Any]:
        if name not in self._known:
            column = self._table.column(name)
            if name in _NUMBERS:
                values = column.to_numpy().astype(np.int64)
            else:
                values = _shared(column) if name in _REPEATED else column.to_numpy()
            self._known[name] = values
        return self._known[name]

    @property
    def ok(self) -> npt.NDArray[np.bool_]:
        """Shape (M,): the image could be read."""
        return np.asarray(self.status == "ok", dtype=bool)

    @property
    def labelled(self) -> npt.NDArray[np.bool_]:
        """Shape (M,): the row has a label."""
        return np.asarray(self._table.column("label").is_valid().to_numpy(), dtype=bool)

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
    import pyarrow as pa

    rows, tables = [np.empty(0, dtype=np.int64)], [_empty()]
    for part in parts:
        tables.append(_table(part))
        rows.append(np.arange(part.first, part.first + part.rows, dtype=np.int64))
    return Index(np.concatenate(rows), pa.concat_tables(tables).unify_dictionaries())


def _empty() -> Any:
    import pyarrow as pa

    words = pa.dictionary(pa.int32(), pa.string())
    kinds = {name: words if name in _REPEATED else pa.string() for name in _TEXT}
    return pa.schema(kinds | dict.fromkeys(_NUMBERS, pa.int32())).empty_table()


def _table(part: StoredPart) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(pa.BufferReader(part.data), read_dictionary=list(_REPEATED))
        table = file.read(use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise CacheError(f"{part.name} is damaged: no Parquet file ({error}).") from None
    if table.column_names != [*_TEXT, *_NUMBERS] or table.num_rows != part.rows:
        raise CacheError(
            f"{part.name} holds {table.num_rows} rows of {', '.join(table.column_names)}; its "
            f"commit says {part.rows} rows of {', '.join((*_TEXT, *_NUMBERS))}."
        )
    return table


def _shared(column: Any) -> Objects:
    """A dictionary-encoded column; a repeated value is one object however often it occurs."""
    if not len(column):
        return np.empty(0, dtype=object)
    known = _objects([*column.chunk(0).dictionary.to_pylist(), None])
    codes = [chunk.indices.fill_null(len(known) - 1).to_numpy() for chunk in column.chunks]
    return np.asarray(known[np.concatenate(codes)], dtype=object)


def _objects(values: list[Any]) -> Objects:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array
