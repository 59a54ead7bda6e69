"""What both heads do with rows: check them, standardise them, walk over them in blocks.

Features stay in the dtype (and, when memory-mapped, on the disk) they came in; only one block at a
time is held in float64. Sizes: N rows, D features, K classes.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from selectkit.arrays import ArrayLike, Floats, Ints, class_labels
from selectkit.errors import DataError

Float64s = npt.NDArray[np.float64]

ABSENT_LOGIT = -50.0
"""Logit of a class without training rows; the largest logit of any row is at least zero."""

_INFERENCE_ROWS = 64
_TRAINING_ROWS = 8192


def feature_rows(features: ArrayLike, name: str, n_features: int | None = None) -> Floats:
    """Return features of shape (N, D), checked in place: nothing is copied or converted.

    Args:
        features: Shape (N, D), finite, any real dtype; may be memory-mapped.
        name: What the caller calls the array; used in the message.
        n_features: The D it must have, or None when any will do.

    Returns:
        The same array.

    Raises:
        DataError: If shape or dtype is wrong, or an entry is not finite (its row is named).
    """
    x = np.asarray(features)
    if x.dtype.kind not in "fiub":
        raise DataError(f"{name} must be real numbers, got dtype {x.dtype}.")
    if x.ndim != 2 or 0 in x.shape:
        raise DataError(f"{name} must have shape (N, D) with N, D >= 1, got {x.shape}.")
    if n_features is not None and x.shape[1] != n_features:
        raise DataError(
            f"{name} have {x.shape[1]} columns but the head was fitted on {n_features}. "
            "Use the view and the feature that it was fitted on."
        )
    for start, block in _blocks(x, _TRAINING_ROWS):
        finite = np.isfinite(block)
        if not finite.all():
            row, column = (int(i) for i in np.argwhere(~finite)[0])
            raise DataError(
                f"{name} are {block[row, column]} in row {start + row}, column {column}; "
                "every entry must be finite."
            )
    return x


def labelled_rows(
    features: ArrayLike, labels: ArrayLike, n_classes: int, name: str
) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Return the rows that have a label, checked.

    Args:
        features: Shape (N, D), finite.
        labels: Shape (N,), integers in [0, K); -1 marks a row without a label.
        n_classes: K, at least 2.
        name: "train" or "select"; used in the messages.

    Returns:
        Features (M, D) and int64 labels (M,) of the M >= 1 labelled rows, in order.

    Raises:
        DataError: If a shape, a dtype or a value is wrong, or no row is labelled.
    """
    if n_classes < 2:
        raise DataError(f"n_classes must be at least 2, got {n_classes}.")
    x = feature_rows(features, f"{name} features")
    y = np.asarray(labels)
    known = y != -1
    if y.shape == (len(x),) and not known.all():
        if not known.any():
            raise DataError(f"{name} has {len(x)} rows but no label: every label is -1.")
        x, y = x[known], y[known]
    try:
        return x, class_labels(y, len(x), n_classes)
    except DataError as error:
        raise DataError(f"{name} {error}") from None


def present_classes(labels: Ints) -> npt.NDArray[np.int64]:
    """Return the sorted codes that occur in the training labels.

    Args:
        labels: Shape (N,), codes.

    Returns:
        The distinct codes, at least two.

    Raises:
        DataError: If there is only one.
    """
    present = np.unique(labels).astype(np.int64)
    if len(present) < 2:
        raise DataError(
            f"train holds only class {present[0]} in its {len(labels)} labelled rows; "
            "a head needs at least two classes. Label rows of another class, or split again."
        )
    return present


def select_rows(
    select: tuple[ArrayLike, ArrayLike],
    present: Ints,
    *,
    n_features: int,
    n_classes: int,
) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Return the labelled rows of `select` whose class was seen in training.

    Args:
        select: Features (M, D) and labels (M,), as for `labelled_rows`.
        present: Codes of the classes seen in training.
        n_features: D of the training features.
        n_classes: K.

    Returns:
        Features and labels of the rows that can tell one fit from another.

    Raises:
        DataError: If an array is wrong, D differs, or no such row is left.
    """
    x, y = labelled_rows(*select, n_classes, "select")
    if x.shape[1] != n_features:
        raise DataError(f"select features have {x.shape[1]} columns but train has {n_features}.")
    seen = np.isin(y, present)
    if not seen.any():
        raise DataError(
            f"select holds none of the classes in train ({', '.join(map(str, present))}); "
            "split again, or add labels."
        )
    return (x, y) if seen.all() else (x[seen], y[seen])


def moments(features: Floats) -> tuple[Float64s, Float64s]:
    """Return mean and population standard deviation of every column, both (D,) float64.

    One pass, shifted by the first row: a constant column has a deviation of exactly zero, and
    gets scale 1.
    """
    origin = features[0].astype(np.float64)
    first, second = np.zeros_like(origin), np.zeros_like(origin)
    for _, block in _blocks(features, _TRAINING_ROWS):
        offset = block.astype(np.float64) - origin
        first += offset.sum(axis=0)
        second += np.einsum("nd,nd->d", offset, offset)
    first /= len(features)
    deviation = np.sqrt(np.maximum(second / len(features) - first**2, 0))
    return origin + first, np.where(deviation > 0, deviation, 1.0)


def standardised(
    features: Floats, mean: Floats, scale: Floats, dtype: npt.DTypeLike
) -> npt.NDArray[Any]:
    """Return (features - mean) / scale, computed in float64, stored as `dtype`, (N, D)."""
    out = np.empty(features.shape, dtype=dtype)
    for start, block in _blocks(features, _TRAINING_ROWS):
        np.divide(block - mean, scale, out=out[start : start + len(block)], casting="same_kind")
    return out


def by_blocks(features: Floats, rows: Callable[[Float64s], Float64s], n_outputs: int) -> Float64s:
    """Apply a row-wise function to blocks of one fixed height, the last one padded with zeros.

    Matrix products round differently for different heights; with one height the answer for a row
    does not depend on the rows it is asked together with.

    Args:
        features: Shape (N, D).
        rows: Maps float64 (64, D) to (64, K), row by row.
        n_outputs: K.

    Returns:
        Shape (N, K), float64.
    """
    out = np.empty((len(features), n_outputs))
    block = np.zeros((_INFERENCE_ROWS, features.shape[1]))
    for start, part in _blocks(features, _INFERENCE_ROWS):
        block[: len(part)] = part
        out[start : start + len(part)] = rows(block)[: len(part)]
    return out


def all_classes(
    weights: Floats, bias: Floats, present: Ints, n_classes: int
) -> tuple[Float64s, Float64s]:
    """Spread an output layer fitted on the present classes over all K.

    Softmax ignores what all logits share, so weights and bias are centred over the present
    classes; the largest logit of a row is then at least zero. A class that was absent in training
    gets no weights and `ABSENT_LOGIT`: a probability below 2e-22, and finite.

    Args:
        weights: Shape (H, P) for P present classes.
        bias: Shape (P,).
        present: Codes of the present classes, shape (P,).
        n_classes: K.

    Returns:
        Weights (H, K) and bias (K,), float64.
    """
    every_weight = np.zeros((len(weights), n_classes))
    every_bias = np.full(n_classes, ABSENT_LOGIT)
    every_weight[:, present] = weights - weights.mean(axis=1, keepdims=True)
    every_bias[present] = bias - bias.mean()
    return every_weight, every_bias


def _blocks(array: Floats, height: int) -> Iterator[tuple[int, Floats]]:
    for start in range(0, len(array), height):
        yield start, array[start : start + height]
