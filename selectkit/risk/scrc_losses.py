"""Losses of prediction sets that grow with lambda: what selective conformal risk control walks on.

A set grows with lambda, so its loss falls. `Misses` are 0/1 losses "the true class is not in the
set": one number per row says everything, and every lambda is a candidate. `LossGrid`, in
`selectkit.risk.scrc_loss_grid`, holds any bounded losses on a grid of lambdas.
"""

from dataclasses import dataclass, replace
from math import floor
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt

from selectkit.arrays import ArrayLike, Bools, real_array
from selectkit.errors import DataError
from selectkit.risk.budget import errors_affordable
from selectkit.stats import clopper_pearson_upper

Float64s = npt.NDArray[np.float64]

ROUNDING = 1e-9
"""What sums of losses may exceed their budget by, because 0.05 * 20 need not be 1."""


class SetLosses(Protocol):
    """Losses of N rows, each non-increasing in lambda and in [0, bound]."""

    @property
    def bound(self) -> float:
        """B, the largest possible loss."""
        ...

    def __len__(self) -> int:
        """N, the rows that are counted."""
        ...

    def take(self, rows: Bools) -> Self:
        """Return the losses of some rows; shape (N,), N the rows that these losses hold."""
        ...

    @property
    def binary(self) -> bool:
        """Whether every loss is 0 or 1."""
        ...

    def total(self, lambda2: float) -> float:
        """Return the sum of the losses at one lambda."""
        ...

    def errors(self, lambda2: float) -> int:
        """Return how many losses are above 0 at one lambda."""
        ...

    def least(self) -> float:
        """Return the sum of the losses at the largest lambda."""
        ...

    def within(self, budget: float) -> float | None:
        """Return the smallest lambda at which the sum is at most the budget, or None."""
        ...

    def certified(self, alpha: float, delta: float, rng: np.random.Generator) -> float | None:
        """Return the smallest lambda certified to keep the mean at or below alpha, or None.

        Lambdas are tested from the largest down until one fails; because the mean falls with
        lambda, no correction for their number is due (Bates et al. 2021,
        https://arxiv.org/abs/2101.02703). The rows must be independent.

        Args:
            alpha: Mean loss to certify, in (0, 1).
            delta: Probability with which the certificate may be wrong.
            rng: Source of the order in which losses that are not 0/1 are bet on.
        """
        ...

    def upper(self, lambda2: float, delta: float, rng: np.random.Generator) -> float:
        """Return a pointwise upper bound of the mean loss at one lambda.

        Args:
            lambda2: Lambda.
            delta: Error level.
            rng: Source of the order in which losses that are not 0/1 are bet on.
        """
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Misses:
    """The 0/1 loss 1{lambda < entering}: the true class is in the set from `entering` on.

    For sets {k: p_k >= 1 - lambda} that is 1 - p_label; see `selectkit.policies.sets`.

    Attributes:
        entering: Shape (N,), float64; inf means never.
    """

    entering: Float64s

    @classmethod
    def of(cls, entering: ArrayLike) -> Self:
        """Check and wrap the lambdas at which the true classes enter.

        Args:
            entering: Shape (N,), N >= 1; inf means never.

        Returns:
            The losses.

        Raises:
            DataError: If the shape is wrong or an entry is NaN.
        """
        e = real_array(entering, "entering")
        if e.ndim != 1 or e.size == 0:
            raise DataError(f"entering must have shape (N,) with N >= 1, got {e.shape}.")
        if np.isnan(e.min()):
            raise DataError(f"entering is NaN in row {int(np.flatnonzero(np.isnan(e))[0])}.")
        return cls(e)

    @property
    def bound(self) -> float:
        """B = 1."""
        return 1.0

    @property
    def binary(self) -> bool:
        """True."""
        return True

    def __len__(self) -> int:
        """N."""
        return len(self.entering)

    def take(self, rows: Bools) -> Self:
        """Return the losses of some rows."""
        return replace(self, entering=self.entering[rows])

    def total(self, lambda2: float) -> float:
        """Return the number of misses at one lambda."""
        return float(self.errors(lambda2))

    def errors(self, lambda2: float) -> int:
        """Return the number of misses at one lambda."""
        return int(np.count_nonzero(self.entering > lambda2))

    def least(self) -> float:
        """Return the number of classes that never enter."""
        return self.total(np.finfo(np.float64).max)

    def within(self, budget: float) -> float | None:
        """Return the smallest lambda with at most floor(budget) misses, or None."""
        return self._leaving(floor(budget + ROUNDING))

    def certified(self, alpha: float, delta: float, rng: np.random.Generator) -> float | None:
        """Return the smallest lambda whose miss rate is certified by the exact binomial test.

        It is an order statistic: with k misses affordable, the (k + 1)-th largest of N entering
        lambdas. Its true miss rate follows Beta(k + 1, N - k) (ties make it smaller), which
        exceeds alpha with probability P(Bin(N, alpha) <= k) <= delta.

        Args:
            alpha: Miss rate to certify.
            delta: Probability with which the certificate may be wrong.
            rng: Unused.

        Returns:
            Lambda, or None when not even no miss would do.
        """
        return self._leaving(errors_affordable(len(self), float(alpha), float(delta)))

    def upper(self, lambda2: float, delta: float, rng: np.random.Generator) -> float:
        """Return the Clopper-Pearson upper bound of the miss rate."""
        return clopper_pearson_upper(int(self.total(lambda2)), len(self), delta)

    def _leaving(self, misses: int) -> float | None:
        """The smallest lambda that leaves at most so many rows out, or None."""
        n = len(self.entering)
        if misses < 0 or n == 0:
            return None
        lowest = self.entering.min()
        late = self.entering[self.entering > lowest]  # equal numbers make selection slow
        place = len(late) - 1 - misses
        found = float(lowest if place < 0 else np.partition(late, place)[place])
        return None if found == np.inf else found
