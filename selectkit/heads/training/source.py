"""Features that are read in pieces: arrays in memory, memory-mapped files, stored arrays.

Sizes: N rows, D features.
"""

import mmap
from collections.abc import Iterator
from math import ceil
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from selectkit.arrays import ArrayLike, Floats, Ints, class_labels
from selectkit.errors import DataError
from selectkit.heads.rows import Float64s

_DENSE = 16
_READ_ENTRIES = 2**22
_BLOCK_ENTRIES = 2**17  # 1 MB of float64: a block stays in the cache while it is worked on


class RowReader(Protocol):
    """What can be read by rows without being an array, for instance a stored array."""

    @property
    def shape(self) -> tuple[int, int]:
        """(N, D)."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Real dtype of what is read."""
        ...

    def __getitem__(self, rows: slice | Ints, /) -> Floats:
        """Return consecutive rows, or rows by number."""
        ...


FeatureRows: TypeAlias = ArrayLike | RowReader
"""Features (N, D): anything numpy takes, a memory-mapped array, or a `RowReader`."""


class LazyRows:
    """Some rows of one or several arrays of equal length, side by side; nothing is read yet."""

    def __init__(self, *arrays: RowReader | Floats, rows: Ints | None = None) -> None:
        """Choose rows and columns.

        Args:
            *arrays: At least one, each (L, D_i); their columns follow one another.
            rows: Row numbers of the arrays, shape (N,), best ascending; None for all.
        """
        self._arrays = arrays
        self._rows = None if rows is None else np.asarray(rows, dtype=np.int64)

    @property
    def shape(self) -> tuple[int, int]:
        """(N, D)."""
        n = self._arrays[0].shape[0] if self._rows is None else len(self._rows)
        return n, sum(a.shape[1] for a in self._arrays)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The narrowest dtype that holds all arrays' entries."""
        return np.result_type(*(a.dtype for a in self._arrays))

    def __getitem__(self, rows: slice | Ints) -> Floats:
        """Return rows, shape (M, D), read now.

        Args:
            rows: A slice, or M row numbers.

        Returns:
            A copy or a view.
        """
        wanted = rows if self._rows is None else self._rows[rows]
        parts = [_read(a, wanted) for a in self._arrays]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


class Source:
    """Checked features: N labelled rows of an array, read by consecutive pieces."""

    def __init__(self, features: FeatureRows, rows: Ints | None, name: str) -> None:
        """Check shape and dtype; nothing is read.

        Args:
            features: Shape (L, D).
            rows: The N rows to use, ascending; None for all.
            name: What the caller calls the features; used in messages.

        Raises:
            DataError: If shape or dtype is wrong.
        """
        reader: Any = features
        self._array: RowReader | Floats = reader if _is_reader(reader) else np.asanyarray(features)
        self._rows, self.name = rows, name
        shape, dtype = self._array.shape, np.dtype(self._array.dtype)
        if dtype.kind not in "fiub":
            raise DataError(f"{name} must be real numbers, got dtype {dtype}.")
        if len(shape) != 2 or 0 in shape:
            raise DataError(f"{name} must have shape (N, D) with N, D >= 1, got {shape}.")
        self.n_rows = int(shape[0]) if rows is None else len(rows)
        self.n_features, self.dtype = int(shape[1]), dtype
        self._in_memory = (
            isinstance(self._array, np.ndarray)
            and rows is None
            and _mapping_under(self._array) is None
        )

    def chosen(self, rows: Ints) -> "Source":
        """Return the source of some of its rows (numbers within it, ascending)."""
        absolute = rows if self._rows is None else self._rows[rows]
        return Source(self._array, absolute, self.name)

    def read(self, start: int, stop: int) -> Floats:
        """Return rows start to stop, (stop - start, D); mapped pages are given back at once."""
        wanted = slice(start, stop) if self._rows is None else self._rows[start:stop]
        return _read(self._array, wanted)

    def number_of(self, row: int) -> int:
        """Return the caller's number of a row."""
        return row if self._rows is None else int(self._rows[row])

    def blocks(self, height: int | None = None) -> Iterator[tuple[int, Floats]]:
        """Yield (first row, block) from the first row to the last."""
        height = height or max(1, _BLOCK_ENTRIES // self.n_features)
        chunk = height
        if not self._in_memory:
            chunk *= ceil(_READ_ENTRIES / height / self.n_features)
        for first in range(0, self.n_rows, chunk):
            piece = self.read(first, min(first + chunk, self.n_rows))
            for start in range(0, len(piece), height):
                yield first + start, piece[start : start + height]


def labelled(
    features: FeatureRows, labels: ArrayLike, n_classes: int, name: str
) -> tuple[Source, npt.NDArray[np.int64]]:
    """Return the rows that have a label; entries are not looked at yet.

    Args:
        features: Shape (N, D).
        labels: Shape (N,), integers in [0, K); -1 marks a row without a label.
        n_classes: K, at least 2.
        name: "train" or "select"; used in the messages.

    Returns:
        The M >= 1 labelled rows in order, and their labels (M,).

    Raises:
        DataError: If a shape, a dtype or a label is wrong, or no row is labelled.
    """
    if n_classes < 2:
        raise DataError(f"n_classes must be at least 2, got {n_classes}.")
    source = Source(features, None, f"{name} features")
    y = np.asarray(labels)
    if y.shape == (source.n_rows,) and y.dtype.kind == "i" and (y == -1).any():
        rows = np.flatnonzero(y != -1)
        if not len(rows):
            raise DataError(f"{name} has {source.n_rows} rows but no label: every label is -1.")
        _codes(np.where(y == -1, 0, y), source.n_rows, n_classes, name)
        return source.chosen(rows), y[rows].astype(np.int64)
    return source, _codes(y, source.n_rows, n_classes, name)


def _codes(
    labels: npt.NDArray[Any], n_rows: int, n_classes: int, name: str
) -> npt.NDArray[np.int64]:
    try:
        return class_labels(labels, n_rows, n_classes)
    except DataError as error:
        raise DataError(f"{name} {error}") from None


def checked_moments(source: Source) -> tuple[Float64s, Float64s]:
    """Return mean and population standard deviation of every column; refuse what is not finite.

    One pass over blocks, float64, shifted by the first row: a constant column has a deviation of
    exactly zero, and gets scale 1.

    Args:
        source: N rows.

    Returns:
        Mean and scale, both (D,).

    Raises:
        DataError: If an entry is not finite (the first is named).
    """
    origin = source.read(0, 1)[0].astype(np.float64)
    first, second = np.zeros_like(origin), np.zeros_like(origin)
    for start, block in source.blocks():
        require_finite(source, start, block)
        offset = block.astype(np.float64)
        offset -= origin
        first += offset.sum(axis=0)
        second += np.einsum("nd,nd->d", offset, offset)
    first /= source.n_rows
    deviation = np.sqrt(np.maximum(second / source.n_rows - first**2, 0))
    return origin + first, np.where(deviation > 0, deviation, 1.0)


def require_finite(source: Source, start: int, block: Floats) -> None:
    """Refuse a block of a source with NaN or infinity.

    Args:
        source: Where it came from.
        start: Its first row.
        block: Shape (M, D).

    Raises:
        DataError: With the first row and column.
    """
    finite = np.isfinite(block)
    if finite.all():
        return
    row, column = (int(i) for i in np.argwhere(~finite)[0])
    raise DataError(
        f"{source.name} are {block[row, column]} in row {source.number_of(start + row)}, "
        f"column {column}; every entry must be finite."
    )


def _is_reader(features: Any) -> bool:
    return not isinstance(features, np.ndarray) and all(
        hasattr(features, name) for name in ("shape", "dtype", "__getitem__")
    )


def _read(array: RowReader | Floats, rows: slice | Ints) -> Floats:
    """Rows by slice or number; pages of a mapped file are copied and given back at once."""
    block = _read_in_place(array, rows)
    mapping = _mapping_under(array)
    if mapping is not None:
        block = np.array(block)
        mapping.madvise(mmap.MADV_DONTNEED)
    return block


def _read_in_place(array: RowReader | Floats, rows: slice | Ints) -> Floats:
    """Ascending rows that lie close together are read as one span, which is faster."""
    if isinstance(rows, slice) or not len(rows):
        return np.asarray(array[rows])
    low, high = int(rows[0]), int(rows[-1]) + 1
    if 0 < high - low <= _DENSE * len(rows) and (np.diff(rows) > 0).all():
        span = np.asarray(array[low:high])
        return span if high - low == len(rows) else span[rows - low]
    return np.asarray(array[rows])


def _mapping_under(array: Any) -> mmap.mmap | None:
    """The shared memory map an array is a view of, if any; a private one holds the only copy."""
    shared = False
    while array is not None and not isinstance(array, mmap.mmap):
        shared = shared or (isinstance(array, np.memmap) and array.mode != "c")
        array = getattr(array, "base", None)
    return array if shared else None
