"""Calibration errors over bins.

Bins are right-closed, (k/M, (k+1)/M], and 0 belongs to the first. The expected calibration error
is biased upwards: even perfect probabilities show one of the size of `ece_null_level`, so the two
belong side by side. Sources: Guo et al. (2017), "On calibration of modern neural networks",
https://arxiv.org/abs/1706.04599 (ECE, MCE); Kull et al. (2019), "Beyond temperature scaling",
https://arxiv.org/abs/1910.12656 (class-wise ECE).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from selectkit.arrays import ArrayLike, real_array, regular_array, shared_chances
from selectkit.errors import DataError
from selectkit.metrics.bins import Bins, Scheme, pieces, require_bins
from selectkit.metrics.labelled import Labelled, top_label

Float64s = npt.NDArray[np.float64]


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
    confidence, right = top_label(Labelled.of(probabilities, labels))
    bins = Bins.of(confidence, n_bins, scheme)
    once = np.broadcast_to(1.0, confidence.shape)
    count, confident, hits = bins.sums(confidence, once, confidence, right)
    used = np.flatnonzero(count)
    count, mean, accuracy = count[used], confident[used] / count[used], hits[used] / count[used]
    low, high = used / n_bins, (used + 1) / n_bins
    if scheme == "mass":
        low, high = _lowest(confidence, bins)[used], bins.upper[used]
    return ReliabilityBins(count.astype(np.int64), mean, accuracy, low, high)


def _lowest(confidence: Float64s, bins: Bins) -> Float64s:
    """Smallest confidence of each bin, shape (M,)."""
    low = np.full(len(bins.upper), np.inf)
    for rows in pieces(len(confidence)):
        np.minimum.at(low, bins.index(confidence[rows]), confidence[rows])
    return low


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
    confidence, right = top_label(Labelled.of(probabilities, labels))
    return binned_gap(confidence, right, n_bins, scheme)


def confidence_ece(
    confidence: ArrayLike, right: ArrayLike, n_bins: int = 15, scheme: Scheme = "width"
) -> float:
    """Return the expected calibration error of confidences in decisions, whatever made them.

    Of the top label it is `ece`, without N x K probabilities to read; a policy's own predictions,
    or a binary p_1 against "the label is 1", are measured likewise.

    Args:
        confidence: Shape (N,), in [0, 1]: the chance that the decision is right.
        right: Shape (N,), booleans or 0 and 1.
        n_bins: Number of bins, >= 1.
        scheme: "width" or "mass", see `reliability_bins`.

    Returns:
        The error in [0, 1]; compare it with `ece_null_level`.

    Raises:
        DataError: If an array is malformed or a setting makes no sense.

    Examples:
        >>> round(confidence_ece([0.8] * 4, [True, True, True, False]), 6)
        0.05
    """
    c, hit = shared_chances(confidence, "confidence"), regular_array(right, "right")
    if hit.dtype != np.bool_:
        hit = real_array(hit, "right")
        if not ((hit == 0) | (hit == 1)).all():
            raise DataError("right must be booleans or 0 and 1.")
    if hit.shape != c.shape:
        raise DataError(f"confidence has shape {c.shape} but right has shape {hit.shape}.")
    return binned_gap(c, hit, n_bins, scheme)


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


def classwise_ece(
    probabilities: ArrayLike, labels: ArrayLike, n_bins: int = 15, scheme: Scheme = "width"
) -> float:
    """Return the class-wise calibration error: the mean over classes of the binary ECE.

    Args:
        probabilities: Shape (N, K), rows sum to one.
        labels: Shape (N,), integers in [0, K).
        n_bins: Number of bins, >= 1.
        scheme: "width" or "mass", see `reliability_bins`.

    Returns:
        The mean over all K classes of the ECE of p_k against "the label is k".

    Raises:
        DataError: If an array is malformed or a setting makes no sense.
    """
    data = Labelled.of(probabilities, labels)
    if scheme == "width":
        return float(np.abs(_width_sums(data, n_bins)).sum() / (len(data) * data.n_classes))
    require_bins(n_bins, scheme)
    data.check()
    classes = range(data.n_classes)
    errors = [binned_gap(data.column(k), data.labels == k, n_bins, scheme) for k in classes]
    return float(np.mean(errors))


def adaptive_ece(probabilities: ArrayLike, labels: ArrayLike, n_bins: int = 15) -> float:
    """Return the adaptive calibration error: class-wise, with bins of equal mass, bins equal.

    Source: Nixon et al. (2019), "Measuring calibration in deep learning",
    https://arxiv.org/abs/1904.01685. Samples of equal p_k stay together, and bins that this
    leaves empty do not count. The "AdaECE" of other papers is `ece(..., scheme="mass")`.

    Args:
        probabilities: Shape (N, K), rows sum to one.
        labels: Shape (N,), integers in [0, K).
        n_bins: Largest number of bins per class, >= 1.

    Returns:
        The mean over classes of the mean over bins of |frequency of the class - mean p_k|.

    Raises:
        DataError: If an array is malformed or n_bins < 1.
    """
    data = Labelled.of(probabilities, labels)
    data.check()
    errors = []
    for k in range(data.n_classes):
        column = data.column(k)
        once = np.broadcast_to(1.0, column.shape)
        bins = Bins.of(column, n_bins, "mass")
        count, of_column, of_label = bins.sums(column, once, column, data.labels == k)
        gaps = np.abs(of_column - of_label)[count > 0] / count[count > 0]
        errors.append(gaps.mean())
    return float(np.mean(errors))


def debiased_squared_ece(
    probabilities: ArrayLike, labels: ArrayLike, n_bins: int = 15, scheme: Scheme = "mass"
) -> float:
    """Return the debiased squared calibration error of the top label.

    From each squared gap the variance that chance alone puts there is subtracted, so perfect
    probabilities score 0 on average, and about half of the time less.

    Source: Kumar, Liang and Ma (2019), "Verified uncertainty calibration",
    https://arxiv.org/abs/1909.10155.

    Args:
        probabilities: Shape (N, K), rows sum to one.
        labels: Shape (N,), integers in [0, K).
        n_bins: Number of bins, >= 1.
        scheme: "width" or "mass", see `reliability_bins`.

    Returns:
        Sum over bins of at least two samples of their share times
        (accuracy - confidence)^2 - accuracy (1 - accuracy) / (count - 1); NaN when there is none.

    Raises:
        DataError: If an array is malformed or a setting makes no sense.
    """
    bins = reliability_bins(probabilities, labels, n_bins, scheme)
    usable = bins.count >= 2
    if not usable.any():
        return float("nan")
    n, accuracy = bins.count[usable], bins.accuracy[usable]
    gaps = (accuracy - bins.confidence[usable]) ** 2
    return float((n * (gaps - accuracy * (1 - accuracy) / (n - 1))).sum() / bins.count.sum())


def binned_gap(confidence: Float64s, right: npt.NDArray[Any], n_bins: int, scheme: Scheme) -> float:
    """Return the mean absolute gap over bins of confidences (N,) and outcomes (N,)."""
    bins, sums = Bins.of(confidence, n_bins, scheme), np.zeros(n_bins)
    for rows in pieces(len(confidence), n_bins):
        gaps = confidence[rows] - right[rows]
        sums += np.bincount(bins.index(confidence[rows]), gaps, n_bins)
    return float(np.abs(sums).sum() / len(confidence))


def _width_sums(data: Labelled, n_bins: int) -> Float64s:
    """Confidence less outcome over bins of equal width, shape (K * M,), in one reading."""
    bins = Bins.of_width(n_bins)
    offsets = n_bins * np.arange(data.n_classes)[:, np.newaxis]
    sums = np.zeros(data.n_classes * n_bins)
    for block in data.blocks():
        gaps = block.columns.astype(np.float64)
        index = bins.index(gaps) + offsets
        gaps[block.labels, np.arange(len(block.labels))] -= 1
        sums += np.bincount(index.reshape(-1), gaps.reshape(-1), len(sums))
    return sums
