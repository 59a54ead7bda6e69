"""Proper scores of probabilities: negative log-likelihood, and the Brier score and its parts.

Sources: Brier (1950), "Verification of forecasts expressed in terms of probability"; Murphy
(1973), "A new vector partition of the probability score"; Stephenson, Coelho and Jolliffe (2008),
"Two extra components in the Brier score decomposition".
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from selectkit.arrays import ArrayLike, Bools, labelled_logits, log_softmax
from selectkit.metrics.bins import Bins, Scheme, pieces
from selectkit.metrics.labelled import Labelled

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
    return float(log_losses(Labelled.of(probabilities, labels)).mean())


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
    return float(brier_losses(Labelled.of(probabilities, labels)).mean())


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
    data = Labelled.of(probabilities, labels)
    data.check()
    parts = np.zeros(4)
    for k in range(data.n_classes):
        column = data.column(k)
        if n_bins is None:
            bins = Bins(np.unique(column), even=False)
        else:
            bins = Bins.of(column, n_bins, scheme)
        parts += _class_parts(column, data.labels == k, bins)
    return BrierParts(*(float(part) for part in parts))


def log_losses(data: Labelled) -> Float64s:
    """Return -log p_label per sample, clipped at 1e-12."""
    losses = np.empty(len(data))
    for block in data.blocks():
        of_label = block.of_label.astype(np.float64)
        losses[block.rows] = -np.log(np.maximum(of_label, 1e-12))
    return losses


def brier_losses(data: Labelled) -> Float64s:
    """Return the Brier loss per sample."""
    losses = np.empty(len(data))
    for block in data.blocks():
        columns, of_label = block.columns.astype(np.float64), block.of_label.astype(np.float64)
        others = np.einsum("kn,kn->n", columns, columns) - of_label**2
        losses[block.rows] = np.maximum(others, 0) + (1 - of_label) ** 2
    return losses


def _class_parts(f: Float64s, o: Bools, bins: Bins) -> Float64s:
    """Reliability, resolution, uncertainty and within of one class; forecasts and outcomes (N,)."""
    n = len(f)
    count, of_forecast, of_outcome = bins.sums(f, np.broadcast_to(1.0, n), f, o)
    forecast = of_forecast / np.maximum(count, 1)
    observed = of_outcome / np.maximum(count, 1)
    within = 0.0
    for rows in pieces(n):
        index = bins.index(f[rows])
        df = f[rows] - forecast[index]
        within += df @ df - 2 * (df @ (o[rows] - observed[index]))
    share, base = count / n, o.mean()
    return np.array([
        share @ (forecast - observed) ** 2,
        share @ (observed - base) ** 2,
        base * (1 - base),
        within / n,
    ])
