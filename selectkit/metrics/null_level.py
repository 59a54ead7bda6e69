"""The calibration error that perfectly calibrated probabilities would show.

In a bin with sum of confidences mu the number of right predictions S is a sum of independent coins,
and the bin adds E|S - mu| / N to the expected ECE. Small variances are summed over the exact
distribution of S, got from its characteristic function; larger ones by the Edgeworth expansion
with the lattice correction, whose error is below 1e-4 of the value there.
"""

import numpy as np
import numpy.typing as npt

from selectkit.arrays import ArrayLike, finite_vector
from selectkit.errors import DataError
from selectkit.metrics.calibration import Scheme, bin_index

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
    c = finite_vector(confidence, "confidence")
    if c.min() < 0 or c.max() > 1 + 1e-6:
        raise DataError(f"confidence must lie in [0, 1], got {c.min():.6g} to {c.max():.6g}.")
    c = np.minimum(c, 1.0)
    index = bin_index(c, n_bins, scheme)
    return float(sum(_mean_deviation(c[index == b]) for b in np.unique(index)) / len(c))


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
