"""Metrics of probabilities as functions of resampling counts."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from selectkit.arrays import ArrayLike, Bools, Ints, regular_array
from selectkit.errors import DataError
from selectkit.metrics.bins import Bins, mass_edges
from selectkit.metrics.bootstrap import Statistics, require_names
from selectkit.metrics.labelled import Labelled, top_label
from selectkit.metrics.resample import require_weights
from selectkit.metrics.scoring import brier_losses, log_losses

Float64s = npt.NDArray[np.float64]


def probability_statistics(
    metrics: Sequence[str],
    probabilities: ArrayLike,
    labels: ArrayLike,
    n_bins: int = 15,
    accepted: ArrayLike | None = None,
) -> Statistics:
    """Return metrics of probabilities as statistics for `bootstrap_statistics`.

    Args:
        metrics: Names out of "nll", "brier", "ece" (bins of equal width), "ece_mass" (bins of
            equal mass, made anew for each resample) and "confidence" (the mean of the top label).
        probabilities: Shape (N, K), rows sum to one.
        labels: Shape (N,), integers in [0, K).
        n_bins: Bins of the ECE.
        accepted: Shape (N,), booleans: only these samples count. None: all.

    Returns:
        From weights (B, N) to values (B,) by name; NaN where nothing accepted was drawn.

    Raises:
        DataError: If an array is malformed or a name is unknown.
    """
    require_names(metrics, ["nll", "brier", "ece", "ece_mass", "confidence"])
    data = Labelled.of(probabilities, labels)
    n = len(data)
    rows = _rows(accepted, n)
    confidence, right = (_taken(each, rows) for each in top_label(data))
    makers = {
        "nll": lambda: _mean(_taken(log_losses(data), rows)),
        "brier": lambda: _mean(_taken(brier_losses(data), rows)),
        "confidence": lambda: _mean(confidence),
        "ece": lambda: _ece_width(confidence, right, n_bins),
        "ece_mass": lambda: _ece_mass(confidence, right, n_bins),
    }
    chosen = {name: makers[name]() for name in metrics}

    def evaluate(weights: Ints) -> dict[str, Float64s]:
        require_weights(weights, n)
        counts = weights if rows is None else weights[:, rows]
        w = counts.astype(np.float64)
        total = w.sum(axis=1)
        share = np.divide(1.0, total, out=np.full_like(total, np.nan), where=total > 0)
        return {name: sums(w) * share for name, sums in chosen.items()}

    return evaluate


Sums = Callable[[Float64s], Float64s]


def _mean(losses: Float64s) -> Sums:
    return lambda w: np.asarray(w @ losses)


def _ece_width(confidence: Float64s, right: Bools, n_bins: int) -> Sums:
    if len(confidence) == 0:
        return lambda w: np.zeros(len(w))
    index = Bins.of_width(n_bins).index(confidence).astype(np.min_scalar_type(n_bins))
    order = None if _monotone(index) else np.argsort(index, kind="stable")
    gap = confidence - right
    if order is not None:
        index, gap = index[order], gap[order]
    starts = np.flatnonzero(np.append(True, index[1:] != index[:-1]))

    def sums(w: Float64s) -> Float64s:
        gaps = w * gap if order is None else np.take(w, order, axis=1)
        if order is not None:
            gaps *= gap
        return np.asarray(np.abs(np.add.reduceat(gaps, starts, axis=1)).sum(axis=1))

    return sums


def _ece_mass(confidence: Float64s, right: Bools, n_bins: int) -> Sums:
    if len(confidence) == 0:
        return lambda w: np.zeros(len(w))
    order = np.argsort(confidence)
    ordered = confidence[order]
    gap = ordered - right[order]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))

    def sums(w: Float64s) -> Float64s:
        w = np.take(w, order, axis=1)
        size = np.add.reduceat(w, starts, axis=1)
        gaps = np.cumsum(np.add.reduceat(w * gap, starts, axis=1), axis=1)
        before = np.cumsum(size, axis=1) - size
        return np.array([
            _gap_of_masses(first, each, int(first[-1] + last), n_bins)
            for first, each, last in zip(before, gaps, size[:, -1], strict=True)
        ])

    return sums


def _gap_of_masses(before: Float64s, gaps: Float64s, total: int, n_bins: int) -> float:
    """Summed absolute gaps of bins; one ends where `before`, ranks of values, reaches its edge."""
    end = np.searchsorted(before, mass_edges(total, n_bins), side="left")
    end[-1] = len(before)
    at_edges = np.append(0.0, gaps)[end]
    return float(np.abs(np.diff(at_edges, prepend=0.0)).sum())


def _monotone(index: Ints) -> bool:
    """Whether equal bins lie side by side already: rows sorted by confidence, either way."""
    return bool((index[1:] >= index[:-1]).all() or (index[1:] <= index[:-1]).all())


def _taken(each: npt.NDArray[Any], rows: Ints | None) -> npt.NDArray[Any]:
    return each if rows is None else each[rows]


def _rows(accepted: ArrayLike | None, n: int) -> Ints | None:
    if accepted is None:
        return None
    taken = regular_array(accepted, "accepted")
    if taken.dtype != np.bool_ or taken.shape != (n,):
        raise DataError(
            f"accepted must be booleans of shape ({n},), got {taken.dtype} of {taken.shape}."
        )
    return np.flatnonzero(taken)
