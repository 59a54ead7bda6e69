"""The risk-coverage staircase: one step per distinct confidence, most confident first.

Samples that share a confidence are accepted together, so everything here is exact under ties and
independent of the order of rows. A staircase may carry a leading axis of bootstrap replicates:
every area and working point below works on (G,) and on (B, G) alike.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from selectkit.arrays import Bools, Ints
from selectkit.errors import DataError

Float64s = npt.NDArray[np.float64]
Numbers = npt.NDArray[Any]  # int64 counts for 0/1 losses, float64 otherwise


@dataclass(frozen=True, slots=True)
class Steps:
    """Staircase of accepted samples and their losses.

    Attributes:
        size: Shape (..., G), samples that join at each step.
        loss: Shape (..., G), their summed loss.
        accepted: Shape (..., G), samples accepted up to and including the step.
        lost: Shape (..., G), their summed loss.
        n_usable: Number of steps at finite confidence; the step at -inf can never be accepted.
    """

    size: Ints
    loss: Numbers
    accepted: Ints
    lost: Numbers
    n_usable: int

    @classmethod
    def cumulate(cls, size: Ints, loss: Numbers, n_usable: int) -> "Steps":
        """Return the staircase with the given step sizes and losses, both (..., G)."""
        return cls(size, loss, np.cumsum(size, axis=-1), np.cumsum(loss, axis=-1), n_usable)

    @property
    def total(self) -> Ints:
        """Samples in all, shape (...)."""
        return np.asarray(self.accepted[..., -1])

    @property
    def total_loss(self) -> Numbers:
        """Summed loss of all samples, shape (...)."""
        return np.asarray(self.lost[..., -1])

    def risk(self) -> Float64s:
        """Selective risk after each step, 0 where nothing is accepted yet."""
        if self.accepted[..., 0].all():  # the usual case, and half the memory traffic
            return np.asarray(self.lost / self.accepted)
        return np.asarray(self.lost / np.maximum(self.accepted, 1))


def is_binary(loss: Numbers) -> bool:
    """Return whether every loss is 0 or 1."""
    return bool(((loss == 0) | (loss == 1)).all())


def steps_once(s: Float64s, ell: Float64s) -> tuple[Steps, Float64s]:
    """Return the staircase of one sample and the confidences of its steps.

    0/1 losses need only the sorted values: sorting values is three times faster than sorting
    indices, and the few errors are found among them.

    Args:
        s: Confidence, shape (N,), checked; sorted in place.
        ell: Loss, shape (N,), checked.

    Returns:
        The staircase, and its confidences from high to low, shape (G,).
    """
    if not is_binary(ell):
        ranked = Ranked.of(s, ell)
        return ranked.steps(None), ranked.values
    ordered, failures = _sorted_with_failures(s, ell)
    opens = _opens(ordered)
    if opens.all():
        values, upper, size = ordered, np.arange(1, len(s) + 1), np.ones(len(s), dtype=np.int64)
    else:
        values, upper = ordered[opens], len(s) - np.flatnonzero(opens)[::-1]
        size = np.diff(upper, prepend=0)
    loss = np.bincount(np.searchsorted(values, failures), minlength=len(values))[::-1]
    values = values[::-1]
    return Steps(size, loss, upper, np.cumsum(loss), _n_usable(values)), values


def area_generalized_once(s: Float64s, ell: Float64s) -> float:
    """AUGRC of one sample; for 0/1 losses from the mid-ranks of the errors alone.

    Args:
        s: Confidence, shape (N,), checked; sorted in place.
        ell: Loss, shape (N,), checked.

    Returns:
        The sum over errors of (ascending mid-rank - 1/2) / N^2.
    """
    if not is_binary(ell):
        return float(area_generalized(Ranked.of(s, ell).steps(None)))
    ordered, failures = _sorted_with_failures(s, ell)
    below = np.searchsorted(ordered, failures, "left").sum()
    up_to = np.searchsorted(ordered, failures, "right").sum()
    return float((below + up_to) / (2.0 * len(s) ** 2))


@dataclass(frozen=True, slots=True)
class Ranked:
    """Samples in order of falling confidence, ready for many weightings.

    Attributes:
        order: Shape (N,), row of the r-th most confident sample.
        starts: Shape (G,), rank at which each step starts.
        values: Shape (G,), confidence of each step.
        loss: Shape (N,), in the order of ranks; int64 for 0/1 losses.
    """

    order: Ints
    starts: Ints
    values: Float64s
    loss: Numbers

    @classmethod
    def of(cls, s: Float64s, ell: Float64s) -> "Ranked":
        """Sort once. Confidence and loss have shape (N,) and are checked."""
        order = np.argsort(-s)
        ordered = s[order]
        starts = np.flatnonzero(_opens(ordered))
        loss = ell[order]
        return cls(
            order, starts, ordered[starts], loss.astype(np.int64) if is_binary(ell) else loss
        )

    def steps(self, weights: Ints | None) -> Steps:
        """Return the staircase of the sample itself (None) or of weights (B, N) of its rows."""
        if weights is None:
            w = np.ones(len(self.order), dtype=np.int64)
        else:
            w = np.take(weights, self.order, axis=-1)
        e = w * self.loss
        if len(self.starts) < len(self.order):
            w = np.add.reduceat(w, self.starts, axis=-1)
            e = np.add.reduceat(e, self.starts, axis=-1)
        return Steps.cumulate(w, e, _n_usable(self.values))


def area_generalized(steps: Steps) -> Float64s:
    """AUGRC: trapezoid area under the generalized risk, from (0, 0)."""
    twice = _dot(steps.size, steps.lost) * 2 - _dot(steps.size, steps.loss)
    return np.asarray(twice / (2.0 * steps.total.astype(np.float64) ** 2))


def area_trapezoid(steps: Steps) -> Float64s:
    """AURC: trapezoid area under the selective risk, flat before the first step."""
    risk = steps.risk()
    twice = _dot(steps.size, risk) + _dot(steps.size[..., 1:], risk[..., :-1])
    first = np.argmax(steps.accepted > 0, axis=-1)[..., None]
    twice = twice + np.take_along_axis(steps.lost, first, axis=-1)[..., 0]
    return np.asarray(twice / (2.0 * steps.total))


def area_mean(steps: Steps) -> Float64s:
    """AURC: mean selective risk over the N prefixes, expected over random order within ties."""
    harmonic = np.append(0.0, np.cumsum(1 / np.arange(1, int(steps.total.max()) + 1)))
    before = steps.accepted - steps.size
    each = steps.loss / np.maximum(steps.size, 1)
    grown = harmonic[steps.accepted] - harmonic[before]
    areas = steps.loss + (steps.lost - steps.loss - before * each) * grown
    return np.asarray(areas.sum(axis=-1) / steps.total)


def area_best(steps: Steps, *, trapezoid: bool) -> Float64s:
    """AURC of the best possible ranking without ties; `steps` must be ordered by rising loss."""
    area = area_mean(steps)
    if not trapezoid:
        return area
    first = np.argmax(steps.accepted > 0, axis=-1)[..., None]
    start = np.take_along_axis(steps.risk(), first, axis=-1)[..., 0]
    return np.asarray(area + (start - steps.total_loss / steps.total) / (2 * steps.total))


def failure_auroc(steps: Steps) -> Float64s:
    """P(s of a correct > s of an error) + P(equal) / 2; NaN when all are right or all wrong."""
    correct = steps.accepted - steps.lost
    twice = 2 * _dot(steps.loss, correct) - _dot(steps.loss, steps.size - steps.loss)
    pairs = steps.total_loss * (steps.total - steps.total_loss).astype(np.float64)
    return np.asarray(np.where(pairs > 0, twice / np.maximum(2 * pairs, 1), np.nan))


def reach_coverage(steps: Steps, coverage: float) -> Ints:
    """Index of the first step with at least that coverage, or the last usable one; shape (...)."""
    needed = np.ceil(coverage * steps.total - 1e-9)
    usable = steps.accepted[..., : steps.n_usable]
    if usable.ndim == 1:
        index = np.asarray(np.searchsorted(usable, needed))
    else:
        index = np.array([np.searchsorted(row, n) for row, n in zip(usable, needed, strict=True)])
    return np.asarray(np.minimum(index, steps.n_usable - 1))


def keep_risk(steps: Steps, alpha: float) -> Ints:
    """Index of the last step whose selective risk is at most alpha, or -1; shape (...)."""
    if steps.n_usable == 0:
        return np.full(steps.total.shape, -1)
    usable = slice(0, steps.n_usable)
    fits: Bools = (steps.risk()[..., usable] <= alpha) & (steps.accepted[..., usable] > 0)
    last = steps.n_usable - 1 - np.argmax(fits[..., ::-1], axis=-1)
    return np.asarray(np.where(fits.any(axis=-1), last, -1))


def require_binary(loss: Numbers, metric: str) -> None:
    """Refuse losses other than 0 and 1.

    Args:
        loss: The losses.
        metric: Name of the metric that needs errors.

    Raises:
        DataError: If a loss is neither 0 nor 1.
    """
    if not is_binary(loss):
        raise DataError(f"{metric} compares errors with correct predictions: loss must be 0 or 1.")


def _sorted_with_failures(s: Float64s, ell: Float64s) -> tuple[Float64s, Float64s]:
    """Confidences of all and of the errors, both ascending; `s` itself is sorted."""
    failures = s[ell == 1]
    failures.sort()
    s.sort()
    return s, failures


def _opens(ordered: Float64s) -> Bools:
    """Marks where a new value starts in a sorted vector."""
    opens = np.ones(len(ordered), dtype=np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=opens[1:])
    return opens


def _n_usable(values: Float64s) -> int:
    return len(values) - int(values[-1] == -np.inf)


def _dot(a: Numbers, b: Numbers) -> Numbers:
    """Sum of products over the last axis, without a temporary."""
    return np.asarray(np.einsum("...g,...g->...", a, b))
