"""Batches of standardised rows in a shuffled order, from memory or through a window over a file.

Every epoch visits every row once. The order is a function of (order seed, epoch, N) and, when the
rows do not fit into the working set, of the window; never of threads or of the machine.

Rows that fit are standardised once and kept: the order is a uniform permutation. Larger features
are streamed: the row numbers are rotated by a random offset and cut into blocks of 1,024 rows, the
blocks are visited in random order, and the rows of one window of blocks (a quarter of the working
set) are permuted among themselves and standardised batch by batch.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from selectkit.heads.rows import Float64s
from selectkit.heads.training.source import Source

if TYPE_CHECKING:
    from torch import Tensor, dtype

WORKING_SET = 2**30
"""Bytes of features that a fit keeps in memory, beside the libraries and the weights."""

_BLOCK_ROWS = 1024
_SELECT_ROWS = 8192


@dataclass(frozen=True, slots=True)
class Scaling:
    """Standardisation (x - mean) / scale. Both have shape (D,), float64."""

    mean: Float64s
    scale: Float64s

    def __call__(self, rows: "Tensor", dtype: "dtype") -> "Tensor":
        """Return standardised rows, computed in float32 (float64 for float64 rows)."""
        import torch

        wide = torch.float64 if rows.dtype == torch.float64 else torch.float32
        mean, inverse = torch.from_numpy(self.mean), torch.from_numpy(1 / self.scale)
        x = rows.to(wide) - mean.to(rows.device, wide)
        return x.mul_(inverse.to(rows.device, wide)).to(dtype)


class Batches(Protocol):
    """Rows in shuffled order."""

    def epoch(self, number: int) -> "Iterator[tuple[Tensor, Tensor]]":
        """Yield (rows (B, D), their numbers (B,)) for epoch `number`."""
        ...


def batches(
    source: Source,
    scaling: Scaling,
    *,
    batch_size: int,
    order_seed: int,
    dtype: "dtype",
    device: str,
    working_set: int,
    kept: "dict[dtype, Tensor]",
) -> Batches:
    """Return the batches of a source, from memory when they fit into the working set.

    Args:
        source: N rows, checked.
        scaling: How they are standardised.
        batch_size: Rows per batch; the last of an epoch may be smaller.
        order_seed: Seed of the order.
        dtype: float32 or bfloat16.
        device: Where the batches go.
        working_set: Bytes.
        kept: Standardised rows of this source by dtype; filled here, so that they are made once.

    Returns:
        The batches.
    """
    entries = source.n_rows * source.n_features
    if entries * dtype.itemsize <= working_set:
        if dtype not in kept:
            kept.clear()
            kept[dtype] = standardised(source, scaling, dtype).to(device)
        return _InMemory(kept[dtype], batch_size, order_seed)
    row_bytes = source.n_features * source.dtype.itemsize
    blocks = max(1, working_set // 4 // (row_bytes * _BLOCK_ROWS))
    return _Streamed(source, scaling, batch_size, order_seed, dtype, device, blocks)


def standardised(source: Source, scaling: Scaling, dtype: "dtype") -> "Tensor":
    """Return (x - mean) / scale, computed in float64, as a tensor (N, D) of `dtype`."""
    import torch

    out = torch.empty((source.n_rows, source.n_features), dtype=dtype)
    wide = np.empty((0, source.n_features))  # one for all blocks: fresh memory costs more than this
    for start, block in source.blocks():
        if len(block) > len(wide):
            wide = np.empty(block.shape)
        z = wide[: len(block)]
        np.subtract(block, scaling.mean, out=z)
        z /= scaling.scale
        out[start : start + len(block)] = torch.from_numpy(z)
    return out


@dataclass(frozen=True, slots=True)
class _InMemory:
    rows: "Tensor"
    batch_size: int
    order_seed: int

    def epoch(self, number: int) -> "Iterator[tuple[Tensor, Tensor]]":
        import torch

        order = _generator(self.order_seed, number).permutation(len(self.rows))
        places = torch.from_numpy(order).to(self.rows.device)
        for start in range(0, len(places), self.batch_size):
            chosen = places[start : start + self.batch_size]
            yield self.rows.index_select(0, chosen), chosen


@dataclass(frozen=True, slots=True)
class _Streamed:
    source: Source
    scaling: Scaling
    batch_size: int
    order_seed: int
    dtype: "dtype"
    device: str
    window_blocks: int

    def epoch(self, number: int) -> "Iterator[tuple[Tensor, Tensor]]":
        import torch

        rng = _generator(self.order_seed, number)
        n, d = self.source.n_rows, self.source.n_features
        capacity = self.window_blocks * _BLOCK_ROWS + self.batch_size
        window = torch.empty((capacity, d), dtype=_torch_dtype(self.source.dtype))
        numbers = torch.empty(capacity, dtype=torch.int64)
        held = 0  # rows left over from the window before
        spans = shuffled_blocks(n, rng)
        for first in range(0, len(spans), self.window_blocks):
            for start, stop in spans[first : first + self.window_blocks]:
                end = held + stop - start
                window[held:end] = torch.from_numpy(self.source.read(start, stop))
                numbers[held:end] = torch.arange(start, stop)
                held = end
            order = torch.from_numpy(rng.permutation(held))
            last = first + self.window_blocks >= len(spans)
            whole = held if last else held - held % self.batch_size
            for start in range(0, whole, self.batch_size):
                places = order[start : min(start + self.batch_size, whole)]
                rows = window.index_select(0, places).to(self.device)
                yield self.scaling(rows, self.dtype), numbers[places].to(self.device)
            rest = order[whole:]
            window[: len(rest)], numbers[: len(rest)] = window[rest], numbers[rest]
            held = len(rest)


def shuffled_blocks(n: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Cut N rows, rotated by a random offset, into blocks; return them in random order.

    Args:
        n: Rows.
        rng: Source of the offset and of the order.

    Returns:
        (start, stop) of blocks of at most 1,024 rows; together they hold every row once.
    """
    offset = int(rng.integers(n))
    edges = [*range(offset, n, _BLOCK_ROWS), n]
    spans = list(pairwise(edges))
    edges = [*range(0, offset, _BLOCK_ROWS), offset]
    spans += pairwise(edges)
    return [spans[i] for i in rng.permutation(len(spans))]


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Standardised rows in their own order, float32; kept in memory when they are few."""

    source: Source
    scaling: Scaling
    device: str
    kept: "Tensor | None"

    @classmethod
    def of(cls, source: Source, scaling: Scaling, device: str, working_set: int) -> "HeldOut":
        """Keep the rows when they take at most a quarter of the working set."""
        import torch

        small = source.n_rows * source.n_features * 16 <= working_set
        kept = standardised(source, scaling, torch.float32).to(device) if small else None
        return cls(source, scaling, device, kept)

    def blocks(self) -> "Iterator[Tensor]":
        """Yield blocks of rows."""
        import torch

        if self.kept is not None:
            for start in range(0, len(self.kept), _SELECT_ROWS):
                yield self.kept[start : start + _SELECT_ROWS]
            return
        for _, block in self.source.blocks(_SELECT_ROWS):
            yield self.scaling(torch.from_numpy(block).to(self.device), torch.float32)


def steps_per_epoch(n_rows: int, batch_size: int) -> int:
    """Return the number of batches of one epoch."""
    return ceil(n_rows / batch_size)


def _generator(order_seed: int, epoch: int) -> np.random.Generator:
    return np.random.default_rng([order_seed, epoch])


def _torch_dtype(dtype: npt.DTypeLike) -> "dtype":
    import torch

    return torch.from_numpy(np.empty(0, dtype=dtype)).dtype
