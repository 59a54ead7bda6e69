"""Bounds and p-values for the mean of losses anywhere in [0, 1].

For 0/1 losses use the exact tools of `selectkit.stats.binomial`; they are tighter. Betting (WSR) is
the tightest otherwise; Hoeffding-Bentkus needs nothing but the mean.

Betting: a gambler who believes that the mean is below m bets a share nu_j of the wealth on it
before seeing x_j. While the mean is at least m, the wealth prod_j (1 - nu_j (x_j - m)) is a
nonnegative supermartingale that starts at 1, so that it ever exceeds 1 / delta with probability at
most delta (Ville). Any bets that depend on earlier losses only are allowed; these aim at the
variance seen so far. Source: Waudby-Smith and Ramdas (2024), "Estimating means of bounded random
variables by betting", JRSS-B 86, https://arxiv.org/abs/2010.09686, predictable plug-in bets.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import overload

import numpy as np
import numpy.typing as npt

from selectkit.arrays import (
    ArrayLike,
    Bools,
    finite_matrix,
    finite_vector,
    real_array,
    regular_array,
)
from selectkit.errors import DataError
from selectkit.stats.binomial import (
    Float64s,
    binomial_pvalue,
    check_level,
    clopper_pearson_upper,
)

_BLOCK = 2**16  # numbers that are worked on at a time
_TOLERANCE = 1e-9


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
    hoeffding = _root_above(
        lambda a: m * _entropy(np.minimum(r, a), a) - np.log(1 / delta), len(r), low=r
    )
    bentkus = clopper_pearson_upper(_count(r, m), m, delta / np.e)
    bound = np.minimum(hoeffding, bentkus).reshape(mean.shape)
    return bound if bound.ndim else float(bound)


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

    return _root_above(excess, len(x), tries=_likely(x, bets, target))


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


def _root_above(
    rising: Callable[[Float64s], Float64s],
    size: int,
    low: Float64s | None = None,
    tries: Sequence[Float64s] = (),
) -> Float64s:
    """Where each of `size` rising functions passes 0 in [low, 1], rounded up; 1 if nowhere.

    Looks at the tries first; then the method of false position with Illinois' halving, and a
    bisection every third step.
    """
    below = np.zeros(size) if low is None else np.array(low, dtype=np.float64)
    above = np.ones(size)
    f_below, f_above = rising(below), rising(above)
    passes, last = f_above > 0, np.zeros(size)
    for step in range(150):
        open_ = passes & (above - below > _TOLERANCE)
        if not open_.any():
            break
        if step < len(tries):
            at = tries[step]
        elif step % 3 == 2:
            at = (below + above) / 2
        else:
            with np.errstate(invalid="ignore", divide="ignore"):
                slope = (f_above - f_below) / (above - below)
                at = np.where(np.isfinite(slope), above - f_above / slope, (below + above) / 2)
        at = np.where(open_, np.clip(at, below + _TOLERANCE / 2, above - _TOLERANCE / 2), above)
        value = rising(at)
        up, down = open_ & (value > 0), open_ & ~(value > 0)
        f_below = np.where(down, value, np.where(up & (last > 0), f_below / 2, f_below))
        f_above = np.where(up, value, np.where(down & (last < 0), f_above / 2, f_above))
        below, above = np.where(down, at, below), np.where(up, at, above)
        last = np.where(up, 1, np.where(down, -1, last))
    return above


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
