"""Class-balanced areas: every class counts the same, however many samples it has.

Source: fd-shifts, the reference code of Traub et al. (2024), https://arxiv.org/abs/2407.01032.
The balanced generalized risk weighs a loss of class c by N / (K N_c); the balanced selective risk
is the mean over classes of the mean loss among their accepted samples, 0 for a class of which
nothing is accepted. Coverage stays the fraction of all samples.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from selectkit.arrays import ArrayLike, Ints
from selectkit.metrics.ranked import Ranked, checked
from selectkit.metrics.resample import name_codes
from selectkit.metrics.steps import Steps

Float64s = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Balanced:
    """Samples sorted by class and, within it, by falling confidence.

    Attributes:
        ranked: All samples in the order of falling confidence.
        order: Shape (N,), rows by class and rank.
        starts: Shape (K,), where each class starts in `order`.
        loss: Shape (N,), in that order.
        step: Shape (N,), step of the staircase that each joins.
        until: Shape (N,), step at which the next sample of the class joins; G for its last.
    """

    ranked: Ranked
    order: Ints
    starts: Ints
    loss: Float64s
    step: Ints
    until: Ints

    @classmethod
    def of(cls, confidence: ArrayLike, loss: ArrayLike, labels: ArrayLike) -> "Balanced":
        """Check and sort.

        Args:
            confidence: Shape (N,), higher = accept first.
            loss: Shape (N,).
            labels: Shape (N,), the class of each sample: integers or anything that sorts.

        Returns:
            The sorted samples.

        Raises:
            DataError: If an array is malformed or a confidence is NaN.
        """
        s, ell = checked(confidence, loss)
        y = name_codes(labels, len(s), "labels")[1]
        ranked = Ranked.of(s, ell)
        order = np.lexsort((-s, y))
        _, starts = np.unique(y[order], return_index=True)
        step = np.searchsorted(-ranked.values, -s[order])
        until = np.append(step[1:], len(ranked.values))
        until[starts[1:] - 1] = len(ranked.values)
        return cls(ranked, order, starts, ell[order].astype(np.float64), step, until)

    def augrc(self, weights: Ints) -> Float64s:
        """Return the balanced AUGRC of weights (B, N), shape (B,)."""
        steps, w, size = self._weighted(weights)
        share = steps.total[:, None] - steps.accepted + self._sizes(steps) / 2
        sums = np.add.reduceat(w * self.loss * share[:, self.step], self.starts, axis=1)
        means = np.divide(sums, size, out=np.zeros_like(sums), where=size > 0)
        return np.asarray(means.sum(axis=1) / (steps.total * (size > 0).sum(axis=1)))

    def aurc(self, weights: Ints) -> Float64s:
        """Return the balanced AURC of weights (B, N), shape (B,)."""
        steps, w, size = self._weighted(weights)
        accepted, lost = self._within_class(w), self._within_class(w * self.loss)
        risk = np.divide(lost, accepted, out=np.zeros_like(lost), where=accepted > 0)
        around = steps.around.copy()
        first = np.argmax(steps.accepted > 0, axis=1)
        around[np.arange(len(around)), first] += steps.at_first(steps.accepted)
        reach = np.cumsum(np.pad(around, ((0, 0), (1, 0))), axis=1)
        twice = np.vecdot(risk, reach[:, self.until] - reach[:, self.step])
        return np.asarray(twice / (2 * steps.total * (size > 0).sum(axis=1)))

    def _weighted(self, weights: Ints) -> tuple[Steps, Float64s, Float64s]:
        steps = self.ranked.steps(weights)
        w = np.take(weights, self.order, axis=1).astype(np.float64)
        return steps, w, np.add.reduceat(w, self.starts, axis=1)

    def _within_class(self, each: Float64s) -> Float64s:
        """Cumulative sums that start anew at every class."""
        sums = np.cumsum(each, axis=1)
        base = np.concatenate([np.zeros((len(sums), 1)), sums[:, self.starts[1:] - 1]], axis=1)
        counts = np.diff(self.starts, append=len(self.order))
        return np.asarray(sums - np.repeat(base, counts, axis=1))

    @staticmethod
    def _sizes(steps: Steps) -> Float64s:
        return np.diff(steps.accepted, axis=1, prepend=0)


def augrc_balanced(confidence: ArrayLike, loss: ArrayLike, labels: ArrayLike) -> float:
    """Return the AUGRC in which every class weighs the same.

    Args:
        confidence: Shape (N,), higher = accept first.
        loss: Shape (N,).
        labels: Shape (N,), the class of each sample; only classes that occur count.

    Returns:
        The area; equal to `augrc` when classes are equally frequent.

    Raises:
        DataError: If an array is malformed or a confidence is NaN.
    """
    balanced = Balanced.of(confidence, loss, labels)
    return float(balanced.augrc(np.ones((1, len(balanced.order)), dtype=np.int64))[0])


def aurc_balanced(confidence: ArrayLike, loss: ArrayLike, labels: ArrayLike) -> float:
    """Return the AURC of the mean selective risk of the classes, trapezoid estimator.

    Args:
        confidence: Shape (N,), higher = accept first.
        loss: Shape (N,).
        labels: Shape (N,), the class of each sample; only classes that occur count.

    Returns:
        The area. A class of which nothing is accepted has risk 0.

    Raises:
        DataError: If an array is malformed or a confidence is NaN.
    """
    balanced = Balanced.of(confidence, loss, labels)
    return float(balanced.aurc(np.ones((1, len(balanced.order)), dtype=np.int64))[0])
