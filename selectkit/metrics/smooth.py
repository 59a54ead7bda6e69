"""Smooth calibration error and reliability curve: no bins, and their own choice of bandwidth.

Source: Blasiok and Nakkiran (2024), "Smooth ECE: principled reliability diagrams via kernel
smoothing", https://arxiv.org/abs/2309.12236. The residuals (confidence - right) are smoothed
with a Gaussian reflected at 0 and 1; smECE_sigma is the integral of their absolute value, and the
smooth ECE is the sigma at which smECE_sigma = sigma. A reflected Gaussian multiplies the k-th
cosine coefficient by exp(-(pi k sigma)^2 / 2), so one cosine transform serves all bandwidths.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from selectkit.arrays import ArrayLike, Bools
from selectkit.errors import DataError
from selectkit.metrics.bins import pieces
from selectkit.metrics.labelled import Labelled, top_label

Float64s = npt.NDArray[np.float64]
Spectrum = npt.NDArray[np.complex128]

_CELLS = 8192
_NOISE = 1e-15  # of transforms, where a weight is nothing else


@dataclass(frozen=True, slots=True)
class SmoothReliability:
    """A reliability diagram without bins; arrays have shape (M,), from low to high confidence.

    Attributes:
        ece: The smooth calibration error, which is also the bandwidth of the curve.
        confidence: Where the curve is evaluated: evenly from the lowest to the highest confidence.
        accuracy: Fraction right around that confidence; NaN in gaps, where no sample is near.
        density: Density of samples there; it integrates to one over [0, 1].
        deviation: Standard deviation of `accuracy` by chance, as of independent samples.
    """

    ece: float
    confidence: Float64s
    accuracy: Float64s
    density: Float64s
    deviation: Float64s


def smooth_ece(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Return the smooth calibration error of the top label.

    Args:
        probabilities: Shape (N, K), rows sum to one.
        labels: Shape (N,), integers in [0, K).

    Returns:
        The fixed point of the bandwidth, to 1e-6. Confidences are rounded to a mesh of 1/8192 by
        sharing them between neighbouring cells, which resolves errors above about 0.0005.

    Raises:
        DataError: If an array is malformed.
    """
    confidence, right = top_label(Labelled.of(probabilities, labels))
    return _fixed_point(_gap_spectrum(confidence, right))


def smooth_reliability(
    probabilities: ArrayLike, labels: ArrayLike, n_points: int = 200
) -> SmoothReliability:
    """Return the smooth calibration error with the reliability curve that it measures.

    The curve is the kernel regression of "right" on confidence with the bandwidth of the error,
    but at least 1/256 so that perfect calibration does not show every sample.

    Args:
        probabilities: Shape (N, K), rows sum to one.
        labels: Shape (N,), integers in [0, K).
        n_points: Points of the curve, >= 1.

    Returns:
        Error and curve.

    Raises:
        DataError: If an array is malformed or n_points < 1.
    """
    if n_points < 1:
        raise DataError(f"n_points must be at least 1, got {n_points}.")
    confidence, right = top_label(Labelled.of(probabilities, labels))
    ece = _fixed_point(_gap_spectrum(confidence, right))
    samples = _spectrum(confidence, np.broadcast_to(1.0, right.shape))
    sigma = max(ece, 1 / 256)
    low, high = float(confidence.min()), min(float(confidence.max()), 1.0)
    mesh = np.linspace(low, high, n_points)
    cell = np.clip((mesh * _CELLS).astype(np.int64), 0, _CELLS - 1)
    weight = _smoothed(samples, sigma)[cell]
    hits = _smoothed(_spectrum(confidence, right), sigma)[cell]
    weight[weight < _NOISE] = np.nan
    accuracy = np.clip(hits / weight, 0, 1)
    density = weight * _CELLS
    # The squared kernel is one of width sigma / sqrt(2), times 1 / (2 sigma sqrt(pi)).
    squared = _smoothed(samples, sigma / np.sqrt(2))[cell] * _CELLS
    variance = accuracy * (1 - accuracy) * squared / (2 * sigma * np.sqrt(np.pi) * len(right))
    deviation = np.sqrt(np.maximum(variance, 0)) / density
    return SmoothReliability(ece, mesh, accuracy, np.nan_to_num(density), deviation)


def _spectrum(confidence: Float64s, values: Float64s | Bools) -> Spectrum:
    """Mean of values (N,) at cell centres, mirrored to period 2, transformed.

    Each value is shared between the two cells whose centres are next to its confidence.
    """
    sums = np.zeros(_CELLS + 1)  # at the upper one of the two cells; the last stands for the border
    upper = np.zeros(_CELLS + 1)
    for rows in pieces(len(values)):
        place = np.minimum(confidence[rows], 1.0) * _CELLS + 0.5
        cell = place.astype(np.int64)
        sums += np.bincount(cell, values[rows], _CELLS + 1)
        upper += np.bincount(cell, values[rows] * (place - cell), _CELLS + 1)
    lower = sums - upper
    cells = upper[:-1] + lower[1:]
    cells[0] += lower[0]
    cells[-1] += upper[-1]
    return np.asarray(np.fft.rfft(np.concatenate([cells, cells[::-1]])) / len(values))


def _gap_spectrum(confidence: Float64s, right: Bools) -> Spectrum:
    """The transform of confidence less outcome."""
    gap = np.minimum(confidence, 1.0)
    gap -= right
    return _spectrum(confidence, gap)


def _fixed_point(spectrum: Spectrum) -> float:
    low, high = 0.0, 1.0
    while high - low > 1e-6:
        middle = (low + high) / 2
        if np.abs(_smoothed(spectrum, middle)).sum() > middle:
            low = middle
        else:
            high = middle
    return high


def _smoothed(spectrum: Spectrum, sigma: float) -> Float64s:
    """Cells after smoothing with a reflected Gaussian of width sigma, shape (_CELLS,)."""
    k = np.arange(len(spectrum))
    smooth = np.fft.irfft(spectrum * np.exp(-0.5 * (np.pi * k * sigma) ** 2), 2 * _CELLS)
    return np.asarray(smooth[:_CELLS])
