"""What every head does with rows that it is asked about, and with classes it never saw.

Features stay in the dtype (and, when memory-mapped, on the disk) they came in; only one block at a
time is held in float64. Sizes: N rows, D features, K classes.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from selectkit.arrays import ArrayLike, Floats, Ints
from selectkit.blocks import by_blocks
from selectkit.errors import DataError

__all__ = [
    "ABSENT_LOGIT", "Float64s", "all_classes", "by_blocks", "feature_rows", "present_classes",
]  # fmt: skip

Float64s = npt.NDArray[np.float64]

ABSENT_LOGIT = -50.0
"""Logit of a class without training rows; the largest logit of any row is at least zero."""

_CHECKED_ROWS = 8192


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
    for start, block in _blocks(x, _CHECKED_ROWS):
        finite = np.isfinite(block)
        if not finite.all():
            row, column = (int(i) for i in np.argwhere(~finite)[0])
            raise DataError(
                f"{name} are {block[row, column]} in row {start + row}, column {column}; "
                "every entry must be finite."
            )
    return x


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
