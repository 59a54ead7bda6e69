"""Confidence sequences: bounds of a mean that hold at all times at once, however often one looks.

A bound for a fixed N (Clopper-Pearson, Bernstein) that is recomputed as samples come fails sooner
or later. The bounds here satisfy P(there is any t at which the bound is wrong) <= delta.

`anytime_lower` and `anytime_upper` need only a sum and a count. The bet of the share kappa of the
capital on "the mean exceeds m" multiplies it by 1 - kappa + kappa x / m, which is on average at
most 1 if the conditional mean of x never exceeds m, and falls as m grows. Capital spread over a
fixed grid of kappa exceeds 1 / delta with probability at most delta (Ville), so every m at which
it does is excluded. For x between 0 and 1 the logarithm is concave in x, so that counting x as the
fraction x of an error and 1 - x of a success is a lower bound of the capital: valid for all bounded
losses, exact for 0/1 losses. Source: Waudby-Smith and Ramdas (2024), "Estimating means of bounded
random variables by betting", JRSS-B 86, https://arxiv.org/abs/2010.09686; sub-Bernoulli bounds as
in Howard, Ramdas, McAuliffe and Sekhon (2021), Annals of Statistics 49.

`bernstein_sequence` is tighter for losses of small variance: theorem 2 of the first paper.
"""

from math import log
from typing import Any, Literal, NamedTuple, TypeAlias, overload

import numpy as np
import numpy.typing as npt

from selectkit.arrays import ArrayLike, real_array
from selectkit.errors import DataError, RiskError
from selectkit.stats.bernstein import bounded_losses
from selectkit.stats.binomial import Float64s, check_level

Number: TypeAlias = float | np.integer[Any] | np.floating[Any]
Numbers: TypeAlias = npt.NDArray[np.integer[Any]] | npt.NDArray[np.floating[Any]]

_ODDS = np.geomspace(1e-5, 1e3, 33)
_SHARES = _ODDS / (1 + _ODDS)  # kappa: of the capital, bet on every sample
_TINY = float(np.finfo(np.float64).tiny)
_BLOCK = 16_384


class ConfidenceSequence(NamedTuple):
    """Bounds after each sample.

    Attributes:
        lower: Shape (T,) or (T, M), in [0, 1].
        upper: The same shape; never below `lower`.
    """

    lower: Float64s
    upper: Float64s


@overload
def anytime_lower(total: Number, n: Number, delta: float) -> float: ...
@overload
def anytime_lower(total: Numbers | Number, n: Numbers, delta: float) -> Float64s: ...
@overload
def anytime_lower(total: Numbers, n: Number, delta: float) -> Float64s: ...
def anytime_lower(total: Numbers | Number, n: Numbers | Number, delta: float) -> Float64s | float:
    """Return the lower bound of a mean of [0, 1] losses that holds at all times at once.

    If the conditional mean changes over time, the bound is one of its largest value so far: "the
    risk has been above this".

    Args:
        total: Sum of the losses so far, in [0, n]; scalar or array, broadcast against `n`. With
            weights in [0, 1] that were known before the losses: the sum of weight times loss.
        n: Number of losses so far, >= 0; with weights, their sum.
        delta: Probability that the bound is wrong at any time, in (0, 1).

    Returns:
        The bound in [0, 1), a float for scalars; 0 where n = 0 or total = 0.

    Raises:
        DataError: If total or n is not finite, negative, or total exceeds n.
        RiskError: If delta is outside (0, 1).

    Examples:
        >>> round(anytime_lower(60, 1000, 0.05), 4), anytime_lower(0, 1000, 0.05)
        (0.0375, 0.0)
    """
    errors, size = _sums(total, n)
    bound = _lower(errors, size - errors, delta)
    return bound if bound.ndim else float(bound)


@overload
def anytime_upper(total: Number, n: Number, delta: float) -> float: ...
@overload
def anytime_upper(total: Numbers | Number, n: Numbers, delta: float) -> Float64s: ...
@overload
def anytime_upper(total: Numbers, n: Number, delta: float) -> Float64s: ...
def anytime_upper(total: Numbers | Number, n: Numbers | Number, delta: float) -> Float64s | float:
    """Return the upper bound of a mean of [0, 1] losses that holds at all times at once.

    If the conditional mean changes over time, the bound is one of its smallest value so far. For
    both sides together use delta / 2 for each.

    Args:
        total: Sum of the losses so far, in [0, n]; scalar or array, broadcast against `n`.
        n: Number of losses so far, >= 0.
        delta: Probability that the bound is wrong at any time, in (0, 1).

    Returns:
        The bound in (0, 1], a float for scalars; 1 where n = 0 or total = n.

    Raises:
        DataError: If total or n is not finite, negative, or total exceeds n.
        RiskError: If delta is outside (0, 1).

    Examples:
        >>> round(anytime_upper(0, 149, 0.05), 4)  # Clopper-Pearson, for one look: 0.0199
        0.0278
    """
    errors, size = _sums(total, n)
    bound = 1 - _lower(size - errors, errors, delta)
    return bound if bound.ndim else float(bound)


def bernstein_sequence(
    losses: ArrayLike, delta: float, *, sides: Literal[1, 2] = 2
) -> ConfidenceSequence:
    """Return the predictable plug-in empirical Bernstein confidence sequence of a constant mean.

    Args:
        losses: Shape (T,) or (T, M), in [0, 1], in order of arrival; the mean of each, given those
            before it, is the same. Columns are streams of their own.
        delta: Probability that a bound is wrong at any time, in (0, 1), for each column.
        sides: 2: both bounds hold together at level delta. 1: each holds at level delta, for one
            that uses only one of them.

    Returns:
        The bounds after each sample, shapes as `losses`. Not intersected over time.

    Raises:
        DataError: If the shape is wrong, or a loss is not finite or outside [0, 1].
        RiskError: If delta is outside (0, 1) or sides is neither 1 nor 2.

    Examples:
        >>> found = bernstein_sequence(np.full(1000, 0.02), 0.05)
        >>> found.lower[-1].round(3).item(), found.upper[-1].round(3).item()
        (0.012, 0.028)
    """
    x = bounded_losses(losses)
    check_level(delta, "delta")
    if sides not in {1, 2}:
        raise RiskError(f"sides must be 1 or 2, got {sides!r}.")
    nats = log(sides / delta)
    t = np.arange(1.0, len(x) + 1).reshape(-1, *[1] * (x.ndim - 1))
    means = (0.5 + np.cumsum(x, axis=0)) / (t + 1)
    variances = (0.25 + np.cumsum((x - means) ** 2, axis=0)) / (t + 1)
    bets = np.minimum(0.5, np.sqrt(2 * nats / (_before(variances, 0.25) * t * np.log1p(t))))
    spread = np.cumsum((x - _before(means, 0.5)) ** 2 * (-np.log1p(-bets) - bets), axis=0)
    weight = np.cumsum(bets, axis=0)
    centre, margin = np.cumsum(bets * x, axis=0) / weight, (nats + spread) / weight
    return ConfidenceSequence(np.maximum(0.0, centre - margin), np.minimum(1.0, centre + margin))


def _before(values: Float64s, first: float) -> Float64s:
    """Each row's predecessor: what was known before the sample came."""
    return np.concatenate((np.full_like(values[:1], first), values[:-1]))


def _sums(total: Numbers | Number, n: Numbers | Number) -> tuple[Float64s, Float64s]:
    errors, size = np.broadcast_arrays(real_array(total, "total"), real_array(n, "n"))
    if not (np.isfinite(size).all() and (errors >= 0).all() and (errors <= size).all()):
        raise DataError("total must lie between 0 and n, and n be finite, in every entry.")
    return errors, size


def _lower(errors: Float64s, successes: Float64s, delta: float) -> Float64s:
    """Bisection for the largest m that is excluded, in blocks that bound the memory."""
    check_level(delta, "delta")
    bound = np.empty(errors.size)
    flat = errors.ravel(), successes.ravel()
    for start in range(0, errors.size, _BLOCK):
        part = slice(start, start + _BLOCK)
        bound[part] = _bisect(flat[0][part], flat[1][part], -log(delta))
    return bound.reshape(errors.shape)


def _bisect(errors: Float64s, successes: Float64s, nats: float) -> Float64s:
    low = np.zeros(len(errors))
    high = errors / np.maximum(errors + successes, _TINY)
    for _ in range(50):
        middle = (low + high) / 2
        excluded = _log_capital(errors, successes, middle) > nats
        low, high = np.where(excluded, middle, low), np.where(excluded, high, middle)
    return low


def _log_capital(errors: Float64s, successes: Float64s, mean: Float64s) -> Float64s:
    """Log of the average capital over the grid of bets, against each mean."""
    gains = np.log1p(_SHARES[:, None] * (1 / np.maximum(mean, _TINY) - 1))
    capital = errors * gains + successes * np.log1p(-_SHARES)[:, None]
    top = capital.max(axis=0)
    return np.asarray(top + np.log(np.exp(capital - top).mean(axis=0)))
