"""Class-balanced areas: every class counts the same, however many samples it has.

Source: fd-shifts, the reference code of Traub et al. (2024), https://arxiv.org/abs/2407.01032.
The balanced generalized risk weighs a loss of class c by N / (K N_c); the balanced selective risk
is the mean over classes of the mean loss among their accepted samples, 0 for a class of which
nothing is accepted. Coverage stays the fraction of all samples.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from selectkit.arrays import ArrayLike, Ints
from selectkit.metrics.ranked import Losses, Ranked, checked
from selectkit.metrics.resample import name_codes

Float64s = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Balanced:
    """Samples sorted by class and, within it, by falling confidence.

    Attributes:
        ranked: All samples in the order of falling confidence.
        by_class: Shape (N,), ranks of all samples, class after class.
        starts: Shape (K,), where each class starts in `by_class`.
    """

    ranked: Ranked
    by_class: Ints
    starts: Ints

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
        names, y = name_codes(labels, len(s), "labels")
        sizes = np.bincount(y)
        y = y.astype(np.min_scalar_type(len(names) - 1))  # 16 bits and less are sorted by radix
        ranked = Ranked.of(s, ell)
        by_class = np.argsort(y if ranked.order is None else y[ranked.order], kind="stable")
        return cls(ranked, by_class, np.cumsum(sizes) - sizes)

    def augrc(self, weights: Ints) -> Float64s:
        """Return the balanced AUGRC of weights (B, N), shape (B,)."""
        w = self.ranked.by_rank(weights)
        accepted = self.ranked.accepted(w)
        total = accepted[:, -1]
        w = np.take(w, self.by_class, axis=1)
        size = np.add.reduceat(w, self.starts, axis=1, dtype=np.float64)
        hits = self._hits
        lost = np.take(w, hits.place, axis=1) * hits.loss * hits.below(accepted)
        sums = np.zeros_like(size)
        sums[:, hits.classes] = np.add.reduceat(lost, hits.starts, axis=1)
        means = np.divide(sums, size, out=np.zeros_like(sums), where=size > 0)
        return np.asarray(means.sum(axis=1) / (total * (size > 0).sum(axis=1)))

    def aurc(self, weights: Ints) -> Float64s:
        """Return the balanced AURC of weights (B, N), shape (B,)."""
        ranks = self.ranked.by_rank(weights)
        steps = self.ranked.steps_of_ranks(ranks)
        w = np.take(ranks, self.by_class, axis=1).astype(np.float64)
        size = np.add.reduceat(w, self.starts, axis=1)
        accepted, lost = self._within_class(w), self._within_class(w * self._loss)
        risk = np.divide(lost, accepted, out=np.zeros_like(lost), where=accepted > 0)
        around = steps.around.copy()
        first = np.argmax(steps.accepted > 0, axis=1)
        around[np.arange(len(around)), first] += steps.at_first(steps.accepted)
        reach = np.cumsum(np.pad(around, ((0, 0), (1, 0))), axis=1)
        twice = np.vecdot(risk, reach[:, self._until] - reach[:, self._step])
        return np.asarray(twice / (2 * steps.total * (size > 0).sum(axis=1)))

    @cached_property
    def _hits(self) -> "_Hits":
        return _Hits.of(self.ranked, self.by_class, self.starts)

    @cached_property
    def _loss(self) -> Float64s:
        return self.ranked.loss[self.by_class].astype(np.float64)

    @cached_property
    def _step(self) -> Ints:
        return self.ranked.step_of(self.by_class)

    @cached_property
    def _until(self) -> Ints:
        """Step at which the next sample of the class joins; G for its last."""
        until = np.append(self._step[1:], len(self.ranked.values))
        until[self.starts[1:] - 1] = len(self.ranked.values)
        return until

    def _within_class(self, each: Float64s) -> Float64s:
        """Cumulative sums that start anew at every class."""
        sums = np.cumsum(each, axis=1)
        base = np.concatenate([np.zeros((len(sums), 1)), sums[:, self.starts[1:] - 1]], axis=1)
        counts = np.diff(self.starts, append=len(self.by_class))
        return np.asarray(sums - np.repeat(base, counts, axis=1))


@dataclass(frozen=True, slots=True)
class _Hits:
    """The samples that lose anything, class after class; all arrays but two have shape (H,).

    Attributes:
        place: Where they are among all samples in the order of classes.
        loss: What they lose.
        step: The step of the staircase that each joins.
        classes: Shape (C,), classes that have any.
        starts: Shape (C,), where these start.
    """

    place: Ints
    loss: Losses
    step: Ints
    classes: Ints
    starts: Ints

    @classmethod
    def of(cls, ranked: Ranked, by_class: Ints, class_starts: Ints) -> "_Hits":
        place = np.flatnonzero(ranked.loss[by_class])
        rank = by_class[place]
        first = np.searchsorted(place, class_starts)
        classes = np.flatnonzero(np.diff(first, append=len(place)))
        return cls(place, ranked.loss[rank], ranked.step_of(rank), classes, first[classes])

    def below(self, accepted: Float64s) -> Float64s:
        """Samples less confident, ties half, (B, H), of how many each step accepts, (B, G)."""
        below = np.where(self.step > 0, accepted[:, self.step - 1], 0.0)
        below += accepted[:, self.step]
        below *= -0.5
        below += accepted[:, -1:]
        return below


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
    return float(balanced.augrc(np.ones((1, len(balanced.by_class)), np.uint8))[0])


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
    return float(balanced.aurc(np.ones((1, len(balanced.by_class)), np.uint8))[0])
