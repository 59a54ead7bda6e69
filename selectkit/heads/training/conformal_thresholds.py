"""Thresholds that keep a risk on a batch, as differentiable functions of the batch's scores.

Conformal risk control allows k of n rows to be lost when (k + 1) / (n + 1) <= alpha (Angelopoulos
et al., ICLR 2024, https://arxiv.org/abs/2208.02814, theorem 1 with losses 0 and 1). The threshold
is then the score of a row, or where the loss is smooth the root of an equation; both have a
gradient (Yeh et al., NeurIPS 2025, https://arxiv.org/abs/2510.08748).

Sizes: n rows, M configurations.
"""

from collections.abc import Callable
from math import ceil, floor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_ROUNDING = 1e-9
_HALVINGS = 30
_SMALLEST_SLOPE = 1e-6


def allowed_misses(n: int, alpha: float) -> int:
    """Return how many of n rows may be lost: the largest k with (k + 1) / (n + 1) <= alpha.

    Args:
        n: Rows, at least 0.
        alpha: Rate in (0, 1).

    Returns:
        k, or -1 when not even k = 0 will do.
    """
    return max(-1, floor(alpha * (n + 1) - 1 + _ROUNDING))


def rows_needed(alpha: float) -> int:
    """Return the smallest n of which k = 0 rows may be lost, 1 / alpha - 1 rounded up."""
    return max(1, ceil(1 / alpha - 1 - _ROUNDING))


def order_threshold(scores: "Tensor", rank: int, half_width: int = 0) -> "Tensor":
    """Return the mean of the order statistics around a rank.

    With `half_width = 0` that is one row's score, and its gradient goes to that row alone; the mean
    over a window has less variance. At the ends the window is narrower, so that it stays centred.

    Args:
        scores: Shape (n, M).
        rank: From 0, the smallest; `rank` rows lie below the threshold.
        half_width: Neighbours taken in on either side.

    Returns:
        Shape (M,).
    """
    width = min(half_width, rank, len(scores) - 1 - rank)
    ordered = scores.sort(dim=0, stable=True).values
    return ordered[rank - width : rank + width + 1].mean(dim=0)


def implicit_threshold(
    losses: "Callable[[Tensor], Tensor]", low: "Tensor", high: "Tensor", budget: float
) -> "Tensor":
    """Return the root t of sum_i losses_i(t) = budget, with its implicit gradient.

    dt/d theta = -(sum_i d losses_i / d theta) / (sum_i d losses_i / dt), the denominator at least
    1e-6. Where no root lies in [low, high], the threshold is the end that is nearer to the budget
    and has no gradient.

    Args:
        losses: Maps thresholds (M,) to losses (n, M) that do not fall as the threshold rises.
        low: Smallest threshold, (M,).
        high: Largest threshold, (M,).
        budget: What the losses may sum up to.

    Returns:
        Shape (M,).
    """
    import torch

    with torch.no_grad():
        inside = losses(low).sum(dim=0) <= budget
        inside &= losses(high).sum(dim=0) >= budget
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            above = losses(middle).sum(dim=0) > budget
            low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    with torch.enable_grad():
        free = ((low + high) / 2).detach().requires_grad_()
        total = losses(free).sum(dim=0)
        (slope,) = torch.autograd.grad(total.sum(), free)
        slope = slope.clamp(min=_SMALLEST_SLOPE)
        step = (total.detach() - budget) / slope  # of Newton, for the last digits
        root = torch.clamp(free.detach() - step, low, high)
        total = losses(root).sum(dim=0)
        change = (total - total.detach()) / slope
    return root - torch.where(inside, change, torch.zeros_like(change))
