"""The two vectors that top-label calibration is about, read off the probabilities in one pass."""

import numpy as np
import numpy.typing as npt

from selectkit.arrays import ArrayLike, Bools, class_labels, require_distributions
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
    p = np.asarray(probabilities)
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
        q = p[block].astype(np.float64, copy=False)
        confidence[block] = top = _row_maxima(q)
        require_distributions(q, top.max(), first)
        right[block] = _is_top(q, y[block], top)
    return confidence, right


def _row_maxima(q: Float64s) -> Float64s:
    if q.shape[1] >= _WIDE:
        return np.asarray(q.max(axis=1))
    return np.asarray(np.ascontiguousarray(q.T).max(axis=0))


def _is_top(q: Float64s, y: npt.NDArray[np.int64], top: Float64s) -> Bools:
    """Whether the label is the first of the largest entries; ties are rare and looked at apart."""
    right = q[np.arange(len(q)), y] == top
    if np.count_nonzero(q == top[:, None]) > len(q):
        right &= q.argmax(axis=1) == y
    return np.asarray(right)
