"""One positive factor that gives scores without a scale (distances, regressions) one as logits."""

from math import sqrt

import numpy as np

from selectkit.arrays import Floats, Ints, log_softmax

_BOUNDS = (1e-6, 1e6)


def best_scale(scores: Floats, labels: Ints) -> tuple[float, float]:
    """Return the b > 0 for which softmax(b scores) is most likely, and its mean NLL in nats.

    The NLL is convex in b, so bisection on its slope finds the minimum; scores that are right every
    time get the largest b, and scores that are no better than chance the smallest.

    Args:
        scores: Shape (M, K), finite.
        labels: Shape (M,), codes in [0, K).

    Returns:
        b, within [1e-6, 1e6] over the largest spread of a row, to a relative 1e-6; and the NLL.
    """
    z = np.asarray(scores, dtype=np.float64)
    z = z - z.max(axis=1, keepdims=True)
    spread = float(-z.min()) or 1.0
    z /= spread
    at = np.arange(len(z)), labels
    own = z[at]

    def slope(b: float) -> float:
        p = np.exp(b * z)
        return float(np.mean((p * z).sum(axis=1) / p.sum(axis=1) - own))

    low, high = _BOUNDS
    while high > low * (1 + 1e-6):
        middle = sqrt(low * high)
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return low / spread, float(-log_softmax(low * z)[at].mean())
