"""The two vectors that top-label calibration is about, read off the probabilities in one pass."""

import numpy as np
import numpy.typing as npt

from selectkit.arrays import (
    ArrayLike,
    Bools,
    class_labels,
    regular_array,
    require_distributions,
)
from selectkit.errors import DataError

Float64s = npt.NDArray[np.float64]

_BLOCK = 40_960  # entries: a block and its transpose stay in the cache
_WIDE = 32  # classes from which on rows are long enough to be scanned as they lie


def top_label(probabilities: ArrayLike, labels: ArrayLike) -> tuple[Float64s, Bools]:
    """Return the confidence in the most probable class, and whether that is the label.

    Args:
        probabilities: Shape (N, K), rows sum to one within 1e-3.
        labels: Shape (N,), integers in [0, K).

    Returns:
        Both of shape (N,). Of equally probable classes the first is the prediction.

    Raises:
        DataError: If a shape, a dtype, a value or a row sum is wrong.
    """
    p = regular_array(probabilities, "probabilities")
    if p.dtype.kind not in "fiub":
        raise DataError(f"probabilities must be real numbers, got dtype {p.dtype}.")
    if p.ndim != 2 or len(p) == 0 or p.shape[1] < 2:
        raise DataError(
            "probabilities must have shape (N, K) with N >= 1 and K, the columns (classes), >= 2; "
            f"got {p.shape}."
        )
    y = class_labels(labels, *p.shape)
    confidence, right = np.empty(len(p)), np.empty(len(p), dtype=np.bool_)
    rows = max(16, _BLOCK // p.shape[1])
    for first in range(0, len(p), rows):
        block = slice(first, first + rows)
        with np.errstate(over="ignore"):
            q = p[block].astype(np.float64, copy=False)
        columns = q.T if q.shape[1] >= _WIDE else np.ascontiguousarray(q.T)
        confidence[block] = top = columns.max(axis=0)
        require_distributions(columns.T, top.max(), first)
        right[block] = _is_top(columns, y[block], top)
    return confidence, right


def _is_top(columns: Float64s, y: npt.NDArray[np.int64], top: Float64s) -> Bools:
    """Whether the label is the first of the largest entries; ties are rare and looked at apart."""
    largest = columns == top
    right = largest.reshape(-1).take(y * len(y) + np.arange(len(y)))
    if np.count_nonzero(largest) > len(y):
        right &= columns.argmax(axis=0) == y
    return np.asarray(right)
