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

from collections.abc import Callable, Sequence
from functools import cache, partial
from math import inf, log, log1p, nan, sqrt

import numpy as np
import numpy.typing as npt
from scipy.special import expit, ndtr, ndtri

from selectkit.arrays import ArrayLike, Bools
from selectkit.errors import DataError
from selectkit.metrics.bins import pieces
from selectkit.metrics.bootstrap import Interval, require_names
from selectkit.metrics.comparison import PairedComparison
from selectkit.metrics.ranked import Losses, checked, require_errors, staircase, step_starts
from selectkit.metrics.resample import Units

Float64s = npt.NDArray[np.float64]
Pairs = Callable[[], tuple[Float64s, Float64s]]

_ROUNDING = 1e-14  # of the largest loss
_CEILING = {"augrc": 0.5, "auroc_failure": 1.0, "e_augrc": 0.25, "error": 1.0}
"""What no 0/1 losses can exceed."""


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
        An interval per name: symmetric on the logit scale for 0/1 losses, between 0 and the most
        that the metric can be, which keeps it in range; symmetric for real losses. Bounds are NaN
        where the sample shows no variation, and no interval of this kind exists.

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
    pairs = cache(partial(_pairs, s, ell))
    result = {}
    for name in metrics:
        value, influence = _influence(name, ell, pairs, units)
        ceiling = _CEILING[name] if ell.dtype == np.bool_ else inf
        result[name] = _interval(value, _deviation(influence, units, _size(ell)), z, ceiling)
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
    units = Units.of(len(a[0]), groups)
    (value_a, of_a), (value_b, of_b) = (
        _influence(metric, each[1], partial(_pairs, *each), units) for each in (a, b)
    )
    size = max(_size(a[1]), _size(b[1]))
    deviation = _deviation(of_a - of_b, units, size)
    interval = _interval(value_a - value_b, deviation, _quantile(level), inf)
    p = nan
    if deviation > 0:
        p = 2 * float(ndtr(-abs(interval.value) / deviation))
    elif deviation == 0 and abs(interval.value) <= _ROUNDING * size:
        interval, p = Interval(0.0, 0.0, 0.0), 1.0
    return PairedComparison(metric, value_a, value_b, interval, p)


def _quantile(level: float) -> float:
    if not 0 < level < 1:
        raise DataError(f"level must be strictly between 0 and 1, got {level}.")
    return float(ndtri((1 + level) / 2))


def _influence(name: str, ell: Losses, pairs: Pairs, units: Units) -> tuple[float, Float64s]:
    """The metric, and N times what each row moves it by, shape (N,).

    It is enlarged by the root of J / (J - 1) for J independent units, as variances are.
    """
    require_names([name], list(_CEILING))
    if name in {"auroc_failure", "e_augrc"}:
        require_errors(ell, name)
    error = float(ell.mean())
    if name == "error":
        return error, np.asarray((ell - error) * _enlarged(units.count))
    below, lost_above = pairs()
    if name == "auroc_failure":
        return _auroc(np.asarray(ell, dtype=np.bool_), below, lost_above, units)
    value = float((ell * below).mean())
    influence = ell * below + lost_above - 2 * value
    if name == "e_augrc":
        value, influence = value - error**2 / 2, influence - error * (ell - error)
    return value, np.asarray(influence * _enlarged(units.count))


def _enlarged(n_units: int) -> float:
    return sqrt(n_units / (n_units - 1)) if n_units > 1 else nan


def _pairs(s: Float64s, ell: Losses) -> tuple[Float64s, Float64s]:
    """By row: the fraction of samples below, and the mean loss above, with ties half."""
    n, order = len(s), np.argsort(-s)
    steps = staircase(ell[order], step_starts(s[order]))
    below, lost_above = np.empty(n), np.empty(n)
    rank, lost = 0, 0.0
    for part in pieces(len(steps.accepted)):
        accepted = np.append(rank, steps.accepted[part])
        losses = np.append(lost, steps.lost[part])
        rank, lost = int(accepted[-1]), float(losses[-1])
        sizes = np.diff(accepted).astype(np.int64)
        rows = order[int(accepted[0]) : rank]
        below[rows] = np.repeat(1 - (accepted[1:] + accepted[:-1]) / (2 * n), sizes)
        lost_above[rows] = np.repeat((losses[1:] + losses[:-1]) / (2 * n), sizes)
    return below, lost_above


def _auroc(wrong: Bools, below: Float64s, above: Float64s, units: Units) -> tuple[float, Float64s]:
    """DeLong's placements: of each error among the correct, of each correct among the errors."""
    n, n1 = len(wrong), int(np.count_nonzero(wrong))
    n0 = n - n1
    if not n0 * n1:
        return nan, np.full(n, nan)
    influence = 1 - above * (n / n1)  # ties half; an error counts itself half
    influence[wrong] = (1 - below[wrong] - above[wrong]) * (n / n0)
    value = float(influence[wrong].mean())
    influence -= value
    for rows, size in ((~wrong, n0), (wrong, n1)):
        influence[rows] *= _enlarged(_occurring(units, rows)) * n / size
    return value, influence


def _occurring(units: Units, rows: Bools) -> int:
    """Number of units that have any of these rows."""
    if units.member is None:
        return int(np.count_nonzero(rows))
    return int(np.count_nonzero(np.bincount(units.member, rows)))


def _size(ell: Losses) -> float:
    """Largest absolute loss."""
    return 1.0 if ell.dtype == np.bool_ else float(max(ell.max(), -ell.min()))


def _deviation(influence: Float64s, units: Units, size: float) -> float:
    """Standard deviation of the metric, 0 if it is mere rounding."""
    each = influence / size
    if units.member is not None:
        each = np.asarray(np.bincount(units.member, each), dtype=np.float64)
    deviation = float(np.sqrt((each**2).sum()) / len(influence))
    return 0.0 if deviation <= _ROUNDING else size * deviation


def _interval(value: float, deviation: float, z: float, ceiling: float) -> Interval:
    share = value / ceiling
    if not deviation > 0 or not (0 < share < 1 or ceiling == inf):
        return Interval(value, nan, nan)
    if ceiling == inf:
        return Interval(value, value - z * deviation, value + z * deviation)
    center, half = log(share) - log1p(-share), z * deviation / (value * (1 - share))
    low, high = (ceiling * float(expit(center + side * half)) for side in (-1, 1))
    return Interval(value, low, high)
