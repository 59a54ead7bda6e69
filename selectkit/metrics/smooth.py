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
from selectkit.metrics.top_label import top_label

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
    confidence, right = top_label(probabilities, labels)
    return _fixed_point(_Cells.of(confidence), confidence, right)


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
    confidence, right = top_label(probabilities, labels)
    cells = _Cells.of(confidence)
    ece = _fixed_point(cells, confidence, right)
    sigma = max(ece, 1 / 256)
    low, high = float(confidence.min()), min(float(confidence.max()), 1.0)
    mesh = np.linspace(low, high, n_points)
    cell = np.clip((mesh * _CELLS).astype(np.int64), 0, _CELLS - 1)
    weight = _smoothed(cells.spectrum(np.ones(len(right))), sigma)[cell]
    hits = _smoothed(cells.spectrum(right.astype(np.float64)), sigma)[cell]
    weight[weight < _NOISE] = np.nan
    accuracy = np.clip(hits / weight, 0, 1)
    density = weight * _CELLS
    # The squared kernel is one of width sigma / sqrt(2), times 1 / (2 sigma sqrt(pi)).
    squared = _smoothed(cells.spectrum(np.ones(len(right))), sigma / np.sqrt(2))[cell] * _CELLS
    variance = accuracy * (1 - accuracy) * squared / (2 * sigma * np.sqrt(np.pi) * len(right))
    deviation = np.sqrt(np.maximum(variance, 0)) / density
    return SmoothReliability(ece, mesh, accuracy, np.nan_to_num(density), deviation)


@dataclass(frozen=True, slots=True)
class _Cells:
    """Where each confidence lies on the mesh: between two cells, with the share of the upper."""

    lower: npt.NDArray[np.int64]
    upper: npt.NDArray[np.int64]
    share: Float64s

    @classmethod
    def of(cls, confidence: Float64s) -> "_Cells":
        place = np.minimum(confidence, 1.0) * _CELLS - 0.5
        left = np.floor(place).astype(np.int64)
        share = place - left
        return cls(np.maximum(left, 0), np.minimum(left + 1, _CELLS - 1), share)

    def spectrum(self, values: Float64s) -> Spectrum:
        """Mean of values at cell centres, mirrored to period 2, transformed."""
        upper = values * self.share
        sums = np.bincount(self.lower, values - upper, minlength=_CELLS)
        sums += np.bincount(self.upper, upper, minlength=_CELLS)
        return np.asarray(np.fft.rfft(np.concatenate([sums, sums[::-1]])) / len(values))


def _fixed_point(cells: _Cells, confidence: Float64s, right: Bools) -> float:
    spectrum = cells.spectrum(np.minimum(confidence, 1.0) - right)
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
