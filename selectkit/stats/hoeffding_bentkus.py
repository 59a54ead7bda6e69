"""Hoeffding-Bentkus: bounds and p-values that need nothing but the mean of losses in [0, 1]."""

from typing import overload

import numpy as np
import numpy.typing as npt

from selectkit.arrays import real_array, regular_array
from selectkit.errors import DataError
from selectkit.stats.binomial import (
    Float64s,
    binomial_pvalue,
    check_level,
    clopper_pearson_upper,
)
from selectkit.stats.roots import root_above


@overload
def hoeffding_bentkus_pvalue(mean_loss: float, n: int, alpha: float) -> float: ...
@overload
def hoeffding_bentkus_pvalue(
    mean_loss: Float64s, n: int | npt.NDArray[np.integer], alpha: float
) -> Float64s: ...
def hoeffding_bentkus_pvalue(
    mean_loss: float | Float64s, n: int | npt.NDArray[np.integer], alpha: float
) -> float | Float64s:
    """Return the Hoeffding-Bentkus p-value of "the mean loss exceeds alpha".

    Source: Bates, Angelopoulos, Lei, Malik and Jordan (2021), "Distribution-free, risk-controlling
    prediction sets", JACM 68: the smaller of exp(-n h(min(r, alpha), alpha)) and
    e P(Bin(n, alpha) <= ceil(n r)), with h the relative entropy of two coins.

    Args:
        mean_loss: Mean of n losses in [0, 1]; scalar or array, broadcast against `n`.
        n: Number of losses, >= 1.
        alpha: Mean under test, in (0, 1).

    Returns:
        The p-value in (0, 1], a float for scalars.

    Raises:
        DataError: If a mean lies outside [0, 1] or n < 1.
        RiskError: If alpha is outside (0, 1).

    Examples:
        >>> round(hoeffding_bentkus_pvalue(0.01, 1000, 0.02), 5)
        0.02783
    """
    mean, size = _means(mean_loss, n)
    check_level(alpha, "alpha")
    hoeffding = np.exp(-size * _entropy(np.minimum(mean, alpha), np.asarray(alpha)))
    bentkus = np.e * binomial_pvalue(_count(mean, size), size, alpha)
    p = np.asarray(np.minimum(1.0, np.minimum(hoeffding, bentkus)))
    return p if p.ndim else float(p)


@overload
def hoeffding_bentkus_upper(mean_loss: float, n: int, delta: float) -> float: ...
@overload
def hoeffding_bentkus_upper(
    mean_loss: Float64s, n: int | npt.NDArray[np.integer], delta: float
) -> Float64s: ...
def hoeffding_bentkus_upper(
    mean_loss: float | Float64s, n: int | npt.NDArray[np.integer], delta: float
) -> float | Float64s:
    """Return the smallest mean whose Hoeffding-Bentkus p-value is at most delta.

    Args:
        mean_loss: Mean of n losses in [0, 1]; scalar or array, broadcast against `n`.
        n: Number of losses, >= 1.
        delta: One-sided error level in (0, 1).

    Returns:
        The bound in (0, 1], exact to 1e-9 and rounded up, a float for scalars.

    Raises:
        DataError: If a mean lies outside [0, 1] or n < 1.
        RiskError: If delta is outside (0, 1).

    Examples:
        >>> round(hoeffding_bentkus_upper(0.01, 1000, 0.1), 4)
        0.0175
    """
    mean, size = np.broadcast_arrays(*_means(mean_loss, n))
    check_level(delta, "delta")
    r, m = mean.ravel(), size.ravel()
    hoeffding = root_above(
        lambda a: m * _entropy(np.minimum(r, a), a) - np.log(1 / delta), len(r), low=r
    )
    bentkus = clopper_pearson_upper(_count(r, m), m, delta / np.e)
    bound = np.minimum(hoeffding, bentkus).reshape(mean.shape)
    return bound if bound.ndim else float(bound)


def _means(
    mean_loss: float | Float64s, n: int | npt.NDArray[np.integer]
) -> tuple[Float64s, npt.NDArray[np.int64]]:
    mean, size = real_array(mean_loss, "mean_loss"), regular_array(n, "n")
    if not ((mean >= 0) & (mean <= 1)).all():
        raise DataError(f"mean_loss must lie in [0, 1], got {mean_loss}.")
    if size.dtype.kind not in "iu" or (size < 1).any():
        raise DataError(f"n must be at least 1, got {n}.")
    return mean, size.astype(np.int64)


def _count(mean: Float64s, n: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """ceil(n mean), not fooled by the rounding of the mean."""
    return np.minimum(n, np.ceil(n * mean - 1e-9)).astype(np.int64)


def _entropy(rate: Float64s, alpha: Float64s) -> Float64s:
    """Relative entropy of coins with the chances rate <= alpha; 0 <= alpha <= 1."""
    from scipy.special import rel_entr

    return np.asarray(rel_entr(rate, alpha) + rel_entr(1 - rate, 1 - alpha))
