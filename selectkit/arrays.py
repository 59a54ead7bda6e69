"""Array types and the checks at the door: inputs are checked here once, then trusted.

Sizes are N samples, D features, K classes everywhere. Statistics are computed in float64.
"""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from selectkit.errors import DataError

Floats: TypeAlias = npt.NDArray[np.floating[Any]]
Ints: TypeAlias = npt.NDArray[np.integer[Any]]
Bools: TypeAlias = npt.NDArray[np.bool_]
ArrayLike: TypeAlias = npt.ArrayLike


def finite_matrix(values: ArrayLike, name: str) -> npt.NDArray[np.float64]:
    """Return `values` as a float64 copy of shape (N, M).

    Args:
        values: Shape (N, M), N >= 1 and M >= 1, any real dtype.
        name: What the caller calls the array; used in the message.

    Returns:
        A float64 copy that the caller may change.

    Raises:
        DataError: If the shape is wrong or an entry is NaN or infinite (the first row is named).
    """
    matrix = _as_float64(values, name)
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise DataError(f"{name} must have shape (N, M) with N, M >= 1, got {matrix.shape}.")
    _refuse_non_finite(matrix, name)
    return matrix


def finite_vector(values: ArrayLike, name: str) -> npt.NDArray[np.float64]:
    """Return `values` as a float64 copy of shape (N,).

    Args:
        values: Shape (N,), N >= 1, any real dtype.
        name: What the caller calls the array; used in the message.

    Returns:
        A float64 copy that the caller may change.

    Raises:
        DataError: If the shape is wrong or an entry is NaN or infinite (the first row is named).
    """
    vector = _as_float64(values, name)
    if vector.ndim != 1 or vector.size == 0:
        raise DataError(f"{name} must have shape (N,) with N >= 1, got {vector.shape}.")
    _refuse_non_finite(vector, name)
    return vector


def class_labels(labels: ArrayLike, n_samples: int, n_classes: int) -> npt.NDArray[np.int64]:
    """Return `labels` as int64 of shape (N,) with values in [0, K).

    Args:
        labels: Shape (N,), integers (or booleans).
        n_samples: N, the length the labels must have.
        n_classes: K.

    Returns:
        The labels as int64.

    Raises:
        DataError: If the length, the dtype or a value is wrong.
    """
    y = np.asarray(labels)
    if y.shape != (n_samples,):
        raise DataError(f"labels must have shape ({n_samples},) to match the rows, got {y.shape}.")
    if y.dtype.kind not in "iub":
        raise DataError(f"labels must be integers in [0, {n_classes}), got dtype {y.dtype}.")
    y = y.astype(np.int64)
    wrong = np.flatnonzero((y < 0) | (y >= n_classes))
    if wrong.size:
        row = int(wrong[0])
        raise DataError(f"label {y[row]} in row {row} is outside [0, {n_classes}).")
    return y


def labelled_logits(
    logits: ArrayLike, labels: ArrayLike
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Return float64 logits (N, K), K >= 2, and int64 labels (N,), both checked.

    Args:
        logits: Shape (N, K), finite.
        labels: Shape (N,), integers in [0, K).

    Returns:
        A copy of the logits, and the labels.

    Raises:
        DataError: If a shape, a dtype or a value is wrong.
    """
    z = finite_matrix(logits, "logits")
    if z.shape[1] < 2:
        raise DataError(f"logits must have at least 2 columns (classes), got {z.shape[1]}.")
    return z, class_labels(labels, *z.shape)


def labelled_probabilities(
    probabilities: ArrayLike, labels: ArrayLike
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Return float64 probabilities (N, K), K >= 2, and int64 labels (N,), both checked.

    Args:
        probabilities: Shape (N, K), in [0, 1], rows summing to one within 1e-3 (float16 storage
            is that coarse). Rows are not renormalised.
        labels: Shape (N,), integers in [0, K).

    Returns:
        A copy of the probabilities, and the labels.

    Raises:
        DataError: If a shape, a dtype, a value or a row sum is wrong.
    """
    p = finite_matrix(probabilities, "probabilities")
    if p.shape[1] < 2:
        raise DataError(f"probabilities must have at least 2 columns (classes), got {p.shape[1]}.")
    gap = np.abs(p.sum(axis=1) - 1)
    if p.min() < 0 or p.max() > 1 + 1e-6 or gap.max() > 1e-3:
        row = int(np.flatnonzero((p < 0).any(1) | (p > 1 + 1e-6).any(1) | (gap > 1e-3))[0])
        raise DataError(
            f"probabilities in row {row} are not a distribution: smallest {p[row].min():.6g}, "
            f"sum {p[row].sum():.6g}. Pass softmax output, not logits."
        )
    return p, class_labels(labels, *p.shape)


def confidence_and_loss(
    confidence: ArrayLike, loss: ArrayLike
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return float64 confidence (N,) and loss (N,), both checked.

    Args:
        confidence: Shape (N,), higher = accept first. -inf means "always defer"; NaN and +inf
            are refused.
        loss: Shape (N,), finite; 1 for an error and 0 for a correct prediction, or any real loss.

    Returns:
        Copies of both.

    Raises:
        DataError: If a shape or a value is wrong.
    """
    s = _as_float64(confidence, "confidence")
    if s.ndim != 1 or s.size == 0:
        raise DataError(f"confidence must have shape (N,) with N >= 1, got {s.shape}.")
    wrong = np.flatnonzero(np.isnan(s) | (s == np.inf))
    if wrong.size:
        raise DataError(f"confidence is {s[wrong[0]]} in row {wrong[0]}; it must be a number.")
    ell = finite_vector(loss, "loss")
    if ell.shape != s.shape:
        raise DataError(f"confidence has shape {s.shape} but loss has shape {ell.shape}.")
    return s, ell


def log_softmax(logits: Floats) -> npt.NDArray[np.float64]:
    """Return the log of the softmax over the last axis in float64, without overflow."""
    z = np.asarray(logits, dtype=np.float64)
    z = z - z.max(axis=-1, keepdims=True)
    return np.asarray(z - np.log(np.exp(z).sum(axis=-1, keepdims=True)))


def softmax(logits: Floats) -> npt.NDArray[np.float64]:
    """Return the softmax over the last axis in float64, without overflow."""
    z = np.asarray(logits, dtype=np.float64)
    p = np.exp(z - z.max(axis=-1, keepdims=True))
    return np.asarray(p / p.sum(axis=-1, keepdims=True))


def _as_float64(values: ArrayLike, name: str) -> npt.NDArray[np.float64]:
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise DataError(f"{name} must be real numbers, got dtype {array.dtype}.")
    return array.astype(np.float64)


def _refuse_non_finite(array: npt.NDArray[np.float64], name: str) -> None:
    finite = np.isfinite(array)
    if not finite.all():
        wrong = np.argwhere(~finite)
        place = tuple(int(i) for i in wrong[0])
        raise DataError(
            f"{name} is {array[place]} in row {place[0]}"
            + (f", column {place[1]}" if array.ndim == 2 else "")
            + f" ({len(wrong)} such entries); every entry must be finite."
        )
