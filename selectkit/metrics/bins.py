"""Bins of confidences: right-closed, (k/M, (k+1)/M], with 0 in the first; or of equal mass."""

from typing import Literal

import numpy as np
import numpy.typing as npt

from selectkit.errors import DataError

Float64s = npt.NDArray[np.float64]
Scheme = Literal["width", "mass"]

_BLOCK = 1 << 15


def bin_index(confidence: Float64s, n_bins: int, scheme: Scheme) -> npt.NDArray[np.int64]:
    """Return the bin of each confidence.

    Args:
        confidence: Shape (N,), in [0, 1].
        n_bins: M >= 1.
        scheme: "width" or "mass", see `reliability_bins`.

    Returns:
        Shape (N,), in [0, M).

    Raises:
        DataError: If n_bins < 1 or the scheme is unknown.
    """
    require_bins(n_bins, scheme)
    if scheme == "mass":
        return _mass_index(confidence, n_bins)
    index = np.empty(len(confidence), dtype=np.int64)
    edges = np.arange(n_bins + 1) / n_bins
    for first in range(0, len(confidence), _BLOCK):
        block = slice(first, first + _BLOCK)
        index[block] = _width_index(confidence[block], edges)
    return index


def require_bins(n_bins: int, scheme: Scheme = "width") -> None:
    """Refuse settings of bins that make no sense.

    Args:
        n_bins: Number of bins.
        scheme: "width" or "mass".

    Raises:
        DataError: If n_bins < 1 or the scheme is unknown.
    """
    if n_bins < 1:
        raise DataError(f"n_bins must be at least 1, got {n_bins}.")
    if scheme not in {"width", "mass"}:
        raise DataError(f'scheme must be "width" or "mass", got {scheme!r}.')


def mass_edges(n: int, n_bins: int) -> npt.NDArray[np.int64]:
    """Return the ranks, shape (M,), at which bins of nearly equal count end."""
    share, more = divmod(n, n_bins)
    return np.cumsum(np.where(np.arange(n_bins) < more, share + 1, share))


def _mass_index(confidence: Float64s, n_bins: int) -> npt.NDArray[np.int64]:
    """Samples of equal confidence go together, by the rank of the first of them."""
    order = np.argsort(confidence)
    ordered = confidence[order]
    opens = np.append(True, ordered[1:] != ordered[:-1])
    first_rank = np.flatnonzero(opens)
    of_value = np.searchsorted(mass_edges(len(confidence), n_bins), first_rank, side="right")
    index = np.empty(len(confidence), dtype=np.int64)
    index[order] = of_value[np.cumsum(opens) - 1]
    return index


def _width_index(confidence: Float64s, edges: Float64s) -> npt.NDArray[np.int64]:
    """Multiply to guess, then compare with the edges k / M: products round, edges decide."""
    last = len(edges) - 2
    index = np.clip(np.ceil(confidence * (last + 1)), 1, last + 1).astype(np.int64) - 1
    index -= (confidence <= edges[index]) & (index > 0)
    index += (confidence > edges[index + 1]) & (index < last)
    return index
