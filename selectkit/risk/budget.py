"""How many labels a promise costs, and how many errors it affords."""

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from selectkit.errors import DataError
from selectkit.stats.binomial import binomial_pvalue, check_level


def labels_needed(alpha: float, delta: float, errors: int = 0) -> int:
    """Return the smallest sample that certifies an error rate despite some errors.

    It is the smallest n with P(Bin(n, alpha) <= errors) <= delta: with fewer samples and as many
    errors, no exact test can tell a rate below alpha from alpha.

    Args:
        alpha: Error rate to certify, in (0, 1).
        delta: Allowed probability that the promise fails, in (0, 1).
        errors: Errors in the sample, >= 0.

    Returns:
        The number of samples: positives for a false-negative rate, accepted samples for a
        selective error.

    Raises:
        RiskError: If alpha or delta is outside (0, 1).
        DataError: If errors is negative.

    Examples:
        >>> labels_needed(0.02, 0.1), labels_needed(0.02, 0.1, errors=1)
        (114, 194)
    """
    check_level(alpha, "alpha")
    check_level(delta, "delta")
    if errors < 0:
        raise DataError(f"errors must be at least 0, got {errors}.")
    return _labels_needed(float(alpha), float(delta), int(errors))


@lru_cache(maxsize=4096)
def _labels_needed(alpha: float, delta: float, errors: int) -> int:
    from scipy.special import betaincc

    low, high = errors, errors + 1  # P(Bin(errors, alpha) <= errors) = 1 > delta
    while betaincc(errors + 1, high - errors, alpha) > delta:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        passes = betaincc(errors + 1, middle - errors, alpha) <= delta
        low, high = (low, middle) if passes else (middle, high)
    return high


def labels_needed_at_rate(alpha: float, delta: float, errors: float, n: int) -> int | None:
    """Return the smallest sample that certifies alpha if the error rate stays errors / n.

    Args:
        alpha: Error rate to certify, in (0, 1).
        delta: Allowed probability that the promise fails, in (0, 1).
        errors: Errors seen, or to reckon with.
        n: Samples seen, >= 1.

    Returns:
        The smallest m such that ceil(m * errors / n) errors among m samples certify alpha (beyond
        1,024 errors up to the rounding of that count); None when the rate is not below alpha, or
        so close that eight million errors would not do.

    Raises:
        RiskError: If alpha or delta is outside (0, 1).
    """
    from scipy.special import betaincc

    if errors == 0:
        return labels_needed(alpha, delta)
    if errors >= alpha * n:
        return None

    def enough(k: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        largest = np.floor(k * n / errors + 1e-9)  # in which k is the rounded-up error count
        return np.asarray(betaincc(k + 1.0, np.maximum(largest - k, 1), alpha) <= delta)

    for few in (np.arange(1, 65), np.arange(65, 1025)):
        passes = enough(few)
        if passes.any():
            return labels_needed(alpha, delta, int(few[np.argmax(passes)]))
    many = 1024 * 2 ** np.arange(1, 14)
    passes = enough(many)
    if not passes.any():
        return None
    high = int(many[np.argmax(passes)])
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(np.array([middle]))[0] else (middle, high)
    return labels_needed(alpha, delta, high)


@lru_cache(maxsize=4096)
def errors_affordable(n: int, alpha: float, delta: float) -> int:
    """Return the largest k with P(Bin(n, alpha) <= k) <= delta, or -1 when there is none.

    Args:
        n: Samples, >= 0.
        alpha: Error rate to certify, in (0, 1).
        delta: Level in (0, 1).

    Returns:
        Errors that n samples may contain and still certify alpha.
    """
    low, high = -1, n  # P(Bin(n, alpha) <= n) = 1 > delta
    while high - low > 1:
        middle = (low + high) // 2
        passes = binomial_pvalue(middle, n, alpha) <= delta
        low, high = (middle, high) if passes else (low, middle)
    return low
