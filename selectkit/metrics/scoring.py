"""Proper scores of probabilities: negative log-likelihood, and the Brier score and its parts.

Sources: Brier (1950), "Verification of forecasts expressed in terms of probability"; Murphy
(1973), "A new vector partition of the probability score"; Stephenson, Coelho and Jolliffe (2008),
"Two extra components in the Brier score decomposition".
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from selectkit.arrays import (
    ArrayLike,
    Ints,
    labelled_logits,
    labelled_probabilities,
    log_softmax,
)
from selectkit.metrics.bins import Scheme, bin_index

Float64s = npt.NDArray[np.float64]


def nll(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Return the mean negative log-likelihood in nats.

    Args:
        probabilities: Shape (N, K), rows sum to one. The probability of the label is clipped
            below at 1e-12, so one impossible label costs 27.6 nats instead of infinity; where
            there are logits, `nll_of_logits` needs no clipping.
        labels: Shape (N,), integers in [0, K).

    Returns:
        The mean of -log p_label.

    Raises:
        DataError: If an array is malformed.
    """
    return float(log_losses(*labelled_probabilities(probabilities, labels)).mean())


def nll_of_logits(logits: ArrayLike, labels: ArrayLike) -> float:
    """Return the mean negative log-likelihood in nats of softmax(logits), exactly.

    Args:
        logits: Shape (N, K), finite.
        labels: Shape (N,), integers in [0, K).

    Returns:
        The mean of -log softmax(logits)_label.

    Raises:
        DataError: If an array is malformed.
    """
    z, y = labelled_logits(logits, labels)
    return float(-log_softmax(z)[np.arange(len(z)), y].mean())


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


@dataclass(frozen=True, slots=True)
class BrierParts:
    """The Brier score, sum form, as reliability - resolution + uncertainty + within.

    Attributes:
        reliability: Mean squared gap between forecast and frequency; 0 is calibrated.
        resolution: How far frequencies differ from the base rates; higher is better.
        uncertainty: Brier score of forecasting the base rates.
        within: What bins leave out, the spread of forecasts inside a bin less its covariance with
            the outcome; 0 when samples are grouped by equal forecasts.
    """

    reliability: float
    resolution: float
    uncertainty: float
    within: float

    @property
    def brier(self) -> float:
        """The score itself."""
        return self.reliability - self.resolution + self.uncertainty + self.within


def brier_parts(
    probabilities: ArrayLike,
    labels: ArrayLike,
    n_bins: int | None = None,
    scheme: Scheme = "mass",
) -> BrierParts:
    """Return Murphy's decomposition of the Brier score, summed over the classes.

    Args:
        probabilities: Shape (N, K), rows sum to one.
        labels: Shape (N,), integers in [0, K).
        n_bins: Bins per class; None groups samples of equal p_k, which suits forecasts that take
            few values. With as many values as samples every group is one sample: use bins.
        scheme: "width" or "mass", see `reliability_bins`.

    Returns:
        The parts; their sum is `brier` exactly, with bins too.

    Raises:
        DataError: If an array is malformed or a setting makes no sense.

    Examples:
        >>> parts = brier_parts([[0.8, 0.2]] * 4, [0, 0, 0, 1])
        >>> round(parts.reliability, 6), round(parts.uncertainty, 6)
        (0.005, 0.375)
    """
    p, y = labelled_probabilities(probabilities, labels)
    parts = np.zeros(4)
    for k, column in enumerate(np.ascontiguousarray(p.T)):
        if n_bins is None:
            group = np.unique(column, return_inverse=True)[1]
        else:
            group = bin_index(column, n_bins, scheme)
        parts += _class_parts(column, (y == k).astype(np.float64), group)
    return BrierParts(*(float(part) for part in parts))


def log_losses(p: Float64s, y: Ints) -> Float64s:
    """Return -log p_label per sample, clipped at 1e-12; p (N, K) and y (N,) are checked."""
    return np.asarray(-np.log(np.maximum(p[np.arange(len(p)), y], 1e-12)))


def brier_losses(p: Float64s, y: Ints) -> Float64s:
    """Return the Brier loss per sample; p (N, K) and y (N,) are checked."""
    of_label = p[np.arange(len(p)), y]
    others = np.einsum("nk,nk->n", p, p) - of_label**2
    return np.asarray(np.maximum(others, 0) + (1 - of_label) ** 2)


def _class_parts(f: Float64s, o: Float64s, group: Ints) -> Float64s:
    """Reliability, resolution, uncertainty and within of one class; all arrays (N,)."""
    n = len(f)
    count = np.bincount(group)
    share = count / n
    forecast = np.bincount(group, f) / np.maximum(count, 1)
    observed = np.bincount(group, o) / np.maximum(count, 1)
    base = o.mean()
    df = f - forecast[group]
    within = (df @ df - 2 * (df @ (o - observed[group]))) / n
    return np.array([
        share @ (forecast - observed) ** 2,
        share @ (observed - base) ** 2,
        base * (1 - base),
        within,
    ])
