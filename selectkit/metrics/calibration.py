"""Probabilistic metrics: calibration errors over bins, negative log-likelihood, Brier score.

Bins are right-closed, (k/M, (k+1)/M], and 0 belongs to the first. The expected calibration error
is biased upwards: even perfect probabilities show one of the size of `ece_null_level`, so the two
belong side by side. Sources: Guo et al. (2017), "On calibration of modern neural networks",
https://arxiv.org/abs/1706.04599 (ECE, MCE); Kull et al. (2019), "Beyond temperature scaling",
https://arxiv.org/abs/1910.12656 (class-wise ECE).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from selectkit.arrays import ArrayLike, Ints, labelled_probabilities
from selectkit.errors import DataError

Float64s = npt.NDArray[np.float64]
Scheme = Literal["width", "mass"]


@dataclass(frozen=True, slots=True)
class ReliabilityBins:
    """The bins of a reliability diagram; empty bins are left out. All arrays have shape (M',).

    Attributes:
        count: Samples in the bin.
        confidence: Mean confidence.
        accuracy: Fraction right.
        low: Lower edge of the bin, or its smallest confidence for bins of equal mass.
        high: Upper edge of the bin, or its largest confidence for bins of equal mass.
    """

    count: npt.NDArray[np.int64]
    confidence: Float64s
    accuracy: Float64s
    low: Float64s
    high: Float64s

    @property
    def ece(self) -> float:
        """Mean gap between accuracy and confidence, weighted by count."""
        gaps = np.abs(self.accuracy - self.confidence)
        return float((self.count * gaps).sum() / self.count.sum())

    @property
    def mce(self) -> float:
        """Largest gap of any bin."""
        return float(np.abs(self.accuracy - self.confidence).max())


def reliability_bins(
    probabilities: ArrayLike, labels: ArrayLike, n_bins: int = 15, scheme: Scheme = "width"
) -> ReliabilityBins:
    """Bin the top-label confidence and compare it with the accuracy.

    Args:
        probabilities: Shape (N, K), rows sum to one.
        labels: Shape (N,), integers in [0, K).
        n_bins: Largest number of bins, >= 1.
        scheme: "width": bins of equal width. "mass": bins of nearly equal count; samples of equal
            confidence stay together, so the result does not depend on the order of rows.

    Returns:
        The bins that hold samples, from low to high confidence.

    Raises:
        DataError: If an array is malformed or a setting makes no sense.
    """
    confidence, right = _top_label(*labelled_probabilities(probabilities, labels))
    index = bin_index(confidence, n_bins, scheme)
    count = np.bincount(index, minlength=n_bins)
    used = np.flatnonzero(count)
    mean = np.bincount(index, confidence, minlength=n_bins)[used] / count[used]
    accuracy = np.bincount(index, right, minlength=n_bins)[used] / count[used]
    if scheme == "width":
        return ReliabilityBins(count[used], mean, accuracy, used / n_bins, (used + 1) / n_bins)
    low, high = np.ones(n_bins), np.zeros(n_bins)
    np.minimum.at(low, index, confidence)
    np.maximum.at(high, index, confidence)
    return ReliabilityBins(count[used], mean, accuracy, low[used], high[used])


def ece(
    probabilities: ArrayLike, labels: ArrayLike, n_bins: int = 15, scheme: Scheme = "width"
) -> float:
    """Return the expected calibration error of the top label.

    Args:
        probabilities: Shape (N, K), rows sum to one.
        labels: Shape (N,), integers in [0, K).
        n_bins: Number of bins, >= 1.
        scheme: "width" or "mass", see `reliability_bins`.

    Returns:
        The error in [0, 1]; compare it with `ece_null_level`.

    Raises:
        DataError: If an array is malformed or a setting makes no sense.

    Examples:
        >>> p = np.array([[0.8, 0.2]] * 4)
        >>> round(ece(p, np.array([0, 0, 0, 1])), 6)
        0.05
    """
    confidence, right = _top_label(*labelled_probabilities(probabilities, labels))
    return _binned_gap(confidence, right, n_bins, scheme)


def mce(
    probabilities: ArrayLike, labels: ArrayLike, n_bins: int = 15, scheme: Scheme = "width"
) -> float:
    """Return the maximum calibration error: the largest gap of any bin that holds samples.

    Args:
        probabilities: Shape (N, K), rows sum to one.
        labels: Shape (N,), integers in [0, K).
        n_bins: Number of bins, >= 1.
        scheme: "width" or "mass", see `reliability_bins`.

    Returns:
        The error in [0, 1].

    Raises:
        DataError: If an array is malformed or a setting makes no sense.
    """
    return reliability_bins(probabilities, labels, n_bins, scheme).mce


def classwise_ece(probabilities: ArrayLike, labels: ArrayLike, n_bins: int = 15) -> float:
    """Return the class-wise calibration error: the mean over classes of the binary ECE.

    Args:
        probabilities: Shape (N, K), rows sum to one.
        labels: Shape (N,), integers in [0, K).
        n_bins: Number of bins of equal width, >= 1.

    Returns:
        The mean over all K classes of the ECE of p_k against "the label is k".

    Raises:
        DataError: If an array is malformed or n_bins < 1.
    """
    p, y = labelled_probabilities(probabilities, labels)
    columns = np.ascontiguousarray(p.T)
    errors = [_binned_gap(column, y == k, n_bins, "width") for k, column in enumerate(columns)]
    return float(np.mean(errors))


def nll(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Return the mean negative log-likelihood in nats.

    Args:
        probabilities: Shape (N, K), rows sum to one. The probability of the label is clipped
            below at 1e-12, so one impossible label costs 27.6 nats instead of infinity.
        labels: Shape (N,), integers in [0, K).

    Returns:
        The mean of -log p_label.

    Raises:
        DataError: If an array is malformed.
    """
    return float(log_losses(*labelled_probabilities(probabilities, labels)).mean())


def brier(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Return the multi-class Brier score, the sum form in [0, 2].

    Args:
        probabilities: Shape (N, K), rows sum to one.
        labels: Shape (N,), integers in [0, K).

    Returns:
        The mean over samples of sum_k (p_k - [label = k])^2. For two classes this is twice the
        binary form (p_1 - y)^2.

    Raises:
        DataError: If an array is malformed.
    """
    return float(brier_losses(*labelled_probabilities(probabilities, labels)).mean())


def log_losses(p: Float64s, y: Ints) -> Float64s:
    """Return -log p_label per sample, clipped at 1e-12; p (N, K) and y (N,) are checked."""
    return np.asarray(-np.log(np.maximum(p[np.arange(len(p)), y], 1e-12)))


def brier_losses(p: Float64s, y: Ints) -> Float64s:
    """Return the Brier loss per sample; p (N, K) and y (N,) are checked."""
    return np.asarray(np.einsum("nk,nk->n", p, p) - 2 * p[np.arange(len(p)), y] + 1)


def bin_index(confidence: Float64s, n_bins: int, scheme: Scheme) -> npt.NDArray[np.int64]:
    """Return the bin of each confidence.

    Args:
        confidence: Shape (N,), in [0, 1].
        n_bins: M >= 1.
        scheme: "width" or "mass", see `reliability_bins`.

    Returns:
        Shape (N,), in [0, M).

    Raises:
        DataError: If n_bins < 1 or the scheme is unknown.
    """
    if n_bins < 1:
        raise DataError(f"n_bins must be at least 1, got {n_bins}.")
    if scheme == "width":
        return _width_index(confidence, n_bins)
    if scheme != "mass":
        raise DataError(f'scheme must be "width" or "mass", got {scheme!r}.')
    _, member, counts = np.unique(confidence, return_inverse=True, return_counts=True)
    first_rank = np.cumsum(counts) - counts
    edges = np.cumsum([len(part) for part in np.array_split(confidence, n_bins)])
    return np.searchsorted(edges, first_rank, side="right")[member]


def _width_index(confidence: Float64s, n_bins: int) -> npt.NDArray[np.int64]:
    """Multiply to guess, then compare with the edges k / M: products round, edges decide."""
    edges = np.arange(n_bins + 1) / n_bins
    index = np.clip(np.ceil(confidence * n_bins), 1, n_bins).astype(np.int64) - 1
    index -= (confidence <= edges[index]) & (index > 0)
    index += (confidence > edges[index + 1]) & (index < n_bins - 1)
    return index


def _top_label(p: Float64s, y: Ints) -> tuple[Float64s, npt.NDArray[np.bool_]]:
    guess = p.argmax(axis=1)
    return p[np.arange(len(p)), guess], guess == y


def _binned_gap(
    confidence: Float64s, right: npt.NDArray[np.bool_], n_bins: int, scheme: Scheme
) -> float:
    index = bin_index(confidence, n_bins, scheme)
    return float(np.abs(np.bincount(index, confidence - right)).sum() / len(index))
