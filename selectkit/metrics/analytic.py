"""Intervals without resampling: from the influence of each sample on the metric.

AUGRC and the AUROC of failures are averages over pairs of samples, so their sampling error follows
from one number per sample, the mean over its pairs. For the AUROC that is the method of DeLong; for
AUGRC it is its twin. One sort, no replicates: a millionth of a second per sample. Where groups are
given, influences are summed over groups first (Obuchowski).

Sources: DeLong, DeLong and Clarke-Pearson (1988), "Comparing the areas under two or more
correlated receiver operating characteristic curves"; Obuchowski (1997), "Nonparametric analysis of
clustered ROC curve data"; Hoeffding (1948), "A class of statistics with asymptotically normal
distribution".
"""

from collections.abc import Sequence
from math import exp, log, nan, sqrt

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri

from selectkit.arrays import ArrayLike, Ints
from selectkit.errors import DataError
from selectkit.metrics.bootstrap import Interval, require_names
from selectkit.metrics.comparison import PairedComparison
from selectkit.metrics.ranked import Losses, Ranked, checked, require_errors
from selectkit.metrics.resample import Units

Float64s = npt.NDArray[np.float64]

_METRICS = ("augrc", "auroc_failure", "e_augrc", "error")


def delong(
    metrics: Sequence[str],
    confidence: ArrayLike,
    loss: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    level: float = 0.95,
) -> dict[str, Interval]:
    """Return selective metrics with intervals from their asymptotic variance.

    Args:
        metrics: Names out of "augrc", "e_augrc", "auroc_failure" and "error".
        confidence: Shape (N,), higher = accept first.
        loss: Shape (N,), 0 or 1; "augrc" and "error" also of any real loss.
        groups: Shape (N,): whole groups are the independent units, instead of single samples.
        level: Nominal coverage.

    Returns:
        An interval per name: symmetric on the logit scale for the AUROC, on the log scale for the
        other metrics of 0/1 losses, which keeps it in range; symmetric for real losses. Bounds are
        NaN where the sample shows no variation, and no interval of this kind exists.

    Raises:
        DataError: If an array is malformed, or a name or a setting makes no sense.

    Examples:
        >>> s, wrong = np.linspace(1, 0, 200), np.arange(200) % 9 == 8
        >>> found = delong(["auroc_failure"], s, wrong)["auroc_failure"]
        >>> 0 < found.low < found.value < found.high < 1
        True
    """
    s, ell = checked(confidence, loss)
    z = _quantile(level)
    units = Units.of(len(s), groups)
    result = {}
    for name in metrics:
        value, influence = _influence(name, s, ell)
        scale = "none" if ell.dtype != np.bool_ else "logit" if name == "auroc_failure" else "log"
        result[name] = _interval(value, _deviation(influence, units), z, scale)
    return result


def compare_delong(
    metric: str,
    confidence_a: ArrayLike,
    loss_a: ArrayLike,
    confidence_b: ArrayLike,
    loss_b: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    level: float = 0.95,
) -> PairedComparison:
    """Compare two selective classifiers on the same samples without resampling.

    Args:
        metric: One name as in `delong`.
        confidence_a: Shape (N,), of classifier A.
        loss_a: Shape (N,), of classifier A.
        confidence_b: Shape (N,), of classifier B, rows in the same order.
        loss_b: Shape (N,), of classifier B.
        groups: Shape (N,): whole groups are the independent units.
        level: Nominal coverage of the interval.

    Returns:
        Both values, the difference with its interval, and the p-value of DeLong's test.

    Raises:
        DataError: If an array is malformed, the lengths differ, or a setting makes no sense.
    """
    a, b = checked(confidence_a, loss_a), checked(confidence_b, loss_b)
    if len(a[0]) != len(b[0]):
        raise DataError(f"A has {len(a[0])} samples and B {len(b[0])}; pairs need the same.")
    (value_a, of_a), (value_b, of_b) = _influence(metric, *a), _influence(metric, *b)
    deviation = _deviation(of_a - of_b, Units.of(len(of_a), groups))
    interval = _interval(value_a - value_b, deviation, _quantile(level), "none")
    p = nan
    if deviation > 0:
        p = 2 * float(ndtr(-abs(interval.value) / deviation))
    elif interval.value == 0:
        interval, p = Interval(0.0, 0.0, 0.0), 1.0
    return PairedComparison(metric, value_a, value_b, interval, p)


def _quantile(level: float) -> float:
    if not 0 < level < 1:
        raise DataError(f"level must be strictly between 0 and 1, got {level}.")
    return float(ndtri((1 + level) / 2))


def _influence(name: str, s: Float64s, ell: Losses) -> tuple[float, Float64s]:
    """The metric, and N times what each row moves it by, shape (N,)."""
    require_names([name], list(_METRICS))
    error = float(ell.mean())
    if name == "error":
        return error, np.asarray(ell - error)
    below, lost_above, order = _pairs(s, ell)
    sorted_ell = np.asarray((ell if order is None else ell[order]), dtype=np.float64)
    if name == "auroc_failure":
        require_errors(ell, name)
        value, influence = _auroc(sorted_ell.astype(np.bool_), below, lost_above)
    else:
        value = float((sorted_ell * below).mean())
        influence = sorted_ell * below + lost_above - 2 * value
        if name == "e_augrc":
            require_errors(ell, name)
            value, influence = value - error**2 / 2, influence - error * (sorted_ell - error)
    if order is None:
        return value, influence
    unsorted = np.empty_like(influence)
    unsorted[order] = influence
    return value, unsorted


def _pairs(s: Float64s, ell: Losses) -> tuple[Float64s, Float64s, Ints | None]:
    """By rank: the fraction of samples below, and the mean loss above, with ties half."""
    ranked = Ranked.of(s, ell)
    steps = ranked.steps()
    size, loss = np.diff(steps.accepted, prepend=0), np.diff(steps.lost, prepend=0)
    below = (steps.total - steps.accepted + size / 2) / steps.total
    lost_above = (steps.lost - loss / 2) / steps.total
    if ranked.starts is not None:
        counts = size.astype(np.int64)
        below, lost_above = np.repeat(below, counts), np.repeat(lost_above, counts)
    return below, lost_above, ranked.order


def _auroc(
    wrong: npt.NDArray[np.bool_], below: Float64s, above: Float64s
) -> tuple[float, Float64s]:
    """DeLong's placements: of each error among the correct, of each correct among the errors."""
    n, n1 = len(wrong), int(np.count_nonzero(wrong))
    n0 = n - n1
    if not n0 * n1:
        return nan, np.full(n, nan)
    errors_at_or_above = above * n  # ties half; an error counts itself half
    correct_above = (1 - below) * n - errors_at_or_above
    placement = np.where(wrong, correct_above / n0, 1 - errors_at_or_above / n1)
    value = float(placement[wrong].mean())
    with np.errstate(divide="ignore"):
        scale = n / np.where(wrong, sqrt(n1) * np.sqrt(n1 - 1.0), sqrt(n0) * np.sqrt(n0 - 1.0))
    gap = placement - value
    return value, np.multiply(gap, scale, out=np.full(n, nan), where=np.isfinite(scale))


def _deviation(influence: Float64s, units: Units) -> float:
    """Standard deviation of the metric, NaN for a single unit."""
    if units.member is None:
        return float(np.sqrt((influence**2).sum()) / len(influence))
    sums = np.bincount(units.member, influence)
    if len(sums) < 2:
        return nan
    return float(np.sqrt((sums**2).sum() * len(sums) / (len(sums) - 1)) / len(influence))


def _interval(value: float, deviation: float, z: float, scale: str) -> Interval:
    if not deviation > 0 or (value <= 0 and scale != "none"):
        return Interval(value, nan, nan)
    if scale == "none":
        return Interval(value, value - z * deviation, value + z * deviation)
    if scale == "log":
        factor = exp(z * deviation / value)
        return Interval(value, value / factor, value * factor)
    if value >= 1:
        return Interval(value, nan, nan)
    center, half = log(value / (1 - value)), z * deviation / (value * (1 - value))
    low, high = (1 / (1 + exp(-(center + side * half))) for side in (-1, 1))
    return Interval(value, low, high)
