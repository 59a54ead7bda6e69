"""One curve per class against the rest: what isotonic calibration and histograms share."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np

from selectkit.calibrate.door import Float64s, Ints64
from selectkit.calibrate.parameters import numbers, require_columns
from selectkit.errors import CalibrationError

Curve: TypeAlias = tuple[tuple[float, ...], tuple[float, ...]]
"""Places on the axis of log-odds, and probabilities."""


def require_rows(n: int, fewest: int, what: str) -> None:
    """Refuse too few rows.

    Args:
        n: How many there are.
        fewest: How many are needed.
        what: What needs them.

    Raises:
        CalibrationError: If there are fewer.
    """
    if n < fewest:
        raise CalibrationError(
            f"{what} needs {fewest} samples or more, got {n}. Add samples, or use 'temperature' "
            "or 'platt', which have one or two parameters."
        )


def versus_rest(odds: Float64s, y: Ints64) -> Iterator[tuple[Float64s, Float64s]]:
    """Yield log-odds and hits of every class; for two classes, of class 1 only."""
    k = odds.shape[1]
    for c in range(k) if k > 2 else [1]:
        yield odds[:, c], (y == c).astype(np.float64)


def rest_or_rows(
    curves: tuple[Curve, ...],
    odds: Float64s,
    value: Callable[[Float64s, Float64s, Float64s], Float64s],
) -> Float64s:
    """Return probabilities (N, K): a curve and its complement, or K curves divided by their sum.

    Args:
        curves: One, or one per class.
        odds: Log-odds, shape (N, K).
        value: Value of one curve at log-odds (N,), given places and probabilities.

    Returns:
        Rows that sum to one.

    Raises:
        DataError: If the number of classes is another one.
    """
    require_columns(odds, max(2, len(curves)))
    if len(curves) == 1:
        p = value(odds[:, 1], *map(np.array, curves[0]))
        return np.stack([1 - p, p], axis=1)
    p = np.stack([value(u, *map(np.array, c)) for u, c in zip(odds.T, curves, strict=True)], axis=1)
    return np.asarray(p / p.sum(axis=1, keepdims=True))


def curves_to_lists(curves: tuple[Curve, ...]) -> dict[str, Any]:
    """Return curves as JSON values."""
    return {
        "knots": [list(knots) for knots, _ in curves],
        "values": [list(values) for _, values in curves],
    }


def curves_from(parameters: Mapping[str, Any], extra: int) -> tuple[Curve, ...]:
    """Read what `curves_to_lists` wrote.

    Args:
        parameters: `knots` and `values`.
        extra: How many more values than knots a curve has.

    Returns:
        The curves.

    Raises:
        ValueError: If they are no curves of probabilities inside (0, 1).
        KeyError: If one is missing.
    """
    all_knots, all_values = parameters["knots"], parameters["values"]
    if not all_knots or len(all_knots) != len(all_values) or len(all_knots) == 2:
        raise ValueError("there must be one curve, or one per class")
    curves = []
    for given, shares in zip(all_knots, all_values, strict=True):
        values = numbers(shares, "values")
        knots = numbers(given, "knots", len(values) - extra) if len(values) > extra else ()
        if np.any(np.diff(knots) <= 0) or not (min(values) > 0 and max(values) < 1):
            raise ValueError("knots must ascend and values lie between 0 and 1")
        curves.append((knots, values))
    return tuple(curves)
