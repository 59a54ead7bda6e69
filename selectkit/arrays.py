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


def regular_array(values: ArrayLike, name: str) -> npt.NDArray[Any]:
    """Return `values` as an array of whatever dtype and shape.

    Args:
        values: Anything that numpy makes an array of.
        name: What the caller calls it; used in the message.

    Returns:
        The array, not copied when it is one.

    Raises:
        DataError: If rows differ in length, entries are masked, or numpy cannot read the values
            (of a tensor that needs a gradient or lies on another device, say).
    """
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        raise DataError(f"{name} has masked entries: leave their rows out, or fill them in.")
    try:
        return np.asarray(values)
    except ValueError:
        raise DataError(f"{name} must be a regular array; its rows differ in length.") from None
    except (TypeError, RuntimeError) as error:
        raise DataError(f"{name} cannot be read as an array: {str(error).rstrip('.')}.") from None


def real_array(values: ArrayLike, name: str, *, copy: bool = False) -> npt.NDArray[np.float64]:
    """Return `values` as float64 of whatever shape.

    Args:
        values: Any real dtype.
        name: What the caller calls it; used in the message.
        copy: Whether the caller changes what is returned.

    Returns:
        The array, unless `copy` not copied when it is float64 already. Entries may be NaN, and
        infinite where float64 is too small for them.

    Raises:
        DataError: If it is no array of real numbers.
    """
    array = regular_array(values, name)
    if array.dtype.kind not in "fiub":
        raise DataError(f"{name} must be real numbers, got dtype {array.dtype}.")
    with np.errstate(over="ignore"):
        return array.astype(np.float64, copy=copy)


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
    matrix = np.ascontiguousarray(real_array(values, name, copy=True))
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
    vector = real_array(values, name, copy=True)
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
        A copy of the labels as int64.

    Raises:
        DataError: If the length, the dtype or a value is wrong.
    """
    return shared_class_labels(labels, n_samples, n_classes).copy()


def shared_class_labels(labels: ArrayLike, n_samples: int, n_classes: int) -> npt.NDArray[np.int64]:
    """Check labels where they are, for callers that do not change them.

    Args:
        labels: As in `class_labels`.
        n_samples: As in `class_labels`.
        n_classes: As in `class_labels`.

    Returns:
        The labels, not copied when they are int64 already.

    Raises:
        DataError: If the length, the dtype or a value is wrong.
    """
    y = regular_array(labels, "labels")
    if y.shape != (n_samples,):
        raise DataError(f"labels must have shape ({n_samples},) to match the rows, got {y.shape}.")
    if y.dtype.kind not in "iub":
        raise DataError(f"labels must be integers in [0, {n_classes}), got dtype {y.dtype}.")
    y = y.astype(np.int64, copy=False)
    if y.size and not 0 <= y.min() <= y.max() < n_classes:
        row = int(np.flatnonzero((y < 0) | (y >= n_classes))[0])
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
        The probabilities, not copied when they are float64 already: not to be changed. The labels.

    Raises:
        DataError: If a shape, a dtype, a value or a row sum is wrong.
    """
    p = real_array(probabilities, "probabilities")
    if p.ndim != 2 or 0 in p.shape:
        raise DataError(f"probabilities must have shape (N, M) with N, M >= 1, got {p.shape}.")
    if p.shape[1] < 2:
        raise DataError(f"probabilities must have at least 2 columns (classes), got {p.shape[1]}.")
    require_distributions(p, p.max())
    return p, class_labels(labels, *p.shape)


def require_distributions(p: npt.NDArray[np.floating[Any]], top: float, first_row: int = 0) -> None:
    """Refuse rows that are no probability distributions.

    Args:
        p: Shape (N, K).
        top: The largest entry, which callers know.
        first_row: Number of the first row, for the message.

    Raises:
        DataError: If an entry is not finite, below 0 or above 1 + 1e-6, or a row does not sum to
            one within 1e-3.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        total = p @ np.ones(p.shape[1], dtype=p.dtype)
    low, high = 1 - 1e-3, 1 + 1e-3
    if p.min() >= 0 and top <= 1 + 1e-6 and low <= total.min() and total.max() <= high:
        return
    _refuse_non_finite(p, "probabilities", first_row)
    wrong = (p < 0).any(1) | (p > 1 + 1e-6).any(1) | (total < low) | (total > high)
    row = int(np.flatnonzero(wrong)[0])
    raise DataError(
        f"probabilities in row {first_row + row} are not a distribution: smallest "
        f"{p[row].min():.6g}, sum {total[row]:.6g}. Pass softmax output, not logits."
    )


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
    s, ell = shared_confidence_and_loss(confidence, loss)
    return s.copy(), ell.astype(np.float64)


def shared_confidence_and_loss(
    confidence: ArrayLike, loss: ArrayLike
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64] | Bools]:
    """Check confidence and loss where they are, for callers that change neither.

    Args:
        confidence: As in `confidence_and_loss`.
        loss: As in `confidence_and_loss`.

    Returns:
        Both, of shape (N,): not copied when they are float64 already, or the loss boolean.

    Raises:
        DataError: If a shape or a value is wrong.
    """
    s = real_array(confidence, "confidence")
    if s.ndim != 1 or s.size == 0:
        raise DataError(f"confidence must have shape (N,) with N >= 1, got {s.shape}.")
    if not s.min() <= s.max() < np.inf:  # NaN compares as false
        row = int(np.flatnonzero(np.isnan(s) | (s == np.inf))[0])
        raise DataError(f"confidence is {s[row]} in row {row}; it must be a number.")
    ell = regular_array(loss, "loss")
    if ell.dtype != np.bool_:
        ell = real_array(ell, "loss")
    if ell.ndim != 1 or ell.size == 0:
        raise DataError(f"loss must have shape (N,) with N >= 1, got {ell.shape}.")
    if ell.dtype != np.bool_ and not -np.inf < ell.min() <= ell.max() < np.inf:
        _refuse_non_finite(ell, "loss")
    if ell.shape != s.shape:
        raise DataError(f"confidence has shape {s.shape} but loss has shape {ell.shape}.")
    return s, ell


def shared_chances(values: ArrayLike, name: str) -> npt.NDArray[np.float64]:
    """Check chances where they are, for callers that do not change them.

    Args:
        values: Shape (N,), N >= 1, in [0, 1], any real dtype.
        name: What the caller calls them; used in the message.

    Returns:
        Shape (N,), not copied when it is float64 already; rounding may leave 1 + 1e-6.

    Raises:
        DataError: If the shape is wrong or an entry is no chance.
    """
    c = real_array(values, name)
    if c.ndim != 1 or c.size == 0:
        raise DataError(f"{name} must have shape (N,) with N >= 1, got {c.shape}.")
    if not (c.min() >= 0 and c.max() <= 1 + 1e-6):
        _refuse_non_finite(c, name)
        raise DataError(f"{name} must lie in [0, 1], got {c.min():.6g} to {c.max():.6g}.")
    return c


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


def _refuse_non_finite(array: npt.NDArray[np.floating[Any]], name: str, first_row: int = 0) -> None:
    finite = np.isfinite(array)
    if not finite.all():
        wrong = np.argwhere(~finite)
        place = tuple(int(i) for i in wrong[0])
        raise DataError(
            f"{name} is {array[place]} in row {first_row + place[0]}"
            + (f", column {place[1]}" if array.ndim == 2 else "")
            + f" ({len(wrong)} such entries); every entry must be finite."
        )
