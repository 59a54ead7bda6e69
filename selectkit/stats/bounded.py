"""Bounds and p-values for the mean of losses anywhere in [0, 1].

For 0/1 losses use the exact tools of `selectkit.stats.binomial`; they are tighter.
"""

import numpy as np

from selectkit.arrays import ArrayLike, finite_vector
from selectkit.errors import DataError
from selectkit.stats.binomial import Float64s, binomial_pvalue, check_level


def wsr_upper(losses: ArrayLike, delta: float, rng: np.random.Generator) -> float:
    """Return the betting upper bound of the mean of bounded losses.

    The losses are shuffled first: the bound depends on their order, and a sorted input would
    spoil it. Source: Waudby-Smith and Ramdas (2024), "Estimating means of bounded random
    variables by betting", JRSS-B 86, predictable plug-in bets; the bound inverts the test that
    the wealth prod_j (1 - nu_j (x_j - m)) ever exceeds 1 / delta.

    Args:
        losses: Shape (N,), in [0, 1], independent and identically distributed.
        delta: One-sided error level in (0, 1).
        rng: Source of the shuffle.

    Returns:
        The bound in (0, 1], exact to 1e-9 and rounded up.

    Raises:
        DataError: If a loss is not finite or outside [0, 1].
        RiskError: If delta is outside (0, 1).
    """
    x = finite_vector(losses, "losses")
    if x.min() < 0 or x.max() > 1:
        raise DataError(f"losses must lie in [0, 1], got {x.min():.6g} to {x.max():.6g}.")
    check_level(delta, "delta")
    rng.shuffle(x)
    bets = _bets(x, delta)

    def excluded(mean: float) -> bool:
        with np.errstate(divide="ignore"):  # a bet may lose everything: log wealth -inf
            wealth = np.cumsum(np.log1p(-bets * (x - mean)))
        return bool(wealth.max() > -np.log(delta))

    low, high = 0.0, 1.0
    if not excluded(high):
        return 1.0
    while high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (low, middle) if excluded(middle) else (middle, high)
    return high


def _bets(x: Float64s, delta: float) -> Float64s:
    """Bets nu_j, each from the losses before j only."""
    n, i = len(x), np.arange(1, len(x) + 1)
    means = (0.5 + np.cumsum(x)) / (i + 1)
    variances = (0.25 + np.cumsum((x - means) ** 2)) / (i + 1)
    before = np.concatenate(([0.25], variances[:-1]))
    return np.asarray(np.minimum(1.0, np.sqrt(2 * np.log(1 / delta) / (n * before))))


def hoeffding_bentkus_pvalue(mean_loss: float, n: int, alpha: float) -> float:
    """Return the Hoeffding-Bentkus p-value of "the mean loss exceeds alpha".

    Source: Bates, Angelopoulos, Lei, Malik and Jordan (2021), "Distribution-free, risk-controlling
    prediction sets", JACM 68: the smaller of exp(-n h(min(r, alpha), alpha)) and
    e P(Bin(n, alpha) <= ceil(n r)), with h the relative entropy of two coins.

    Args:
        mean_loss: Mean of n losses in [0, 1].
        n: Number of losses, >= 1.
        alpha: Mean under test, in (0, 1).

    Returns:
        The p-value in (0, 1].

    Raises:
        DataError: If the mean lies outside [0, 1] or n < 1.
        RiskError: If alpha is outside (0, 1).

    Examples:
        >>> round(hoeffding_bentkus_pvalue(0.01, 1000, 0.02), 5)
        0.02783
    """
    if not 0 <= mean_loss <= 1:
        raise DataError(f"mean_loss must lie in [0, 1], got {mean_loss}.")
    if n < 1:
        raise DataError(f"n must be at least 1, got {n}.")
    check_level(alpha, "alpha")
    rate = min(mean_loss, alpha)
    entropy = (1 - rate) * np.log((1 - rate) / (1 - alpha))
    if rate > 0:
        entropy += rate * np.log(rate / alpha)
    count = min(n, int(np.ceil(n * mean_loss - 1e-9)))
    return float(min(1.0, np.exp(-n * entropy), np.e * binomial_pvalue(count, n, alpha)))
