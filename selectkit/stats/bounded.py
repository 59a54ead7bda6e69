"""Betting (WSR): the tightest bounds and p-values for the mean of losses anywhere in [0, 1].

For 0/1 losses use the exact tools of `selectkit.stats.binomial`; they are tighter.

A gambler who believes that the mean is below m bets a share nu_j of the wealth on it
before seeing x_j. While the mean is at least m, the wealth prod_j (1 - nu_j (x_j - m)) is a
nonnegative supermartingale that starts at 1, so that it ever exceeds 1 / delta with probability at
most delta (Ville). Any bets that depend on earlier losses only are allowed; these aim at the
variance seen so far. Source: Waudby-Smith and Ramdas (2024), "Estimating means of bounded random
variables by betting", JRSS-B 86, https://arxiv.org/abs/2010.09686, predictable plug-in bets.
"""

from collections.abc import Iterator

import numpy as np

from selectkit.arrays import (
    ArrayLike,
    Bools,
    finite_matrix,
    finite_vector,
    regular_array,
)
from selectkit.errors import DataError
from selectkit.stats.binomial import Float64s, check_level
from selectkit.stats.roots import root_above

_BLOCK = 2**16  # numbers that are worked on at a time


def wsr_upper(losses: ArrayLike, delta: float, rng: np.random.Generator) -> float:
    """Return the betting upper bound of the mean of bounded losses.

    The losses are shuffled first, by a permutation that is drawn before any value is looked at: the
    bound depends on their order, and a sorted input would spoil it. With independent rows the bound
    holds for every such permutation; if somebody arranged the rows by value, it holds over the draw
    of the permutation, too.

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
    x = finite_vector(losses, "losses")[:, None]
    return float(wsr_uppers(x, delta, rng)[0])


def wsr_uppers(
    losses: ArrayLike,
    delta: float,
    rng: np.random.Generator,
    *,
    counted: ArrayLike | None = None,
) -> Float64s:
    """Return the betting upper bound of each of M means, each with its own error level.

    Args:
        losses: Shape (N, M), in [0, 1]; rows independent, shuffled as in `wsr_upper`, all columns
            in the same way.
        delta: One-sided error level in (0, 1).
        rng: Source of the shuffle.
        counted: Booleans of shape (N, M): rows that count for a mean, such as the accepted ones.
            Given them, the losses that count must be independent with that mean. None: all.

    Returns:
        Shape (M,), in (0, 1], exact to 1e-9 and rounded up; 1 where no row counts.

    Raises:
        DataError: If a counted loss is not finite or outside [0, 1].
        RiskError: If delta is outside (0, 1).
    """
    check_level(delta, "delta")
    x, counts = _losses(losses, counted)
    bounds = np.empty(x.shape[1])
    for columns, rows, bets in _games(x, counts, delta, rng):
        bounds[columns] = betting_upper(rows, bets, delta)
    return bounds


def wsr_pvalue(
    losses: ArrayLike, alpha: float, rng: np.random.Generator, *, delta: float = 0.1
) -> float:
    """Return the betting p-value of "the mean loss is at least alpha": one over the largest wealth.

    `wsr_upper` at the level delta with the same shuffle is below alpha exactly when this p-value is
    below delta.

    Args:
        losses: Shape (N,), in [0, 1], independent and identically distributed.
        alpha: Mean under test, in (0, 1).
        rng: Source of the shuffle, as in `wsr_upper`.
        delta: The level at which the bets are aimed; the p-value is valid at every level.

    Returns:
        The p-value in (0, 1].

    Raises:
        DataError: If a loss is not finite or outside [0, 1].
        RiskError: If alpha or delta is outside (0, 1).
    """
    x = finite_vector(losses, "losses")[:, None]
    return float(wsr_pvalues(x, alpha, rng, delta=delta)[0])


def wsr_pvalues(
    losses: ArrayLike,
    alpha: float,
    rng: np.random.Generator,
    *,
    delta: float = 0.1,
    counted: ArrayLike | None = None,
) -> Float64s:
    """Return the betting p-value of each of M means.

    Args:
        losses: Shape (N, M), in [0, 1]; rows independent.
        alpha: Mean under test, in (0, 1).
        rng: Source of the shuffle, the same for all columns.
        delta: The level at which the bets are aimed; the p-values are valid at every level.
        counted: As in `wsr_uppers`.

    Returns:
        Shape (M,), in (0, 1]; 1 where no row counts.

    Raises:
        DataError: If a counted loss is not finite or outside [0, 1].
        RiskError: If alpha or delta is outside (0, 1).
    """
    check_level(alpha, "alpha")
    check_level(delta, "delta")
    x, counts = _losses(losses, counted)
    pvalues = np.empty(x.shape[1])
    for columns, rows, bets in _games(x, counts, delta, rng):
        best = log_wealth(rows, bets, np.full(len(rows), alpha))
        pvalues[columns] = np.exp(-np.maximum(best, 0.0))
    return pvalues


def _losses(losses: ArrayLike, counted: ArrayLike | None) -> tuple[Float64s, Bools | None]:
    """Losses (N, M), zero where they do not count; which count."""
    x, counts = regular_array(losses, "losses"), None
    if counted is not None:
        counts = regular_array(counted, "counted")
        if counts.dtype != np.bool_ or counts.shape != x.shape:
            raise DataError(
                f"counted must be booleans of the shape {x.shape} of the losses, "
                f"got {counts.dtype} of shape {counts.shape}."
            )
        x = np.where(counts, x, 0.0)
    x = finite_matrix(x, "losses")
    if x.min() < 0 or x.max() > 1:
        raise DataError(f"losses must lie in [0, 1], got {x.min():.6g} to {x.max():.6g}.")
    return x, counts


def _games(
    x: Float64s, counts: Bools | None, delta: float, rng: np.random.Generator
) -> Iterator[tuple[slice, Float64s, Float64s]]:
    """Shuffled losses and the bets on them, some columns at a time, as rows."""
    n, m = x.shape
    order = rng.permutation(n)
    step = max(1, _BLOCK // n)
    for first in range(0, m, step):
        columns = slice(first, first + step)
        rows = np.ascontiguousarray(x[order, columns].T)
        on = None if counts is None else np.ascontiguousarray(counts[order, columns].T)
        yield columns, rows, shares(rows, on, delta)


def shares(x: Float64s, on: Bools | None, delta: float) -> Float64s:
    """Return the shares of the wealth to bet, each from the losses before it only.

    Args:
        x: Shape (M, N), losses in [0, 1], 0 where they do not count; M games of N rounds.
        on: Shape (M, N), which count; None: all.
        delta: The level at which the bets are aimed.

    Returns:
        nu_j, shape (M, N), in [0, 1]; 0 where a loss does not count.
    """
    seen = np.arange(1, x.shape[1] + 1) if on is None else np.cumsum(on, axis=1)
    total = np.maximum(seen[..., -1:], 1)
    spread = x - (0.5 + np.cumsum(x, axis=1)) / (seen + 1)
    spread *= spread
    if on is not None:
        spread *= on
    variances = (0.25 + np.cumsum(spread, axis=1)) / (seen + 1)
    bets = np.empty_like(x)
    bets[:, 0] = 0.25
    bets[:, 1:] = variances[:, :-1]
    bets *= total / (2 * np.log(1 / delta))
    np.sqrt(bets, out=bets)
    np.divide(1.0, np.maximum(bets, 1.0, out=bets), out=bets)  # min(1, 1 / x)
    if on is not None:
        bets *= on
    return bets


def betting_upper(x: Float64s, bets: Float64s, delta: float) -> Float64s:
    """Return the smallest mean against which each game wins more than 1 / delta.

    Args:
        x: Shape (M, N), losses.
        bets: Shape (M, N), of `shares`.
        delta: One-sided error level in (0, 1).

    Returns:
        Shape (M,), the upper bounds, exact to 1e-9 and rounded up.
    """
    target = float(np.log(1 / delta))

    def excess(mean: Float64s) -> Float64s:
        return np.asarray(log_wealth(x, bets, mean) - target)

    return root_above(excess, len(x), tries=_likely(x, bets, target))


def _likely(x: Float64s, bets: Float64s, target: float) -> tuple[Float64s, Float64s]:
    """Where the bound is likely to be: just below, and just above."""
    on = bets > 0
    n = np.maximum(on.sum(axis=1), 1)
    mean = x.sum(axis=1) / n
    variance = np.maximum((x * x).sum(axis=1) / n - mean**2, 0)
    width = np.sqrt(2 * variance * target / n) + target / n
    return mean + 0.7 * width, mean + 0.95 * width


def log_wealth(x: Float64s, bets: Float64s, mean: Float64s) -> Float64s:
    """Return the largest log wealth of each game.

    Args:
        x: Shape (M, N), losses.
        bets: Shape (M, N), of `shares`.
        mean: Shape (M,), the mean that each game bets against.

    Returns:
        Shape (M,); minus it, cut at 0, is the log of the p-value.
    """
    wealth = mean[:, None] - x
    wealth *= bets
    with np.errstate(divide="ignore"):  # a bet may lose everything
        np.log1p(wealth, out=wealth)
    np.cumsum(wealth, axis=1, out=wealth)
    return np.asarray(wealth.max(axis=1))
