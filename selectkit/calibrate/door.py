"""What calibrators ask of logits beyond being finite, and two forms they are given."""

import numpy as np
import numpy.typing as npt

from selectkit.arrays import ArrayLike, finite_matrix, labelled_logits, log_softmax
from selectkit.errors import CalibrationError, DataError

Float64s = npt.NDArray[np.float64]
Ints64 = npt.NDArray[np.int64]

LARGEST_LOGIT = 1e100
"""Larger logits are refused: their squares are not finite."""

LOG_FLOOR = float(np.log(1e-30))
"""Smallest log-probability that is fitted on; float32 softmax is full of -inf below."""


def usable_logits(logits: ArrayLike) -> Float64s:
    """Return float64 logits (N, K) of a size that can be computed with.

    Args:
        logits: Shape (N, K), finite.

    Returns:
        A copy.

    Raises:
        DataError: If the shape or an entry is wrong.
    """
    return _bounded(finite_matrix(logits, "logits"))


def usable_rows(logits: ArrayLike, labels: ArrayLike) -> tuple[Float64s, Ints64]:
    """Return checked logits (N, K) and labels (N,).

    Args:
        logits: Shape (N, K), finite, K >= 2.
        labels: Shape (N,), integers in [0, K).

    Returns:
        Copies of both.

    Raises:
        DataError: If a shape, a dtype or a value is wrong.
    """
    z, y = labelled_logits(logits, labels)
    return _bounded(z), y


def fitting_rows(logits: ArrayLike, labels: ArrayLike) -> tuple[Float64s, Ints64]:
    """Return checked logits (N, K) and labels (N,) of which not all are the same.

    Args:
        logits: Shape (N, K), finite, K >= 2.
        labels: Shape (N,), integers in [0, K).

    Returns:
        Copies of both.

    Raises:
        DataError: If a shape, a dtype or a value is wrong.
        CalibrationError: If all labels are equal.
    """
    z, y = usable_rows(logits, labels)
    if (y == y[0]).all():
        raise CalibrationError(
            f"all {len(y)} labels are class {y[0]}: a calibrator needs samples of other classes."
        )
    return z, y


def require_every_class(y: Ints64, k: int) -> None:
    """Refuse labels that lack a class.

    Args:
        y: Labels, shape (N,).
        k: Number of classes.

    Raises:
        CalibrationError: If a class has no sample.
    """
    missing = np.flatnonzero(np.bincount(y, minlength=k) == 0)
    if missing.size:
        raise CalibrationError(
            f"class {missing[0]} has no sample among these {len(y)}: its parameters are not "
            "identified. Add samples, or use the calibrator 'temperature'."
        )


def log_probabilities(z: Float64s) -> Float64s:
    """Return log softmax, not below log(1e-30), shape (N, K)."""
    return np.asarray(np.maximum(log_softmax(z), LOG_FLOOR))


def log_odds(z: Float64s) -> Float64s:
    """Return log p_k - log(1 - p_k) of the softmax, exact where p is next to 0 or 1.

    Args:
        z: Logits, shape (N, K), K >= 2.

    Returns:
        Shape (N, K). For two classes the logit differences.
    """
    if z.shape[1] == 2:
        u = z[:, 1] - z[:, 0]
        return np.stack([-u, u], axis=1)
    rows, top = np.arange(len(z)), z.argmax(axis=1)
    u = z - z[rows, top][:, np.newaxis]
    others = u.copy()
    others[rows, top] = -np.inf
    second = others.max(axis=1)
    e = np.exp(others - second[:, np.newaxis]).sum(axis=1)
    rest = np.exp(others).sum(axis=1)[:, np.newaxis] - np.exp(others)
    u -= np.log1p(np.maximum(rest, 0))
    u[rows, top] = -(second + np.log(e))
    return np.asarray(u)


def _bounded(z: Float64s) -> Float64s:
    largest = np.abs(z).max()
    if largest > LARGEST_LOGIT:
        raise DataError(
            f"logits reach {largest:.3g}; beyond {LARGEST_LOGIT:g} they cannot be calibrated. "
            "Check what was passed as logits."
        )
    return z
