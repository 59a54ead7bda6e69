"""How surely a rule will pass its test on other rows, by what is expected of it."""

import numpy as np

from selectkit.policies.outputs import Float64s


def margin(errors: Float64s, n: Float64s, alpha: float, growth: float) -> Float64s:
    """Return how surely a rate will be certified to be at most alpha: about a normal quantile.

    The signed root of twice the log-likelihood ratio of the level against the rate that is
    expected, at the number of rows that is expected.

    Args:
        errors: Counted or expected errors, shape (M,).
        n: The rows they are among, shape (M,).
        alpha: Largest allowed rate, in (0, 1).
        growth: How many rows will be tested for each of these.

    Returns:
        Shape (M,); -inf where there are no rows, as no test can pass there.
    """
    some = n > 1e-9
    size = np.maximum(n, 0) * growth
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = np.clip(np.where(some, errors / n, alpha), 0.0, 1.0)
        lost = np.where(rate > 0, rate * np.log(rate / alpha), 0.0)
        kept = np.where(rate < 1, (1 - rate) * np.log((1 - rate) / (1 - alpha)), 0.0)
    surely = np.sign(alpha - rate) * np.sqrt(2 * size * np.maximum(lost + kept, 0.0))
    return np.asarray(np.where(some, surely, -np.inf))
