"""Exact inference for 0/1 losses: the binomial tail and its inversion.

Counts are integers from the first line to the last. Deriving them from a rounded error rate, as in
`int(n * rate)`, loses an error now and then and makes a bound too optimistic.

Source: Clopper and Pearson (1934), "The use of confidence or fiducial limits illustrated in the
case of the binomial", Biometrika 26. The tail is written with the regularised incomplete beta
function: P(Bin(n, a) <= k) = 1 - I_a(k + 1, n - k).
"""

from math import log, sqrt
from typing import TypeAlias, overload

import numpy as np
import numpy.typing as npt

from selectkit.arrays import regular_array
from selectkit.errors import DataError, RiskError

Count: TypeAlias = int | np.integer
Counts: TypeAlias = npt.NDArray[np.integer]
Float64s: TypeAlias = npt.NDArray[np.float64]

_SMALLEST = 1e-300


@overload
def clopper_pearson_upper(errors: Count, n: Count, delta: float) -> float: ...
@overload
def clopper_pearson_upper(errors: Counts, n: Counts | Count, delta: float) -> Float64s: ...
@overload
def clopper_pearson_upper(errors: Count, n: Counts, delta: float) -> Float64s: ...
def clopper_pearson_upper(
    errors: Counts | Count, n: Counts | Count, delta: float
) -> Float64s | float:
    """Return the one-sided Clopper-Pearson upper bound of an error rate.

    The true rate is at most the bound with probability at least 1 - delta, for every n.

    Args:
        errors: Number of errors, integer in [0, n]; scalar or array, broadcast against `n`.
        n: Number of samples, integer >= 0.
        delta: One-sided error level in (0, 1).

    Returns:
        The bound in (0, 1], a float for scalars; 1 where n = 0 or errors = n.

    Raises:
        DataError: If a count is no integer, negative, or errors exceed n.
        RiskError: If delta is outside (0, 1).

    Examples:
        >>> round(clopper_pearson_upper(0, 149, 0.05), 6)
        0.019905
    """
    from scipy.special import betainccinv

    k, size = _counts(errors, n)
    check_level(delta, "delta")
    full = k == size
    bound = np.where(full, 1.0, betainccinv(k + 1.0, np.where(full, 1, size - k), delta))
    return bound if bound.ndim else float(bound)


@overload
def clopper_pearson_lower(errors: Count, n: Count, delta: float) -> float: ...
@overload
def clopper_pearson_lower(errors: Counts, n: Counts | Count, delta: float) -> Float64s: ...
@overload
def clopper_pearson_lower(errors: Count, n: Counts, delta: float) -> Float64s: ...
def clopper_pearson_lower(
    errors: Counts | Count, n: Counts | Count, delta: float
) -> Float64s | float:
    """Return the one-sided Clopper-Pearson lower bound of an error rate.

    Args:
        errors: Number of errors, integer in [0, n]; scalar or array, broadcast against `n`.
        n: Number of samples, integer >= 0.
        delta: One-sided error level in (0, 1).

    Returns:
        The bound in [0, 1), a float for scalars; 0 where n = 0 or errors = 0.

    Raises:
        DataError: If a count is no integer, negative, or errors exceed n.
        RiskError: If delta is outside (0, 1).
    """
    from scipy.special import betaincinv

    k, size = _counts(errors, n)
    check_level(delta, "delta")
    bound = np.where(k == 0, 0.0, betaincinv(np.maximum(k, 1), size - k + 1.0, delta))
    return bound if bound.ndim else float(bound)


@overload
def binomial_pvalue(errors: Count, n: Count, alpha: float) -> float: ...
@overload
def binomial_pvalue(errors: Counts, n: Counts | Count, alpha: float) -> Float64s: ...
@overload
def binomial_pvalue(errors: Count, n: Counts, alpha: float) -> Float64s: ...
def binomial_pvalue(errors: Counts | Count, n: Counts | Count, alpha: float) -> Float64s | float:
    """Return P(Bin(n, alpha) <= errors), the exact p-value of "the error rate exceeds alpha".

    Args:
        errors: Number of errors, integer in [0, n]; scalar or array, broadcast against `n`.
        n: Number of samples, integer >= 0.
        alpha: Error rate under test, in (0, 1).

    Returns:
        The p-value, a float for scalars; 1 where n = 0.

    Raises:
        DataError: If a count is no integer, negative, or errors exceed n.
        RiskError: If alpha is outside (0, 1).

    Examples:
        >>> round(binomial_pvalue(10, 1000, 0.02), 5)
        0.01024
    """
    from scipy.special import betaincc

    k, size = _counts(errors, n)
    check_level(alpha, "alpha")
    full = k == size
    p = np.where(full, 1.0, betaincc(k + 1.0, np.where(full, 1, size - k), alpha))
    return p if p.ndim else float(p)


def dkw_lower(share: float, n: int, delta: float) -> float:
    """Return a lower bound for the true share of scores above a threshold, for all at once.

    Unlike a Clopper-Pearson bound it also holds at a threshold that was chosen on the same scores.

    Source: Massart (1990), "The tight constant in the Dvoretzky-Kiefer-Wolfowitz inequality",
    one-sided, which needs delta <= 1/2; a larger delta is taken as 1/2.

    Args:
        share: Observed share of N independent scores at or above the threshold.
        n: N >= 1.
        delta: Probability with which the bound may fail at any threshold.

    Returns:
        share - sqrt(ln(1 / delta) / (2 N)), at least 0.
    """
    return max(0.0, share - sqrt(log(1 / min(delta, 0.5)) / (2 * n)))


def check_level(value: float, name: str) -> None:
    """Refuse a level outside (0, 1).

    Args:
        value: The level.
        name: What the caller calls it.

    Raises:
        RiskError: If the value is not strictly between 0 and 1, or below 1e-300.
    """
    if not 0 < value < 1:
        raise RiskError(f"{name} must be strictly between 0 and 1, got {value}.")
    if value < _SMALLEST:
        raise RiskError(f"{name} = {value} is too small to compute with; take {_SMALLEST} or more.")


def _counts(errors: Counts | Count, n: Counts | Count) -> tuple[Counts, Counts]:
    k, size = regular_array(errors, "errors"), regular_array(n, "n")
    for array, name in ((k, "errors"), (size, "n")):
        if array.dtype.kind not in "iu":
            raise DataError(f"{name} must be integer counts, got dtype {array.dtype}.")
    k, size = k.astype(np.int64), size.astype(np.int64)
    if (k < 0).any() or (k > size).any():
        raise DataError("errors must lie between 0 and n in every entry.")
    return k, size
