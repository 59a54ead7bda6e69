"""Is A better than B? Differences on shared resamples, and many of them at once.

Source of the correction for many comparisons: Holm (1979), "A simple sequentially rejective
multiple test procedure".
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import nan

import numpy as np

from selectkit.arrays import ArrayLike, Ints, real_array, regular_array
from selectkit.errors import DataError
from selectkit.metrics.bootstrap import (
    Float64s,
    Interval,
    Statistics,
    difference_interval,
    replicate,
)
from selectkit.metrics.statistics import curve_statistics


@dataclass(frozen=True, slots=True)
class PairedComparison:
    """Metric of A minus metric of B on the same samples.

    Attributes:
        metric: Name of the metric.
        a: Value of A.
        b: Value of B.
        difference: a - b with its paired interval.
        p_value: Two-sided p-value of "no difference".
        p_holm: The same when it is one of several comparisons; NaN when it stands alone.
    """

    metric: str
    a: float
    b: float
    difference: Interval
    p_value: float
    p_holm: float = nan


def compare_paired(
    metric: str,
    confidence_a: ArrayLike,
    loss_a: ArrayLike,
    confidence_b: ArrayLike,
    loss_b: ArrayLike,
    *,
    n_replicates: int = 1000,
    groups: ArrayLike | None = None,
    strata: ArrayLike | None = None,
    rng: np.random.Generator,
    level: float = 0.95,
) -> PairedComparison:
    """Compare two selective classifiers on the same samples.

    Both are evaluated on the same resamples, so what is common to them cancels.

    Args:
        metric: One name as in `bootstrap`.
        confidence_a: Shape (N,), of classifier A.
        loss_a: Shape (N,), of classifier A.
        confidence_b: Shape (N,), of classifier B, rows in the same order.
        loss_b: Shape (N,), of classifier B.
        n_replicates: Number of resamples, >= 1.
        groups: Shape (N,): resample whole groups instead of single samples.
        strata: Shape (N,): resample each stratum for itself.
        rng: Source of randomness.
        level: Nominal coverage of the interval.

    Returns:
        Both values, the difference A - B with its interval, and a p-value.

    Raises:
        DataError: If an array is malformed, the lengths differ, or a setting makes no sense.
    """
    n, of_b = (regular_array(s, "confidence").size for s in (confidence_a, confidence_b))
    if of_b != n:
        raise DataError(f"A has {n} samples and B {of_b}; pairs need the same.")
    return compare_statistics(
        curve_statistics([metric], confidence_a, loss_a),
        curve_statistics([metric], confidence_b, loss_b),
        n=n,
        n_replicates=n_replicates,
        groups=groups,
        strata=strata,
        rng=rng,
        level=level,
    )[metric]


def compare_statistics(
    a: Statistics,
    b: Statistics,
    *,
    n: int,
    n_replicates: int = 1000,
    groups: ArrayLike | None = None,
    strata: ArrayLike | None = None,
    rng: np.random.Generator,
    level: float = 0.95,
) -> dict[str, PairedComparison]:
    """Compare any statistics of two policies, heads or calibrators on the same samples.

    Args:
        a: Of A, for instance `label_statistics(["error", "coverage"], y, guess_a, accepted_a)`.
        b: Of B; names that only one of them has are left out.
        n: N, the number of samples; row i is the same sample in both.
        n_replicates: Number of resamples, >= 1.
        groups: Shape (N,): resample whole groups instead of single samples.
        strata: Shape (N,): resample each stratum for itself.
        rng: Source of randomness.
        level: Nominal coverage of the intervals.

    Returns:
        A comparison per name.

    Raises:
        DataError: If a setting makes no sense.
    """

    def both(weights: Ints) -> dict[str, Float64s]:
        return {f"a/{k}": v for k, v in a(weights).items()} | {
            f"b/{k}": v for k, v in b(weights).items()
        }

    values, draws = replicate(
        both,
        n=n,
        n_replicates=n_replicates,
        groups=groups,
        strata=strata,
        rng=rng,
        level=level,
    )
    names = [key[2:] for key in values if key.startswith("a/") and f"b/{key[2:]}" in values]
    return {name: _compared(name, f"a/{name}", f"b/{name}", values, draws, level) for name in names}


def compare_many(
    metric: str,
    classifiers: Mapping[str, tuple[ArrayLike, ArrayLike]],
    *,
    reference: str,
    n_replicates: int = 1000,
    groups: ArrayLike | None = None,
    strata: ArrayLike | None = None,
    rng: np.random.Generator,
    level: float = 0.95,
) -> dict[str, PairedComparison]:
    """Compare several selective classifiers with one of them, all on the same resamples.

    Args:
        metric: One name as in `bootstrap`.
        classifiers: Confidence and loss, each of shape (N,), by name; rows in the same order.
        reference: Name of the classifier that the others are compared with.
        n_replicates: Number of resamples, >= 1.
        groups: Shape (N,): resample whole groups instead of single samples.
        strata: Shape (N,): resample each stratum for itself.
        rng: Source of randomness.
        level: Nominal coverage of each interval; intervals are not adjusted.

    Returns:
        For each other classifier its difference from the reference, with `p_holm` adjusted for
        the number of comparisons.

    Raises:
        DataError: If an array is malformed, the lengths differ, the reference is missing, or a
            setting makes no sense.
    """
    if reference not in classifiers:
        raise DataError(f"reference {reference!r} is not among {', '.join(classifiers)}.")
    lengths = {name: regular_array(s, name).size for name, (s, _) in classifiers.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(f"comparisons need the same samples, got lengths {lengths}.")
    each = {name: curve_statistics([metric], s, e) for name, (s, e) in classifiers.items()}
    values, draws = replicate(
        lambda w: {name: statistic(w)[metric] for name, statistic in each.items()},
        n=lengths[reference],
        n_replicates=n_replicates,
        groups=groups,
        strata=strata,
        rng=rng,
        level=level,
    )
    found = {
        name: _compared(metric, name, reference, values, draws, level)
        for name in classifiers
        if name != reference
    }
    adjusted = holm([pair.p_value for pair in found.values()])
    return {
        name: replace(pair, p_holm=p)
        for (name, pair), p in zip(found.items(), adjusted, strict=True)
    }


def holm(p: ArrayLike) -> list[float]:
    """Return p-values for several questions at once: reject those below alpha.

    Args:
        p: Shape (M,), M >= 0: one p-value per question; NaN where there is none.

    Returns:
        The adjusted ones, in the same order.

    Raises:
        DataError: If the shape is wrong or a number is no p-value.

    Examples:
        >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
        [0.03, 0.06, 0.06]
    """
    values = real_array(p, "p-values")
    if values.ndim != 1 or ((values < 0) | (values > 1)).any():
        raise DataError(f"p-values must lie in [0, 1], shape (M,), or be NaN; got {p!r:.60}.")
    adjusted = np.full(len(values), nan)
    order = np.argsort(values, kind="stable")[: np.count_nonzero(~np.isnan(values))]
    times = np.arange(len(order), 0, -1)
    adjusted[order] = np.maximum.accumulate(np.minimum(1.0, times * values[order]))
    return [float(each) for each in adjusted]


def _compared(
    metric: str,
    a: str,
    b: str,
    values: Mapping[str, float],
    draws: Mapping[str, Float64s],
    level: float,
) -> PairedComparison:
    value = float(_gap(np.array(values[a]), np.array(values[b])))
    difference, p = difference_interval(value, _gap(draws[a], draws[b]), level)
    return PairedComparison(metric, values[a], values[b], difference, p)


def _gap(a: Float64s, b: Float64s) -> Float64s:
    """A - b, and 0 where they differ by rounding: of that no p-value is made."""
    gap = np.asarray(a - b)
    return np.where(np.abs(gap) <= 1e-12 * np.maximum(np.abs(a), np.abs(b)), 0.0, gap)
