"""Folds of rows for cross-validation when the caller has none."""

import numpy as np

from selectkit.arrays import ArrayLike, regular_array
from selectkit.calibrate.door import Ints64
from selectkit.errors import DataError


def default_folds(labels: Ints64, k: int) -> Ints64:
    """Deal rows out to folds in turn, class by class, in their order.

    Args:
        labels: Shape (N,).
        k: Number of folds.

    Returns:
        Shape (N,), in [0, k).
    """
    folds = np.empty(len(labels), dtype=np.int64)
    folds[np.argsort(labels, kind="stable")] = np.arange(len(labels)) % k
    return folds


def checked_folds(folds: ArrayLike | None, labels: Ints64, k: int) -> Ints64:
    """Return the fold of each row.

    Args:
        folds: Shape (N,), integers; None deals rows out.
        labels: Shape (N,).
        k: Number of folds to deal out.

    Returns:
        Shape (N,), int64.

    Raises:
        DataError: If the shape or dtype is wrong or there is only one fold.
    """
    if folds is None:
        return default_folds(labels, k)
    found = regular_array(folds, "folds")
    if found.shape != labels.shape or found.dtype.kind not in "iu":
        raise DataError(
            f"folds must be integers of shape {labels.shape}, got {found.dtype} {found.shape}."
        )
    if len(np.unique(found)) < 2:
        raise DataError("folds must name at least two folds, or nothing is held out.")
    return found.astype(np.int64)
