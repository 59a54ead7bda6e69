"""Nearest neighbours by inner product, exact, in bounded memory and the speed of its products.

Queries and references are taken in blocks. After the first block only similarities above a query's
k-th best so far are looked at, and they are few: selection costs one comparison per similarity.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from selectkit.arrays import Floats

_QUERIES = 256
_REFERENCES = 4096


def nearest(
    queries: Floats, references: Floats, k: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Return the k references with the largest inner product with each query.

    Products are float32. Queries go through blocks of one fixed height, so that the answer for a
    query does not depend on the queries it is asked together with. Of equal similarities the
    earlier reference comes first.

    Args:
        queries: Shape (N, D), finite, any float dtype.
        references: Shape (R, D), R >= k, finite; any float dtype, converted block by block.
        k: Neighbours per query, >= 1.

    Returns:
        Similarities (N, k) float32, falling, and the references' numbers (N, k).
    """
    similarities = np.empty((len(queries), k), dtype=np.float32)
    numbers = np.empty((len(queries), k), dtype=np.int64)
    block = np.zeros((_QUERIES, queries.shape[1]), dtype=np.float32)
    wide = 32 * _QUERIES  # converting references once serves many blocks of queries
    for first in range(0, len(queries), wide):
        stop = min(first + wide, len(queries))
        held = [_Best(k) for _ in range(first, stop, _QUERIES)]
        for start in range(0, len(references), _REFERENCES):
            r = references[start : start + _REFERENCES].astype(np.float32, copy=False)
            for best, at in zip(held, range(first, stop, _QUERIES), strict=True):
                part = queries[at : min(at + _QUERIES, stop)]
                block[: len(part)] = part
                best.add(block @ r.T, start)
        for best, at in zip(held, range(first, stop, _QUERIES), strict=True):
            n = min(_QUERIES, stop - at)
            similarities[at : at + n], numbers[at : at + n] = best.values[:n], best.numbers[:n]
    return similarities, numbers


class _Best:
    """The k best of one block of queries so far."""

    def __init__(self, k: int) -> None:
        self.k = k
        self.values = np.full((_QUERIES, k), -np.inf, dtype=np.float32)
        self.numbers = np.zeros((_QUERIES, k), dtype=np.int64)

    def add(self, products: npt.NDArray[Any], start: int) -> None:
        """Take over what is better among the references from `start`."""
        if start == 0 and self.k < products.shape[1]:
            # Of the first block everything beats nothing: keep what reaches its k-th best.
            bar = np.partition(products, -self.k, axis=1)[:, -self.k]
            rows, columns = np.nonzero(products >= bar[:, np.newaxis])
        else:
            rows, columns = np.nonzero(products > self.values[:, -1:])
        if not len(rows):
            return
        counts = np.bincount(rows, minlength=_QUERIES)
        place = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        shape = (_QUERIES, self.k + int(counts.max()))
        values = np.full(shape, -np.inf, dtype=np.float32)
        numbers = np.zeros(shape, dtype=np.int64)
        values[:, : self.k], numbers[:, : self.k] = self.values, self.numbers
        values[rows, self.k + place] = products[rows, columns]
        numbers[rows, self.k + place] = columns + start
        best = np.argsort(-values, axis=1, kind="stable")[:, : self.k]
        self.values = np.take_along_axis(values, best, axis=1)
        self.numbers = np.take_along_axis(numbers, best, axis=1)
