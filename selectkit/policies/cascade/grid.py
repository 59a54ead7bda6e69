"""Sums over rows for every tuple of thresholds of a cascade at once.

A row leaves a cascade at the first stage whose score reaches that stage's threshold. With a grid of
G thresholds per stage, all that matters of a row is between which two of them each score lies: the
counts of all G^S tuples of S stages are cumulative sums over a table of that many cells, whatever
the number of rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

Float64s = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

_TUPLES = 4096
_MOST = 64


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """Thresholds to choose from.

    Attributes:
        values: Per stage, ascending: -inf lets every row leave there, inf none.
    """

    values: tuple[Float64s, ...]

    @classmethod
    def of(cls, scores: Sequence[Float64s], *, last_decides: bool) -> Self:
        """Take quantiles of scores, without any label.

        Args:
            scores: Per stage, shape (N,); rows that certify nothing.
            last_decides: Whether the last stage decides every row that reaches it.

        Returns:
            At most 4,096 tuples, and at most 64 thresholds for a stage.
        """
        free = len(scores) - last_decides
        size = int(min(_MOST, _TUPLES ** (1 / max(free, 1)) + 1e-9))
        shares = np.linspace(0, 1, size - 1)[1:]
        values = [
            np.unique(np.concatenate([[-np.inf], np.quantile(s, shares), [np.inf]])) for s in scores
        ]
        if last_decides:
            values[-1] = np.array([-np.inf])
        return cls(tuple(values))

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of thresholds per stage."""
        return tuple(len(v) for v in self.values)

    def thresholds(self, place: int) -> tuple[float, ...]:
        """Return the thresholds of one tuple, by its place in flattened counts."""
        at = np.unravel_index(place, self.shape)
        return tuple(float(v[i]) for v, i in zip(self.values, at, strict=True))

    def bins(self, scores: Sequence[Float64s]) -> list[Counts]:
        """Return per stage how many of its thresholds each score reaches."""
        return [
            np.searchsorted(v, s, side="right") for v, s in zip(self.values, scores, strict=True)
        ]

    def leaving(self, bins: Sequence[Counts], stage: int, weights: Float64s) -> Float64s:
        """Sum weights of the rows that leave at one stage, for every tuple of thresholds.

        Args:
            bins: As from `bins`.
            stage: The stage, from 0.
            weights: Shape (N,): of the rows; 0 and 1 count some of them.

        Returns:
            One sum per threshold of the stages up to this one, and axes of size 1 for the rest.
        """
        cells = tuple(size + 1 for size in self.shape[: stage + 1])
        place = np.ravel_multi_index(bins[: stage + 1], cells)
        table = np.bincount(place, weights, minlength=int(np.prod(cells))).reshape(cells)
        for axis in range(stage + 1):
            table = table.cumsum(axis=axis)  # entry i: rows that reach at most i thresholds
        left = table[..., -1:] - table  # and reach the threshold of this stage
        inner = left[tuple(slice(size) for size in self.shape[: stage + 1])]
        return np.asarray(inner.reshape(inner.shape + (1,) * (len(self.shape) - stage - 1)))
