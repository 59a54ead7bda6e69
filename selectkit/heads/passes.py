"""Standardised rows that are passed over again and again: kept in memory, or read anew each time.

A full-batch fit visits every row once per pass, always in order. Rows that fit into the working set
are standardised once and kept; others are converted block by block on every pass, so that a fit
over a memory-mapped float16 file never holds a float32 copy of it. Sizes: N rows, D features.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
import numpy.typing as npt

from selectkit.arrays import Floats
from selectkit.heads.rows import Float64s
from selectkit.heads.training.source import Source


@dataclass(frozen=True, slots=True, eq=False)
class Standardised:
    """Rows (x - mean) / scale of a source, (N, D), in float32 or (for float64 features) float64.

    Attributes:
        source: Where the rows come from, checked.
        mean: Shape (D,), with values that `dtype` can hold.
        scale: Shape (D,), likewise.
        dtype: Dtype of the blocks.
        kept: All rows, (N, D), or None when every pass reads them.
    """

    source: Source
    mean: Float64s
    scale: Float64s
    dtype: np.dtype[Any]
    kept: npt.NDArray[Any] | None

    @classmethod
    def of(
        cls, source: Source, mean: Float64s, scale: Float64s, working_set: int
    ) -> "Standardised":
        """Keep the rows if they fit.

        Args:
            source: N rows, finite.
            mean: Shape (D,); rounded to the dtype of the blocks.
            scale: Shape (D,), positive; rounded likewise.
            working_set: Bytes that the kept rows may take.

        Returns:
            The rows, ready to be passed over.
        """
        dtype = np.dtype(np.float64 if source.dtype == np.float64 else np.float32)
        passing = cls(source, _held(mean, dtype), _held(scale, dtype), dtype, None)
        if source.n_rows * source.n_features * dtype.itemsize > working_set:
            return passing
        kept = np.empty((source.n_rows, source.n_features), dtype)
        for start, block in source.blocks():
            passing._standardise(block, out=kept[start : start + len(block)])
        return cls(source, passing.mean, passing.scale, dtype, kept)

    @property
    def shape(self) -> tuple[int, int]:
        """(N, D)."""
        return self.source.n_rows, self.source.n_features

    def blocks(self, height: int) -> Iterator[tuple[int, npt.NDArray[Any]]]:
        """Yield (first row, standardised block); a block is valid until the next one.

        Args:
            height: Rows per block; the last may have fewer.

        Yields:
            The rows from first to last.
        """
        if self.kept is not None:
            for start in range(0, len(self.kept), height):
                yield start, self.kept[start : start + height]
            return
        buffer = np.empty((height, self.shape[1]), self.dtype)
        for start, block in self.source.blocks(height):
            yield start, self._standardise(block, out=buffer[: len(block)])

    def sample(self, n_rows: int) -> npt.NDArray[Any]:
        """Return at most `n_rows` evenly spaced rows, standardised."""
        step = ceil(self.shape[0] / n_rows)
        if self.kept is not None:
            return self.kept[::step]
        parts = [block[-start % step :: step].copy() for start, block in self.blocks(4096)]
        return np.concatenate(parts)

    def _standardise(self, block: Floats, out: npt.NDArray[Any]) -> npt.NDArray[Any]:
        np.subtract(block, self.mean.astype(self.dtype), out=out, dtype=self.dtype)
        out /= self.scale.astype(self.dtype)
        return out


def _held(values: Float64s, dtype: np.dtype[Any]) -> Float64s:
    """The same numbers in the precision of `dtype`, so that fit and use subtract the same mean."""
    return values.astype(dtype).astype(np.float64)
