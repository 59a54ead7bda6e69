"""Rates of decided labels with intervals, and losses from a table of costs."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from selectkit.arrays import ArrayLike, class_labels, finite_matrix, regular_array
from selectkit.errors import DataError
from selectkit.metrics.bootstrap import (
    Interval,
    bootstrap_statistics,
    percentile_interval,
    require_names,
)
from selectkit.metrics.labels import LABEL_METRICS
from selectkit.metrics.outcomes import Outcomes
from selectkit.metrics.statistics import label_statistics

Float64s = npt.NDArray[np.float64]

_CELLS = 1 << 20  # counts held at a time


def label_intervals(
    metrics: Sequence[str],
    labels: ArrayLike,
    predictions: ArrayLike,
    accepted: ArrayLike | None = None,
    positive: int = 1,
    *,
    groups: ArrayLike | None = None,
    n_replicates: int = 1000,
    rng: np.random.Generator,
    level: float = 0.95,
) -> dict[str, Interval]:
    """Return metrics of decided labels with percentile bootstrap intervals.

    Without groups samples of the same outcome are interchangeable, so the counts of the outcomes
    are drawn themselves, and the time does not depend on N.

    Args:
        metrics: Names as in `label_statistics`.
        labels: Shape (N,), integers.
        predictions: Shape (N,), integers.
        accepted: Shape (N,), booleans, or None for all.
        positive: Label of the positive class.
        groups: Shape (N,), resampled as wholes, or None.
        n_replicates: Number of resamples, >= 1.
        rng: Source of randomness.
        level: Nominal coverage, in (0, 1).

    Returns:
        An interval per name.

    Raises:
        DataError: If an array is malformed, or a name or a setting makes no sense.
    """
    if groups is not None:
        return bootstrap_statistics(
            label_statistics(metrics, labels, predictions, accepted, positive),
            n=np.size(labels),
            n_replicates=n_replicates,
            groups=groups,
            rng=rng,
            level=level,
        )
    require_names(metrics, list(LABEL_METRICS))
    if n_replicates < 1 or not 0 < level < 1:
        raise DataError(
            f"n_replicates must be at least 1 and level in (0, 1), got {n_replicates} and {level}."
        )
    table = Outcomes.of(labels, predictions, accepted, positive)
    counts = table.counts(None)
    values = {name: float(LABEL_METRICS[name](table, counts)) for name in metrics}
    n, rows = int(counts.sum()), max(1, _CELLS // len(counts))
    draws: dict[str, list[Float64s]] = {name: [] for name in metrics}
    for first in range(0, n_replicates, rows):
        drawn = rng.multinomial(n, counts / n, size=min(rows, n_replicates - first))
        for name in metrics:
            draws[name].append(LABEL_METRICS[name](table, drawn))
    return {k: percentile_interval(v, np.concatenate(draws[k]), level) for k, v in values.items()}


def cost_losses(labels: ArrayLike, predictions: ArrayLike, costs: ArrayLike) -> Float64s:
    """Return what each prediction costs: a loss for every metric that takes real losses.

    Args:
        labels: Shape (N,), integers in [0, K).
        predictions: Shape (N,), integers in [0, K).
        costs: Shape (K, K), `costs[label, prediction]`, finite.

    Returns:
        Shape (N,), float64.

    Raises:
        DataError: If an array is malformed.

    Examples:
        >>> cost_losses([0, 1, 1], [0, 0, 1], [[0, 1], [10, 0]])
        array([ 0., 10.,  0.])
    """
    table = finite_matrix(costs, "costs")
    if table.shape[0] != table.shape[1]:
        raise DataError(f"costs must have shape (K, K), got {table.shape}.")
    n, k = regular_array(labels, "labels").size, len(table)
    return np.asarray(table[class_labels(labels, n, k), class_labels(predictions, n, k)])
