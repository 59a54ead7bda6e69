"""Bins of confidences: right-closed, (k/M, (k+1)/M], with 0 in the first; or of equal mass."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from selectkit.errors import DataError

Float64s = npt.NDArray[np.float64]
Scheme = Literal["width", "mass"]

_BLOCK = 1 << 15
_FEW = 64  # edges: comparing with all of them is faster than searching among them
_BELOW = 1 - 2.0**-50  # products round by less than that


@dataclass(frozen=True, slots=True)
class Bins:
    """Intervals closed on the right; the first holds 0 too, the last all that is left.

    Attributes:
        upper: Shape (M,), where they end, never falling; the last at infinity or the largest value.
        even: All but the last are of one width, 1/M.
    """

    upper: Float64s
    even: bool

    @classmethod
    def of(cls, confidence: Float64s, n_bins: int, scheme: Scheme) -> "Bins":
        """Make the bins of a sample.

        Args:
            confidence: Shape (N,), in [0, 1].
            n_bins: M >= 1.
            scheme: "width", or "mass" for nearly equal counts, equal values together.

        Returns:
            The bins; of equal mass some may be empty.

        Raises:
            DataError: If n_bins < 1 or the scheme is unknown.
        """
        require_bins(n_bins, scheme)
        if scheme == "mass":
            last = mass_edges(len(confidence), n_bins) - 1
            return cls(np.sort(confidence)[last], even=False)
        return cls.of_width(n_bins)

    @classmethod
    def of_width(cls, n_bins: int) -> "Bins":
        """Make M >= 1 bins of one width."""
        require_bins(n_bins)
        return cls(np.append(np.arange(1, n_bins) / n_bins, np.inf), even=True)

    def index(self, values: Float64s) -> npt.NDArray[np.int64]:
        """Return the bin of each value, of any shape, in [0, M).

        Of even bins the edges k / M decide, not the product with M, which rounds: it is taken a
        little too small, and what then lies above its bin goes up by one.
        """
        n_bins = len(self.upper)
        if not self.even:
            if n_bins > _FEW:
                return np.searchsorted(self.upper, values)
            passed = np.zeros(values.shape, dtype=np.uint8)
            for edge in self.upper[:-1]:
                passed += (values > edge).view(np.uint8)
            return passed.astype(np.int64)
        short = (values * (n_bins * _BELOW)).astype(np.int32)  # vector units do that
        np.minimum(short, n_bins - 1, out=short)
        index = short.astype(np.int64)
        above = values > self.upper.take(index)
        if above.any():
            index += above
        return index

    def sums(self, values: Float64s, *what: npt.NDArray[Any]) -> Float64s:
        """Return sums over each bin.

        Args:
            values: Shape (N,), by which rows are binned.
            *what: W arrays of shape (N,), numbers or booleans.

        Returns:
            Shape (W, M).
        """
        n_bins = len(self.upper)
        total = np.zeros((len(what), n_bins))
        for rows in pieces(len(values), n_bins):
            index = self.index(values[rows])
            for i, each in enumerate(what):
                total[i] += np.bincount(index, each[rows], n_bins)
        return total


def pieces(n: int, n_bins: int = 1) -> Iterator[slice]:
    """Yield slices of N rows that stay in the cache, or are as many as there are bins."""
    height = max(_BLOCK, n_bins)
    for first in range(0, n, height):
        yield slice(first, first + height)


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
