"""Smooth calibration error: no bins, and its own choice of bandwidth.

Source: Blasiok and Nakkiran (2024), "Smooth ECE: principled reliability diagrams via kernel
smoothing", https://arxiv.org/abs/2309.12236. The residuals (confidence - right) are smoothed
with a Gaussian reflected at 0 and 1; smECE_sigma is the integral of their absolute value, and the
smooth ECE is the sigma at which smECE_sigma = sigma. A reflected Gaussian multiplies the k-th
cosine coefficient by exp(-(pi k sigma)^2 / 2), so one cosine transform serves all bandwidths.
"""

import numpy as np
import numpy.typing as npt

from selectkit.arrays import ArrayLike, labelled_probabilities

Float64s = npt.NDArray[np.float64]

_CELLS = 8192


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
    p, y = labelled_probabilities(probabilities, labels)
    guess = p.argmax(axis=1)
    confidence = np.minimum(p[np.arange(len(p)), guess], 1.0)
    coefficients = _cosine_coefficients(confidence, confidence - (guess == y))
    low, high = 0.0, 1.0
    while high - low > 1e-6:
        middle = (low + high) / 2
        if _smoothed_gap(coefficients, middle) > middle:
            low = middle
        else:
            high = middle
    return high


def _cosine_coefficients(confidence: Float64s, residual: Float64s) -> npt.NDArray[np.complex128]:
    """Residual density at cell centres, mirrored to period 2, transformed."""
    place = confidence * _CELLS - 0.5
    left = np.floor(place).astype(np.int64)
    share = place - left
    sums = np.zeros(_CELLS)
    for cell, part in ((left, 1 - share), (left + 1, share)):
        inside = np.clip(cell, 0, _CELLS - 1)
        sums += np.bincount(inside, residual * part, minlength=_CELLS)
    return np.asarray(np.fft.rfft(np.concatenate([sums, sums[::-1]])) / len(confidence))


def _smoothed_gap(coefficients: npt.NDArray[np.complex128], sigma: float) -> float:
    """Sum over cells of the absolute smoothed residual."""
    k = np.arange(len(coefficients))
    smooth = np.fft.irfft(coefficients * np.exp(-0.5 * (np.pi * k * sigma) ** 2), 2 * _CELLS)
    return float(np.abs(smooth[:_CELLS]).sum())
