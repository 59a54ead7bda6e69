"""Errors of calibration, each with what perfect probabilities would show beside it."""

from collections.abc import Callable

import numpy as np

from selectkit import metrics
from selectkit.arrays import ArrayLike, Floats, Ints
from selectkit.metrics import Interval

ENTRIES = 2_000_000
"""Probabilities, N x K, up to which null levels that have no formula are simulated."""

_SIMULATED: dict[str, Callable[[ArrayLike, ArrayLike], float]] = {
    "classwise_ece": metrics.classwise_ece,
    "mce": metrics.mce,
    "smooth_ece": metrics.smooth_ece,
}


def alone(value: float) -> Interval:
    """Return a value without an interval."""
    return Interval(value, np.nan, np.nan)


def calibration_errors(
    probabilities: Floats, labels: Ints, rng: np.random.Generator
) -> dict[str, Interval]:
    """Return every error of calibration that is not bootstrapped.

    Resampling adds the noise that these errors measure, so their percentile intervals lie too
    high; the null level says what is noise. Null levels without a formula are means over 20 sets
    of labels drawn from the probabilities, and left out above two million probabilities.

    Args:
        probabilities: Shape (N, K).
        labels: Shape (N,), codes.
        rng: Draws labels.

    Returns:
        Values by name; "<name>_null_level" follows its error.
    """
    p, y = probabilities, labels
    found = {
        "ece_mass": metrics.ece(p, y, scheme="mass"),
        "ece_mass_null_level": metrics.ece_null_level(p.max(axis=1), scheme="mass"),
        "debiased_squared_ece": metrics.debiased_squared_ece(p, y),
    }
    for name, metric in _SIMULATED.items():
        found[name] = metric(p, y)
        if p.size <= ENTRIES:
            null = metrics.calibration_null(metric, p, y, n_draws=20, rng=rng)
            found[f"{name}_null_level"] = null.mean
    parts = metrics.brier_parts(p, y, n_bins=15)
    found["brier_reliability"] = parts.reliability
    found["brier_resolution"] = parts.resolution
    found["brier_uncertainty"] = parts.uncertainty
    found["brier_within"] = parts.within
    return {name: alone(value) for name, value in found.items()}
