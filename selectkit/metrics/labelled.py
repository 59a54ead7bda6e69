"""Probabilities with their labels, checked and read block by block: nothing is copied whole.

A block and its transpose stay in the cache, and a class lies in one piece there: what is asked of
the classes is then asked by vector units.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from selectkit.arrays import (
    ArrayLike,
    Bools,
    Ints,
    regular_array,
    require_distributions,
    shared_class_labels,
)
from selectkit.errors import DataError

Float64s = npt.NDArray[np.float64]
Probabilities = npt.NDArray[np.floating[Any]]

_ROWS, _ENTRIES = 20_480, 81_920  # of a block, at most
_WIDE = 32  # classes from which on rows are long enough to be scanned as they lie


@dataclass(frozen=True, slots=True)
class Block:
    """Some of the rows.

    Attributes:
        rows: Which.
        columns: Shape (K, rows), the probabilities of each class; not to be changed.
        top: Shape (rows,), the largest probability.
        labels: Shape (rows,).
    """

    rows: slice
    columns: Probabilities
    top: Probabilities
    labels: Ints

    @property
    def of_label(self) -> Probabilities:
        """Shape (rows,), the probability of the label."""
        rows = np.arange(len(self.labels))
        if not self.columns.flags.c_contiguous:  # the rows as they lie
            return self.columns[self.labels, rows]
        rows += self.labels * len(rows)
        return self.columns.reshape(-1).take(rows, mode="clip")  # spares a check made before

    @property
    def right(self) -> Bools:
        """Shape (rows,): the label is the first of the largest entries."""
        largest, n_classes = self.columns == self.top, len(self.columns)
        if n_classes < _WIDE:  # bytes that fall with the class: the largest is of the first
            falling = np.arange(n_classes, 0, -1, dtype=np.uint8)
            first = (largest.view(np.uint8) * falling[:, np.newaxis]).max(axis=0)
            return np.asarray(first == (n_classes - self.labels).astype(np.uint8))
        right = np.asarray(self.of_label == self.top)
        if np.count_nonzero(largest) > len(right):  # ties are rare
            right &= self.columns.argmax(axis=0) == self.labels
        return right


@dataclass(frozen=True, slots=True)
class Labelled:
    """Probabilities and labels, where the caller has them.

    Attributes:
        probabilities: Shape (N, K), of any real dtype.
        labels: Shape (N,), integers in [0, K).
    """

    probabilities: npt.NDArray[Any]
    labels: Ints

    @classmethod
    def of(cls, probabilities: ArrayLike, labels: ArrayLike) -> "Labelled":
        """Check shapes, dtypes and labels; `blocks` checks the probabilities.

        Args:
            probabilities: Shape (N, K), rows sum to one within 1e-3.
            labels: Shape (N,), integers in [0, K).

        Returns:
            Both, not copied unless labels are of another dtype than int64.

        Raises:
            DataError: If a shape or a dtype is wrong, or a label out of range.
        """
        p = regular_array(probabilities, "probabilities")
        if p.dtype.kind not in "fiub":
            raise DataError(f"probabilities must be real numbers, got dtype {p.dtype}.")
        if p.ndim != 2 or len(p) == 0 or p.shape[1] < 2:
            raise DataError(
                "probabilities must have shape (N, K) with N >= 1 and K, the columns (classes), "
                f">= 2; got {p.shape}."
            )
        return cls(p, shared_class_labels(labels, *p.shape))

    def __len__(self) -> int:
        """N."""
        return len(self.probabilities)

    @property
    def n_classes(self) -> int:
        """K."""
        return int(self.probabilities.shape[1])

    def blocks(self) -> Iterator[Block]:
        """Yield all rows in order.

        Yields:
            Blocks in float32 where the probabilities are, else in float64.

        Raises:
            DataError: If a value or the sum of a row is not that of a distribution.
        """
        dtype: type[np.floating[Any]] = np.float64
        if self.probabilities.dtype == np.float32:
            dtype = np.float32
        height = max(16, min(_ROWS, _ENTRIES // self.n_classes))
        for first in range(0, len(self), height):
            rows = slice(first, first + height)
            with np.errstate(over="ignore"):
                p = self.probabilities[rows].astype(dtype, copy=False)
            columns = p.T if self.n_classes >= _WIDE else np.ascontiguousarray(p.T)
            top = columns.max(axis=0)
            require_distributions(columns.T, top.max(), first)
            yield Block(rows, columns, top, self.labels[rows])

    def check(self) -> None:
        """Refuse what `blocks` refuses.

        Raises:
            DataError: If a value or the sum of a row is not that of a distribution.
        """
        for _ in self.blocks():
            pass

    def column(self, k: int) -> Float64s:
        """Return the probabilities of one class, shape (N,), as a copy; `check` first.

        Args:
            k: The class.

        Returns:
            Shape (N,), float64.
        """
        return self.probabilities[:, k].astype(np.float64)


def top_label(data: Labelled) -> tuple[Float64s, Bools]:
    """Return the confidence in the most probable class, and whether that is the label.

    Args:
        data: N probabilities and labels.

    Returns:
        Both of shape (N,). Of equally probable classes the first is the prediction.

    Raises:
        DataError: If a value or the sum of a row is not that of a distribution.
    """
    confidence, right = np.empty(len(data)), np.empty(len(data), dtype=np.bool_)
    for block in data.blocks():
        confidence[block.rows] = block.top
        right[block.rows] = block.right
    return confidence, right
