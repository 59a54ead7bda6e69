"""The calibration error that perfectly calibrated probabilities would show.

In a bin with sum of confidences mu the number of right predictions S is a sum of independent coins,
and the bin adds E|S - mu| / N to the expected ECE. Small variances are summed over the exact
distribution of S, got from its characteristic function; larger ones by the Edgeworth expansion
with the lattice correction, whose error is below 1e-4 of the value there.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from selectkit.arrays import ArrayLike, labelled_probabilities, shared_chances
from selectkit.errors import DataError
from selectkit.metrics.bins import Bins, Scheme

Float64s = npt.NDArray[np.float64]

_EXACT_BELOW = 9.0  # variance


def ece_null_level(confidence: ArrayLike, n_bins: int = 15, scheme: Scheme = "width") -> float:
    """Return the expected ECE of perfectly calibrated predictions with these confidences.

    Args:
        confidence: Shape (N,), top-label probabilities in [0, 1].
        n_bins: Bins of the ECE it is compared with.
        scheme: "width" or "mass", see `reliability_bins`.

    Returns:
        The mean of the ECE if each prediction were right with probability equal to its
        confidence; an ECE of this size is no evidence of miscalibration.

    Raises:
        DataError: If a confidence is outside [0, 1] or a setting makes no sense.

    Examples:
        >>> round(ece_null_level(np.full(100, 0.5)), 4)  # E|Bin(100, 1/2) - 50| / 100
        0.0398
    """
    c = np.minimum(shared_chances(confidence, "confidence"), 1.0)
    index = Bins.of(c, n_bins, scheme).index(c)
    return float(sum(_mean_deviation(c[index == b]) for b in np.unique(index)) / len(c))


@dataclass(frozen=True, slots=True)
class NullLevel:
    """What a calibration metric shows when the probabilities are perfect.

    Attributes:
        mean: Its mean.
        high: Its 95 % quantile: what lies below is no evidence of miscalibration at that level.
        p_value: Fraction of perfect replicates, plus one in both counts, at least as large as the
            metric on the labels given.
    """

    mean: float
    high: float
    p_value: float


def calibration_null(
    metric: Callable[[ArrayLike, ArrayLike], float],
    probabilities: ArrayLike,
    labels: ArrayLike,
    *,
    n_draws: int = 200,
    rng: np.random.Generator,
) -> NullLevel:
    """Return the null level of any calibration metric, by drawing labels from the probabilities.

    Source: Broecker and Smith (2007), "Increasing the reliability of reliability diagrams"
    (consistency resampling).

    Args:
        metric: `ece`, `mce`, `smooth_ece`, `adaptive_ece` or any function like them.
        probabilities: Shape (N, K), rows sum to one.
        labels: Shape (N,), integers in [0, K): the real ones, for the p-value.
        n_draws: Replicates.
        rng: Source of randomness.

    Returns:
        Mean, 95 % quantile and p-value.

    Raises:
        DataError: If an array is malformed or n_draws < 1.
    """
    p, y = labelled_probabilities(probabilities, labels)
    if n_draws < 1:
        raise DataError(f"n_draws must be at least 1, got {n_draws}.")
    upper = np.cumsum(p, axis=1)
    draws = np.array([metric(p, _drawn(upper, rng)) for _ in range(n_draws)])
    exceed = np.count_nonzero(draws >= metric(p, y))
    return NullLevel(
        float(draws.mean()), float(np.quantile(draws, 0.95)), (exceed + 1) / (n_draws + 1)
    )


def _drawn(upper: Float64s, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """A label per row, with the chances whose cumulative sums are given."""
    place = rng.random((len(upper), 1)) * upper[:, -1:]
    return np.asarray((upper[:, :-1] <= place).sum(axis=1))


def _mean_deviation(c: Float64s) -> float:
    """E|S - E S| for S a sum of independent coins with these probabilities."""
    variance = float((c * (1 - c)).sum())
    if variance < _EXACT_BELOW:
        return _exact(c, variance)
    third = float((c * (1 - c) * (1 - 2 * c)).sum())
    fourth = float((c * (1 - c) * (1 - 6 * c * (1 - c))).sum())
    shape = 1 - fourth / (24 * variance**2) + third**2 / (24 * variance**3)
    place = c.sum() % 1.0
    lattice = (place**2 - place + 1 / 6) / np.sqrt(2 * np.pi * variance)
    return float(np.sqrt(2 * variance / np.pi) * shape - lattice)


def _exact(c: Float64s, variance: float) -> float:
    """Invert the characteristic function on a window that holds all but 1e-15 of S."""
    mean = float(c.sum())
    width = int(24 * np.sqrt(variance)) + 48
    low = int(np.floor(mean)) - width // 2
    values, counts = np.unique(c, return_counts=True)
    wave = np.exp(2j * np.pi * np.arange(width) / width)
    transform = np.ones(width, dtype=np.complex128)
    for part in np.array_split(np.arange(len(values)), len(values) // 16_384 + 1):
        factors = 1 + values[part, None] * (wave - 1)
        transform *= np.prod(factors ** counts[part, None], axis=0)
    points = low + np.arange(width)
    mass = np.fft.fft(transform * wave ** (-low)).real / width
    return float((np.abs(points - mean) * mass).sum())
