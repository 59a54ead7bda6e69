"""Bounded losses of prediction sets on a grid of lambdas; see `selectkit.risk.scrc_losses`."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt

from selectkit.arrays import ArrayLike, Bools, real_array, regular_array
from selectkit.errors import DataError, RiskError
from selectkit.risk.scrc_losses import ROUNDING, Float64s
from selectkit.stats import binomial_pvalue, clopper_pearson_upper, wsr_upper
from selectkit.stats.bounded import wsr_pvalues

_BLOCK = 16_384


@dataclass(frozen=True, slots=True, eq=False)
class LossGrid:
    """Bounded losses at each lambda of a grid. N rows, L lambdas.

    Attributes:
        values: Shape (N, L), real or boolean, non-increasing along each row; never copied.
        lambdas: Shape (L,), float64, strictly increasing.
        bound: B > 0, the largest possible loss.
        rows: Shape (N,), the rows that count; None: all.
    """

    values: npt.NDArray[np.generic]
    lambdas: Float64s
    bound: float = 1.0
    rows: Bools | None = None

    @classmethod
    def of(cls, values: ArrayLike, lambdas: ArrayLike, bound: float = 1.0) -> Self:
        """Check and wrap losses on a grid.

        Args:
            values: Shape (N, L), in [0, bound], non-increasing along each row.
            lambdas: Shape (L,), finite, strictly increasing.
            bound: B > 0.

        Returns:
            The losses.

        Raises:
            DataError: If a shape or a value is wrong, or a loss grows with lambda (its row is
                named).
            RiskError: If the lambdas do not increase or the bound is not positive.
        """
        ell = regular_array(values, "losses")
        if ell.dtype.kind not in "fiub":
            raise DataError(f"losses must be real numbers, got dtype {ell.dtype}.")
        grid = real_array(lambdas, "lambdas")
        if grid.ndim != 1 or grid.size == 0 or not np.isfinite(grid).all():
            raise RiskError(f"lambdas must be finite, of shape (L,), L >= 1; got {grid.shape}.")
        if not (np.diff(grid) > 0).all():
            raise RiskError("lambdas must increase strictly: losses fall along them.")
        if not 0 < bound < np.inf:
            raise RiskError(f"the bound of the losses must be positive, got {bound}.")
        if ell.ndim != 2 or ell.shape[0] == 0 or ell.shape[1] != len(grid):
            raise DataError(f"losses must have shape (N, {len(grid)}), N >= 1; got {ell.shape}.")
        _require_falling(ell, bound)
        return cls(ell, grid, float(bound))

    def __len__(self) -> int:
        """N, the rows that count."""
        return len(self.values) if self.rows is None else int(np.count_nonzero(self.rows))

    def take(self, rows: Bools) -> Self:
        """Return the losses of some of the rows that `values` holds, without copying them."""
        return replace(self, rows=rows if self.rows is None else rows & self.rows)

    def total(self, lambda2: float) -> float:
        """Return the sum of the losses at the last lambda of the grid that is not above."""
        return float(self._column(lambda2).sum())

    def errors(self, lambda2: float) -> int:
        """Return how many losses are above 0 at the last lambda of the grid that is not above."""
        return int(np.count_nonzero(self._column(lambda2)))

    def least(self) -> float:
        """Return the sum of the losses at the last lambda."""
        return self.total(float(self.lambdas[-1]))

    def within(self, budget: float) -> float | None:
        """Return the first lambda at which the sum is at most the budget, or None."""
        fits = self._totals() <= budget + ROUNDING
        return float(self.lambdas[np.argmax(fits)]) if fits.any() else None

    def certified(self, alpha: float, delta: float, rng: np.random.Generator) -> float | None:
        """Return the smallest lambda of a run of passed tests from the last lambda down.

        0/1 losses get the exact binomial test, others the betting test (WSR).

        Args:
            alpha: Mean loss to certify.
            delta: Probability with which the certificate may be wrong.
            rng: Source of the order in which losses that are not 0/1 are bet on.

        Returns:
            Lambda, or None when the last one is not certified.
        """
        n = len(self)
        if n == 0 or alpha >= self.bound:
            return None if n == 0 else float(self.lambdas[0])
        if self.binary:
            passed = binomial_pvalue(self._totals().astype(np.int64), n, alpha) <= delta
        else:
            passed = self._bets(alpha, delta, rng) <= delta
        run = int(np.logical_and.accumulate(passed[::-1]).sum())
        return float(self.lambdas[-run]) if run else None

    def upper(self, lambda2: float, delta: float, rng: np.random.Generator) -> float:
        """Return an upper bound of the mean loss: exact for 0/1 losses, betting for others."""
        x = self._column(lambda2)
        if not x.size:
            return self.bound
        if self.binary:
            return clopper_pearson_upper(int(x.sum()), len(x), delta)
        return self.bound * wsr_upper(x / self.bound, delta, rng)

    def _column(self, lambda2: float) -> Float64s:
        """Losses that count, at one lambda; the bound below the grid."""
        place = int(np.searchsorted(self.lambdas, lambda2, side="right")) - 1
        if place < 0:
            return np.full(len(self), self.bound)
        column = self.values[:, place]
        return np.asarray(column if self.rows is None else column[self.rows], dtype=np.float64)

    def _totals(self) -> Float64s:
        """Sum over the rows that count per lambda, block by block, without a copy of the whole."""
        weights = np.ones(len(self.values), dtype=np.bool_) if self.rows is None else self.rows
        totals = np.zeros(len(self.lambdas))
        for start in range(0, len(weights), _BLOCK):
            block = self.values[start : start + _BLOCK].astype(np.float64, copy=False)
            totals += weights[start : start + _BLOCK].astype(np.float64) @ block
        return totals

    @property
    def binary(self) -> bool:
        """Whether every loss is 0 or 1, and so is the bound."""
        if self.bound != 1:
            return False
        if self.values.dtype == np.bool_:
            return True
        return all(
            bool(((block == 0) | (block == 1)).all())
            for block in np.array_split(self.values, max(1, len(self.values) // _BLOCK))
        )

    def _bets(self, alpha: float, delta: float, rng: np.random.Generator) -> Float64s:
        kept = self.values if self.rows is None else self.values[self.rows]
        scaled = kept.astype(np.float64) / self.bound
        return wsr_pvalues(scaled, alpha / self.bound, rng, delta=delta)


def _require_falling(ell: npt.NDArray[np.generic], bound: float) -> None:
    for start in range(0, len(ell), _BLOCK):
        block = np.asarray(ell[start : start + _BLOCK])
        if block.dtype.kind not in "fiub":
            raise DataError(f"losses must be real numbers, got dtype {block.dtype}.")
        falling = block[:, 1:] <= block[:, :-1]  # NaN compares as false
        ends = (block[:, 0] <= bound) & (block[:, -1] >= 0)
        if falling.all() and ends.all():
            continue
        row = int(np.flatnonzero(~(falling.all(axis=1) & ends))[0])
        what = f"are not all in [0, {bound:g}]" if falling[row].all() else "do not fall with lambda"
        raise DataError(
            f"losses in row {start + row} {what}. Order the columns by growing sets; for a loss "
            "that is not monotone take the running maximum from the right."
        )
