"""The learning rate, and the decay of the moving average, at every step."""

from math import ceil, cos, pi


def learning_rate_at(step: int, total: int, peak: float = 1.0, warm_up: float = 0.05) -> float:
    """Linear warm-up to `peak`, then a cosine towards zero; steps are those of the optimiser.

    Source: Loshchilov and Hutter 2017, https://arxiv.org/abs/1608.03983, equation 5, no restarts.

    Args:
        step: From 0 to total - 1.
        total: Number of steps T.
        peak: Largest learning rate.
        warm_up: Share of the steps, rounded up to W steps, at most T - 1.

    Returns:
        peak (step + 1) / W during the warm-up, then
        peak / 2 (1 + cos(pi (step - W) / (T - W))).
    """
    w = min(ceil(warm_up * total), total - 1)
    if step < w:
        return peak * (step + 1) / w
    return 0.5 * peak * (1 + cos(pi * (step - w) / (total - w)))


def horizon_decay(total: int) -> float:
    """Return 1 - 1 / (0.1 total) within [0, 0.9999]: a horizon of a tenth of the training."""
    return min(max(1 - 10 / total, 0.0), 0.9999)


def average_decay(step: int, total: int) -> float:
    """Decay of the moving average with a warm-up, without which it would keep its initial weights.

    Args:
        step: From 0 to total - 1.
        total: Number of steps.

    Returns:
        min(d, (1 + step) / (10 + step)) with d = `horizon_decay(total)`.
    """
    return min(horizon_decay(total), (1 + step) / (10 + step))
