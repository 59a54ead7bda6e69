"""Means over some rows of a split, with intervals that few events do not make too narrow."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from selectkit import metrics
from selectkit.arrays import Bools, Floats, Ints
from selectkit.metrics import Interval
from selectkit.metrics.bootstrap import percentile_interval
from selectkit.pipeline.judged import Judged
from selectkit.pipeline.trust import alone
from selectkit.report.parts import Estimate
from selectkit.stats import clopper_pearson_lower, clopper_pearson_upper

_CELLS = 1 << 20  # counts held at a time
_LARGEST_CODE = 1 << 62


def measure_ratios(
    judged: Judged,
    ratios: Mapping[str, tuple[Bools, npt.NDArray[Any]]],
    *,
    n_replicates: int,
    seed: int,
) -> dict[str, Interval]:
    """Measure means over some of the rows, all on the same resamples.

    Args:
        judged: The test split; its groups are resampled as wholes.
        ratios: By name the rows that count, shape (N,), and what is averaged over them: booleans,
            whose rare events get at least the exact interval, or numbers.
        n_replicates: Bootstrap replicates.
        seed: Seed of the bootstrap.

    Returns:
        Intervals by name; NaN where no row counts.
    """
    names, n = list(ratios), len(judged.labels)
    whole = np.stack([ratios[name][0] for name in names], axis=1).astype(np.float64)
    part = whole * np.stack([ratios[name][1] for name in names], axis=1)
    rng = np.random.default_rng(seed)
    if judged.groups is None:
        found = _interchangeable(names, whole, part, n_replicates, rng)
    else:
        found = metrics.bootstrap_statistics(
            lambda weights: _means(names, weights, whole, part),
            n=n, n_replicates=n_replicates, groups=judged.groups, rng=rng,
        )  # fmt: skip
    for name, (trials, values) in ratios.items():
        if values.dtype == np.bool_:
            found[name] = hull(found[name], *count(judged, trials, values & trials))
        elif found[name].low == found[name].high:
            found[name] = alone(found[name].value)
    return {name: found[name] for name in names}


def _means(
    names: Sequence[str], weights: Ints, whole: Floats, part: Floats
) -> dict[str, npt.NDArray[np.float64]]:
    w = weights.astype(np.float64)
    above, below = w @ part, w @ whole
    means = np.where(below > 0, above / np.where(below > 0, below, 1), np.nan)
    return {name: means[:, i] for i, name in enumerate(names)}


def _interchangeable(
    names: Sequence[str], whole: Floats, part: Floats, n_replicates: int, rng: np.random.Generator
) -> dict[str, Interval]:
    """Draw how often each distinct row occurs: few rows are distinct, however many there are."""
    rows, counts = _distinct(np.concatenate([whole, part], axis=1))
    whole, part = rows[:, : len(names)], rows[:, len(names) :]
    n, step = int(counts.sum()), max(1, _CELLS // len(rows))
    values = _means(names, counts[None, :], whole, part)
    draws: dict[str, list[npt.NDArray[np.float64]]] = {name: [] for name in names}
    for first in range(0, n_replicates, step):
        drawn = rng.multinomial(n, counts / n, size=min(step, n_replicates - first))
        for name, means in _means(names, drawn, whole, part).items():
            draws[name].append(means)
    return {
        name: percentile_interval(float(values[name][0]), np.concatenate(draws[name]), 0.95)
        for name in names
    }


def _distinct(table: Floats) -> tuple[Floats, Ints]:
    """The distinct rows of a table and how often each occurs, by one sort per column."""
    code, span = np.zeros(len(table), dtype=np.int64), 1
    for column in table.T:
        values, own = np.unique(column, return_inverse=True)
        if span * len(values) > _LARGEST_CODE:
            seen, code = np.unique(code, return_inverse=True)
            span = len(seen)
        code, span = code * len(values) + own, span * len(values)
    _, first, counts = np.unique(code, return_index=True, return_counts=True)
    return table[first], counts


def estimate(interval: Interval) -> Estimate:
    """Return an interval as the report takes it."""
    return interval.value, interval.low, interval.high


def hull(interval: Interval, events: int, trials: int) -> Interval:
    """Make the interval of a rate with few events as wide as the exact binomial one at least.

    Args:
        interval: From the bootstrap.
        events: Events, of fewer than ten (or all but fewer than ten) of which there is doubt.
        trials: Among how many.

    Returns:
        The hull of both intervals, or the given one.
    """
    if not trials or 10 <= events <= trials - 10 or np.isnan(interval.value):
        return interval
    low = clopper_pearson_lower(events, trials, 0.025)
    high = clopper_pearson_upper(events, trials, 0.025)
    return Interval(
        interval.value, float(np.fmin(interval.low, low)), float(np.fmax(interval.high, high))
    )


def count(judged: Judged, trials: Bools, events: Bools) -> tuple[int, int]:
    """Return events and trials; of rows in groups, the groups with one."""
    if judged.groups is None:
        return int(events.sum()), int(trials.sum())
    return len(np.unique(judged.groups[events])), len(np.unique(judged.groups[trials]))
