"""Empirical Bernstein bounds: for the mean of a fixed number of losses of small variance.

Source: Maurer and Pontil (2009), "Empirical Bernstein bounds and sample variance penalization",
COLT, theorem 4, https://arxiv.org/abs/0907.3740. With V the unbiased sample variance, the mean of
N independent losses in [0, 1] is, with probability at least 1 - delta, at most

    average + sqrt(2 V ln(2 / delta) / N) + 7 ln(2 / delta) / (3 (N - 1)).

It is one formula, with no order and no shuffle, for many columns at once. `wsr_upper` is tighter.
"""

from math import log

import numpy as np
import numpy.typing as npt

from selectkit.arrays import ArrayLike, regular_array
from selectkit.errors import DataError
from selectkit.stats.binomial import Float64s, check_level


def bernstein_upper(losses: ArrayLike, delta: float) -> npt.NDArray[np.float64] | float:
    """Return the empirical Bernstein upper bound of the mean of bounded losses.

    Each column's bound holds with probability at least 1 - delta; for all of M columns together
    pass delta / M.

    Args:
        losses: Shape (N,) or (N, M), in [0, 1], rows independent and identically distributed.
        delta: One-sided error level in (0, 1).

    Returns:
        The bound in (0, 1]: a float, or shape (M,); 1 where N = 1.

    Raises:
        DataError: If the shape is wrong, or a loss is not finite or outside [0, 1].
        RiskError: If delta is outside (0, 1).

    Examples:
        >>> round(bernstein_upper(np.arange(1000) < 20, 0.1), 4)
        0.0378
    """
    x = bounded_losses(losses)
    check_level(delta, "delta")
    bound = np.minimum(1.0, x.mean(axis=0) + _margin(x, delta))
    return bound if bound.ndim else float(bound)


def bernstein_lower(losses: ArrayLike, delta: float) -> npt.NDArray[np.float64] | float:
    """Return the empirical Bernstein lower bound of the mean of bounded losses.

    Args:
        losses: Shape (N,) or (N, M), in [0, 1], rows independent and identically distributed.
        delta: One-sided error level in (0, 1).

    Returns:
        The bound in [0, 1): a float, or shape (M,); 0 where N = 1.

    Raises:
        DataError: If the shape is wrong, or a loss is not finite or outside [0, 1].
        RiskError: If delta is outside (0, 1).
    """
    x = bounded_losses(losses)
    check_level(delta, "delta")
    bound = np.maximum(0.0, x.mean(axis=0) - _margin(x, delta))
    return bound if bound.ndim else float(bound)


def bounded_losses(losses: ArrayLike) -> Float64s:
    """Return losses as float64, checked.

    Args:
        losses: Shape (N,) or (N, M), N >= 1, real numbers in [0, 1].

    Returns:
        The losses, not copied when they are float64 already: not to be changed.

    Raises:
        DataError: If the shape or the dtype is wrong, or a loss is not finite or outside [0, 1].
    """
    array = regular_array(losses, "losses")
    if array.dtype.kind not in "fiub":
        raise DataError(f"losses must be real numbers, got dtype {array.dtype}.")
    if array.ndim not in {1, 2} or array.size == 0:
        raise DataError(f"losses must have shape (N,) or (N, M), N >= 1; got {array.shape}.")
    x: Float64s = array.astype(np.float64, copy=False)
    if not (x.min() >= 0 and x.max() <= 1):  # NaN compares as false
        place = tuple(int(i) for i in np.argwhere(~((x >= 0) & (x <= 1)))[0])
        raise DataError(f"losses must lie in [0, 1], got {x[place]:.6g} in row {place[0]}.")
    return x


def _margin(x: Float64s, delta: float) -> Float64s:
    n, nats = len(x), log(2 / delta)
    if n == 1:
        return np.ones(x.shape[1:])
    variance = x.var(axis=0, ddof=1)
    return np.asarray(np.sqrt(2 * variance * nats / n) + 7 * nats / (3 * (n - 1)))
