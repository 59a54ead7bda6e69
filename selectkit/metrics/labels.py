"""Metrics of decided labels: accuracy, balanced accuracy, MCC, false-negative and other rates.

All of them are functions of how often each (label, prediction, accepted) outcome occurs, so one
table of outcomes serves a single value and thousands of bootstrap weightings alike.

Two false-negative rates, never confused: `fnr` looks at the positives that were decided
automatically, `miss_rate` at all positives, where deferring one is not a miss.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from selectkit.arrays import ArrayLike, Bools, Ints, finite_vector
from selectkit.errors import DataError
from selectkit.metrics.outcomes import Outcomes

Float64s = npt.NDArray[np.float64]


def _ratio(part: Ints, whole: Ints) -> Float64s:
    return np.asarray(np.where(whole > 0, part / np.maximum(whole, 1), np.nan))


def _share(counts: Ints, part: Bools, whole: Bools) -> Float64s:
    return _ratio(counts[..., part & whole].sum(axis=-1), counts[..., whole].sum(axis=-1))


def _by_code(counts: Ints, codes: Ints, n_codes: int) -> Ints:
    """Sum counts by code: (..., C) to (..., K)."""
    order = np.argsort(codes, kind="stable")
    present, starts = np.unique(codes[order], return_index=True)
    sums = np.zeros((*counts.shape[:-1], n_codes), dtype=np.int64)
    sums[..., present] = np.add.reduceat(counts[..., order], starts, axis=-1)
    return sums


def _accuracy(table: Outcomes, counts: Ints) -> Float64s:
    return _share(counts, table.label == table.prediction, table.accepted)


def _error(table: Outcomes, counts: Ints) -> Float64s:
    return _share(counts, table.label != table.prediction, table.accepted)


def _balanced_accuracy(table: Outcomes, counts: Ints) -> Float64s:
    taken = counts * table.accepted
    support = _by_code(taken, table.label, table.n_codes)
    right = _by_code(taken * (table.label == table.prediction), table.label, table.n_codes)
    recall = np.where(support > 0, right / np.maximum(support, 1), 0.0)
    return _ratio(recall.sum(axis=-1), (support > 0).sum(axis=-1))


def _mcc(table: Outcomes, counts: Ints) -> Float64s:
    taken = counts * table.accepted
    truth = _by_code(taken, table.label, table.n_codes).astype(np.float64)
    guess = _by_code(taken, table.prediction, table.n_codes).astype(np.float64)
    n = truth.sum(axis=-1)
    right = (taken * (table.label == table.prediction)).sum(axis=-1)
    covariance = right * n - (truth * guess).sum(axis=-1)
    spread = (n**2 - (truth**2).sum(axis=-1)) * (n**2 - (guess**2).sum(axis=-1))
    value = np.where(spread > 0, covariance / np.sqrt(np.maximum(spread, 1)), 0.0)
    return np.asarray(np.where(n > 0, value, np.nan))


def _fnr(table: Outcomes, counts: Ints) -> Float64s:
    missed = table.prediction != table.positive
    return _share(counts, missed, (table.label == table.positive) & table.accepted)


def _fpr(table: Outcomes, counts: Ints) -> Float64s:
    alarm = table.prediction == table.positive
    return _share(counts, alarm, (table.label != table.positive) & table.accepted)


def _miss_rate(table: Outcomes, counts: Ints) -> Float64s:
    missed = table.accepted & (table.prediction != table.positive)
    return _share(counts, missed, table.label == table.positive)


def _coverage(table: Outcomes, counts: Ints) -> Float64s:
    return _share(counts, table.accepted, np.ones_like(table.accepted))


LABEL_METRICS: Mapping[str, Callable[[Outcomes, Ints], Float64s]] = MappingProxyType({
    "accuracy": _accuracy,
    "balanced_accuracy": _balanced_accuracy,
    "coverage": _coverage,
    "error": _error,
    "fnr": _fnr,
    "fpr": _fpr,
    "mcc": _mcc,
    "miss_rate": _miss_rate,
})


def accuracy(labels: ArrayLike, predictions: ArrayLike, accepted: ArrayLike | None = None) -> float:
    """Return the fraction of right predictions.

    Args:
        labels: Shape (N,), integers.
        predictions: Shape (N,), integers.
        accepted: Shape (N,), booleans; only these samples count. None: all.

    Returns:
        The accuracy, NaN when nothing is accepted.

    Raises:
        DataError: If an array is malformed.
    """
    return _value("accuracy", labels, predictions, accepted)


def balanced_accuracy(
    labels: ArrayLike, predictions: ArrayLike, accepted: ArrayLike | None = None
) -> float:
    """Return the mean recall over the classes that occur among the labels.

    Args:
        labels: Shape (N,), integers.
        predictions: Shape (N,), integers.
        accepted: Shape (N,), booleans; only these samples count. None: all.

    Returns:
        The balanced accuracy, NaN when nothing is accepted.

    Raises:
        DataError: If an array is malformed.
    """
    return _value("balanced_accuracy", labels, predictions, accepted)


def mcc(labels: ArrayLike, predictions: ArrayLike, accepted: ArrayLike | None = None) -> float:
    """Return the Matthews correlation coefficient for any number of classes.

    Source: Gorodkin (2004), "Comparing two K-category assignments by a K-category correlation
    coefficient".

    Args:
        labels: Shape (N,), integers.
        predictions: Shape (N,), integers.
        accepted: Shape (N,), booleans; only these samples count. None: all.

    Returns:
        The coefficient in [-1, 1]; 0 when all labels or all predictions are one class, NaN when
        nothing is accepted.

    Raises:
        DataError: If an array is malformed.
    """
    return _value("mcc", labels, predictions, accepted)


def fnr(
    labels: ArrayLike,
    predictions: ArrayLike,
    accepted: ArrayLike | None = None,
    positive: int = 1,
) -> float:
    """Return P(missed | positive, accepted): the misses among automatically decided positives.

    Args:
        labels: Shape (N,), integers.
        predictions: Shape (N,), integers.
        accepted: Shape (N,), booleans. None: all.
        positive: Label of the positive class; every other label is a negative.

    Returns:
        The rate, NaN when no positive is accepted.

    Raises:
        DataError: If an array is malformed.

    Examples:
        >>> fnr([1, 1, 1, 0], [1, 0, 0, 0], accepted=[True, True, False, True])
        0.5
    """
    return _value("fnr", labels, predictions, accepted, positive)


def miss_rate(
    labels: ArrayLike,
    predictions: ArrayLike,
    accepted: ArrayLike | None = None,
    positive: int = 1,
) -> float:
    """Return P(accepted and missed | positive): the positives that slipped through.

    Args:
        labels: Shape (N,), integers.
        predictions: Shape (N,), integers.
        accepted: Shape (N,), booleans. None: all; then it equals `fnr`.
        positive: Label of the positive class.

    Returns:
        The rate, NaN when there is no positive.

    Raises:
        DataError: If an array is malformed.

    Examples:
        >>> round(miss_rate([1, 1, 1, 0], [1, 0, 0, 0], accepted=[True, True, False, True]), 4)
        0.3333
    """
    return _value("miss_rate", labels, predictions, accepted, positive)


def fpr(
    labels: ArrayLike,
    predictions: ArrayLike,
    accepted: ArrayLike | None = None,
    positive: int = 1,
) -> float:
    """Return P(predicted positive | negative, accepted): the false alarms among the negatives.

    Args:
        labels: Shape (N,), integers.
        predictions: Shape (N,), integers.
        accepted: Shape (N,), booleans. None: all.
        positive: Label of the positive class; every other label is a negative.

    Returns:
        The rate, NaN when no negative is accepted.

    Raises:
        DataError: If an array is malformed.
    """
    return _value("fpr", labels, predictions, accepted, positive)


def auroc(score: ArrayLike, positive: ArrayLike) -> float:
    """Return P(score of a positive > score of a negative) + P(equal) / 2.

    Args:
        score: Shape (N,), higher = more likely positive.
        positive: Shape (N,), booleans or 0 and 1.

    Returns:
        The area under the ROC curve, NaN when one class is missing.

    Raises:
        DataError: If an array is malformed.
    """
    s, y = finite_vector(score, "score"), finite_vector(positive, "positive")
    if s.shape != y.shape or not ((y == 0) | (y == 1)).all():
        raise DataError(
            f"positive must be 0 or 1 with the shape of score {s.shape}, got {y.shape}."
        )
    ordered, ours = np.sort(s), s[y == 1]
    n1, n0 = len(ours), len(s) - len(ours)
    if not n1 * n0:
        return float("nan")
    ours.sort()
    twice_rank = np.searchsorted(ordered, ours, "left") + np.searchsorted(ordered, ours, "right")
    return float((twice_rank.sum() - n1 * n1) / (2 * n1 * n0))


def _value(
    name: str,
    labels: ArrayLike,
    predictions: ArrayLike,
    accepted: ArrayLike | None,
    positive: int = 1,
) -> float:
    table = Outcomes.of(labels, predictions, accepted, positive)
    return float(LABEL_METRICS[name](table, table.counts(None)))
