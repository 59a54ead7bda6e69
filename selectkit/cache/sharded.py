"""Reading a stored array: chunk files are mapped into memory, not decoded."""

import mmap
import os
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from io import FileIO
from itertools import pairwise
from typing import Any

import google_crc32c
import numpy as np
import numpy.typing as npt

from selectkit.arrays import Floats, Ints
from selectkit.cache import dtypes, layout, ledger
from selectkit.cache.files import Files
from selectkit.errors import CacheError

_MAPPED_AT_ONCE = 256  # every mapping holds a file descriptor; 1,024 is the usual limit


class ShardedArray:
    """A stored array (N, D), read by row.

    Only committed rows can be read; asking for another is a CacheError, never a row of zeros.

    Attributes:
        shape: (N, D), N the rows planned.
        dtype: What reading returns: float16, or float32 (also for a stored bfloat16).
        rows: The row numbers that can be read, ascending, int64.
    """

    def __init__(
        self,
        files: Files,
        folder: str,
        shape: tuple[int, int],
        chunk_rows: int,
        stored: str,
        commits: Mapping[int, ledger.Commit],
        checked: set[tuple[str, ledger.Stamp]],
    ) -> None:
        """Check that every committed chunk file is there with its right size.

        Args:
            files: The store's.
            folder: The array's folder, relative to the store.
            shape: (N, D).
            chunk_rows: Rows of one chunk.
            stored: Name of the stored dtype.
            commits: Commit of each shard.
            checked: Chunks whose checksums were compared before; `check` adds to it.

        Raises:
            CacheError: If a chunk file is missing or of the wrong size.
        """
        self.shape = shape
        self.dtype = np.dtype("float16" if stored == "float16" else "float32")
        self._files, self._folder = files, folder
        self._stored, self._chunk_rows = stored, chunk_rows
        self._commits, self._checked = commits, checked
        self._maps: OrderedDict[int, npt.NDArray[np.void]] = OrderedDict()
        self._row_dtype = np.dtype(f"V{shape[1] * dtypes.stored_dtype(stored).itemsize}")
        self._extent = np.zeros(-(-shape[0] // chunk_rows), dtype=np.int64)
        size = dtypes.chunk_size(chunk_rows, shape[1], stored)
        for shard, commit in commits.items():
            check_size(files, layout.chunk_path(folder, shard), size)
            self._extent[shard] = commit.rows

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def rows(self) -> npt.NDArray[np.int64]:
        """The row numbers that can be read, ascending."""
        spans = [k * self._chunk_rows + np.arange(n) for k, n in enumerate(self._extent) if n]
        return np.concatenate(spans) if spans else np.empty(0, dtype=np.int64)

    def __getitem__(self, rows: slice | Ints) -> Floats:
        """Return a copy of some rows, in the order asked for.

        Args:
            rows: A slice, or M row numbers (negative ones count from the end).

        Returns:
            Shape (M, D).

        Raises:
            CacheError: If a row is not committed.
            IndexError: If a row is outside the array.
        """
        if isinstance(rows, slice):
            start, stop, step = rows.indices(len(self))
            if step == 1:
                return self._span(start, max(start, stop))
            rows = np.arange(start, stop, step)
        return self._gather(self._row_numbers(np.asarray(rows)))

    def read(self) -> Floats:
        """Return the whole array, shape (N, D).

        Returns:
            A copy.

        Raises:
            CacheError: If a shard is not committed; read `array[array.rows]` then.
        """
        return self[:]

    def fetch(self, shards: Iterable[int]) -> None:
        """Get ready to read some shards, several at a time where that is faster."""
        self._files.fetch(layout.chunk_path(self._folder, shard) for shard in shards)

    def check(self, shard: int) -> None:
        """Compare a chunk with its checksums, unless the store's handle did so before.

        Args:
            shard: Number of the shard.

        Raises:
            CacheError: If one bit differs from what was written.
        """
        path = layout.chunk_path(self._folder, shard)
        stamp = self._commits[shard].files[path]
        if (path, stamp) in self._checked:
            return
        if not self._is_intact(path, stamp):
            self._maps.pop(shard, None)
            if not (self._files.renew(path) and self._is_intact(path, stamp)):
                raise CacheError(
                    f"{self._files.where(path)} is damaged: its checksum does not match. "
                    "Run `selectkit verify` to find all such files."
                )
        self._checked.add((path, stamp))

    def _is_intact(self, path: str, stamp: ledger.Stamp) -> bool:
        # Read, not mapped: mapped pages of a large store would all count as memory of this process.
        with self._open(path) as file:
            data = file.readall()
        found = f"{int(google_crc32c.value(np.frombuffer(data, np.uint8, len(data) - 4))):08x}"
        tail = f"{int.from_bytes(data[-4:], 'little'):08x}"
        return found == tail == stamp.crc32c

    def _open(self, path: str) -> FileIO:
        try:
            return FileIO(self._files.local(path))
        except CacheError:
            raise
        except OSError:
            raise missing(self._files, path) from None

    def _row_numbers(self, rows: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        if rows.dtype == bool or (rows.dtype.kind not in "iu" and rows.size):
            raise TypeError(f"rows must be integers, got {rows.dtype}.")
        rows = rows.astype(np.int64).reshape(-1)
        rows = np.where(rows < 0, rows + len(self), rows)
        if rows.size and not (rows.min() >= 0 and rows.max() < len(self)):
            raise IndexError(f"row outside an array of {len(self)} rows.")
        return rows

    def _refuse(self, row: int) -> None:
        array = self._files.where(self._folder)
        raise CacheError(
            f"row {row} (shard {row // self._chunk_rows}) of {array} is not "
            "committed: finish the extraction, or read only the rows listed by `.rows`."
        )

    def _gather(self, rows: npt.NDArray[np.int64]) -> Floats:
        """Rows grouped by shard; each row is one opaque element, which NumPy copies fastest."""
        order = np.argsort(rows)
        shard, offset = np.divmod(rows[order], self._chunk_rows)
        absent = np.flatnonzero(offset >= self._extent[shard])
        if absent.size:
            self._refuse(int(rows[order][absent[0]]))
        out = np.empty((len(rows), self.shape[1]), dtype=dtypes.stored_dtype(self._stored))
        opaque = out.view(self._row_dtype).reshape(-1)
        first = np.flatnonzero(np.diff(shard, prepend=-1)).tolist()
        for a, b in pairwise([*first, len(rows)]):
            opaque[order[a:b]] = self._mapped(int(shard[a]))[offset[a:b]]
        return dtypes.decode(out, self._stored)

    def _span(self, start: int, stop: int) -> Floats:
        """Consecutive rows, read straight into the result."""
        out = np.empty((stop - start, self.shape[1]), dtype=dtypes.stored_dtype(self._stored))
        row = start
        while row < stop:
            shard, offset = divmod(row, self._chunk_rows)
            n = min(stop - row, self._chunk_rows - offset)
            if offset + n > self._extent[shard]:
                self._refuse(max(row, shard * self._chunk_rows + int(self._extent[shard])))
            self._read_into(out[row - start : row - start + n], shard, offset)
            row += n
        return dtypes.decode(out, self._stored)

    def _read_into(self, out: npt.NDArray[np.generic], shard: int, offset: int) -> None:
        """Map the chunk for a moment: that copies faster than reading does, and nothing stays."""
        path = layout.chunk_path(self._folder, shard)
        with self._open(path) as file:
            if os.fstat(file.fileno()).st_size < (offset + len(out)) * out.strides[0]:
                raise CacheError(f"{self._files.where(path)} was cut short while it was read.")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapping:
                rows = np.frombuffer(mapping, np.uint8, out.nbytes, offset * out.strides[0])
                out.view(np.uint8).reshape(-1)[:] = rows
                del rows

    def _mapped(self, shard: int) -> npt.NDArray[np.void]:
        """The rows of a chunk, each as one opaque element."""
        if shard in self._maps:
            self._maps.move_to_end(shard)
            return self._maps[shard]
        with self._open(layout.chunk_path(self._folder, shard)) as file:
            mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        raw = np.frombuffer(mapping, self._row_dtype, count=self._chunk_rows)
        self._maps[shard] = raw
        if len(self._maps) > _MAPPED_AT_ONCE:
            self._maps.popitem(last=False)
        return raw


def check_size(files: Files, path: str, size: int) -> None:
    """Check that a committed file is there and has its size.

    Args:
        files: The store's.
        path: The file.
        size: Bytes it must have.

    Raises:
        CacheError: If it does not.
    """
    try:
        found = files.size(path)
    except OSError:
        raise missing(files, path) from None
    if found != size:
        raise CacheError(
            f"{files.where(path)} has {found} bytes instead of {size}. "
            "Run `selectkit verify` to find all such files."
        )


def missing(files: Files, path: str) -> CacheError:
    """Return what to say about a committed file that cannot be read."""
    return CacheError(
        f"{files.where(path)} is missing though its shard is committed. "
        "Run `selectkit verify` to see what else is."
    )
