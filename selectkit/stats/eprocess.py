"""E-processes: evidence that a mean has grown too large, which may be looked at all the time.

Null hypothesis: the mean of each loss x_t in [0, 1], given all before it, is at most m. A bet of
size lambda < 1 / m multiplies its capital by 1 + lambda (x_t - m), on average at most 1 under the
null. Capital is split evenly over L bets. When a bet is opened decides what is known about it
(j counts the losses before the opening, P_t is the product of the factors up to t):

* "never" again: one opening at j = 0. The average capital E_t is an e-process: under the null
  P(E_t >= 1 / delta at any t) <= delta (Ville's inequality). After a long quiet time the capital is
  burnt and an alarm takes as much longer.
* "spread": openings at every j with the weights 1/2 [j = 0] + 1 / (2 (j + 1)(j + 2)), which sum to
  1. Still an e-process with the same bound for all time (it is at most the martingale that keeps
  what is not opened yet as cash), but a quiet time costs only its logarithm.
* "sum": an opening of 1 at every j, the Shiryaev-Roberts e-detector. Under the null E[M_t] <= t,
  hence the first time N with M_t >= c has E[N] >= c and P(N <= t) <= t / c for every t. It is sure
  to alarm falsely some day.
* "max": the best single opening so far, the CUSUM e-detector. It never exceeds "sum", so the same
  statements hold.

Sources: Waudby-Smith and Ramdas (2024), https://arxiv.org/abs/2010.09686, for betting; Podkopaev
and Ramdas (2022), https://arxiv.org/abs/2110.06177, for monitoring a risk; Shin, Ramdas and Rinaldo
(2023), "E-detectors", New England Journal of Statistics in Data Science 2,
https://arxiv.org/abs/2203.03532.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from math import exp, isfinite
from typing import Any, Literal, Self, TypeAlias, get_args

import numpy as np

from selectkit.arrays import ArrayLike
from selectkit.errors import ArtifactError, DataError, RiskError
from selectkit.stats.bernstein import bounded_losses
from selectkit.stats.binomial import Float64s, check_level

Restarts: TypeAlias = Literal["never", "spread", "sum", "max"]
"""When bets are opened: once, at any time with spread weights, or always (two detectors)."""

_BLOCK = 8192


def default_bets(mean: float) -> tuple[float, ...]:
    """Return ten sizes of bets against "the mean is at most `mean`".

    They are 0.01, ..., 0.25 in equal steps, divided by the mean; by 0.02 where the mean is smaller,
    because otherwise even the smallest bet would be too large to win on a doubled rate.

    Args:
        mean: The mean under the null hypothesis, in (0, 1).

    Returns:
        Sizes lambda, each below 1 / mean.

    Raises:
        RiskError: If the mean is outside (0, 1).
    """
    check_level(mean, "mean")
    return tuple((np.linspace(0.01, 0.25, 10) / max(mean, 0.02)).tolist())


@dataclass(frozen=True, slots=True)
class EProcess:
    """The evidence so far; `update` returns the next state. Start with `EProcess.start`.

    Losses may come one by one or in batches of any size: the state is the same bit for bit.

    Attributes:
        mean: Null hypothesis: no loss has a conditional mean above this, in (0, 1).
        bets: Sizes lambda of the L bets, each in (0, 1 / mean).
        restarts: When bets are opened, see the top of the module.
        log_growth: log P_t per bet: one opened at the start and never again.
        log_openings: Per bet, log of what was opened so far, each opening divided by the product at
            its time; the next loss finds the capital exp(log_growth + log_openings).
        n: Number of losses so far.
        log_value: Log of the average capital E_t or M_t; 0 before the first loss.
        log_peak: Largest `log_value` so far, at least 0.
    """

    mean: float
    bets: tuple[float, ...]
    restarts: Restarts
    log_growth: tuple[float, ...]
    log_openings: tuple[float, ...]
    n: int = 0
    log_value: float = 0.0
    log_peak: float = 0.0

    @classmethod
    def start(
        cls, mean: float, *, bets: ArrayLike | None = None, restarts: Restarts = "never"
    ) -> Self:
        """Return the state before the first loss.

        Args:
            mean: Mean under the null hypothesis, in (0, 1).
            bets: Sizes of the bets, shape (L,), each in (0, 1 / mean); None: `default_bets(mean)`.
            restarts: "never", "spread", "sum" or "max".

        Returns:
            The state.

        Raises:
            RiskError: If the mean, a bet or `restarts` makes no sense.

        Examples:
            >>> process = EProcess.start(0.02).update([0, 1, 0, 1, 1])
            >>> round(process.value), round(process.p_value, 4)
            (450, 0.0022)
        """
        sizes = default_bets(mean) if bets is None else _sizes(bets)
        check_level(mean, "mean")
        if not sizes or not all(0 < bet < 1 / mean for bet in sizes):
            raise RiskError(
                f"bets must be at least one number, each between 0 and 1 / mean = {1 / mean:.6g}; "
                f"got {sizes}."
            )
        if restarts not in get_args(Restarts):
            raise RiskError(f"restarts must be one of {get_args(Restarts)}, got {restarts!r}.")
        opened = float(np.log(0.75)) if restarts == "spread" else 0.0
        size = len(sizes)
        return cls(float(mean), sizes, restarts, (0.0,) * size, (opened,) * size)

    @property
    def value(self) -> float:
        """The average capital now; infinite where a float64 cannot hold it."""
        return exp(self.log_value) if self.log_value < 709 else float("inf")

    @property
    def p_value(self) -> float | None:
        """An anytime-valid p-value, the inverse of the largest value so far; None for detectors."""
        return None if self.restarts in {"sum", "max"} else exp(-self.log_peak)

    @property
    def detectable(self) -> float:
        """Smallest rate of 0/1 losses at which the capital of some bet grows for sure."""
        bets, m = np.array(self.bets), self.mean
        loses, wins = np.log1p(-bets * m), np.log1p(bets * (1 - m))
        return float(np.min(-loses / (wins - loses)))

    def update(self, losses: ArrayLike) -> Self:
        """Return the state after more losses.

        Args:
            losses: Shape (T,), in [0, 1], in an order that was not chosen by looking at those to
                come.

        Returns:
            The new state.

        Raises:
            DataError: If the shape is wrong, or a loss is not finite or outside [0, 1].
        """
        return self.advance(losses)[0]

    def advance(self, losses: ArrayLike) -> tuple[Self, Float64s]:
        """Return the state after more losses, and the value after each of them.

        Args:
            losses: As in `update`.

        Returns:
            The new state, and log E_t (or log M_t) after each loss, shape (T,).

        Raises:
            DataError: If the shape is wrong, or a loss is not finite or outside [0, 1].
        """
        x = bounded_losses(losses)
        if x.ndim != 1:
            raise DataError(f"losses must have shape (T,), got {x.shape}.")
        growth, openings = np.array(self.log_growth), np.array(self.log_openings)
        path = np.empty(len(x))
        for first in range(0, len(x), _BLOCK):
            part = slice(first, first + _BLOCK)
            growth, openings, path[part] = self._block(x[part], growth, openings, self.n + first)
        state = replace(
            self,
            log_growth=tuple(growth.tolist()),
            log_openings=tuple(openings.tolist()),
            n=self.n + len(x),
            log_value=float(path[-1]),
            log_peak=max(self.log_peak, float(path.max())),
        )
        return state, path

    def _block(
        self, x: Float64s, growth: Float64s, openings: Float64s, n: int
    ) -> tuple[Float64s, Float64s, Float64s]:
        """Sums that run strictly from left to right, whatever the length of the block."""
        factors = np.log1p(np.array(self.bets)[:, None] * (x - self.mean))
        grown = np.add.accumulate(np.column_stack((growth, factors)), axis=1)[:, 1:]
        opened = self._openings(openings, grown, n)
        return grown[:, -1], opened[:, -1], _log_mean_exp(grown + opened[:, :-1])

    def _openings(self, openings: Float64s, grown: Float64s, n: int) -> Float64s:
        """Openings before each loss of the block, and before the first after it, (L, T + 1)."""
        if self.restarts == "never":
            return np.repeat(openings[:, None], grown.shape[1] + 1, axis=1)
        new = -grown
        if self.restarts == "spread":
            j = np.arange(n + 1.0, n + grown.shape[1] + 1)
            new -= np.log(2 * (j + 1) * (j + 2))
        join = np.maximum if self.restarts == "max" else np.logaddexp
        return np.asarray(join.accumulate(np.column_stack((openings, new)), axis=1))

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values; floats survive exactly."""
        document: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in document.items()}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """Return the state that `to_dict` wrote.

        Args:
            document: The fields by name.

        Returns:
            The state.

        Raises:
            ArtifactError: If fields are missing or unknown, or the state is impossible.
        """
        names = {field.name for field in fields(cls)}
        if not isinstance(document, Mapping) or set(document) != names:
            raise ArtifactError(f"an e-process must have exactly the fields {sorted(names)}.")
        try:
            begun = cls.start(
                document["mean"], bets=_sizes(document["bets"]), restarts=document["restarts"]
            )
            n, value, peak = document["n"], document["log_value"], document["log_peak"]
            growth, openings = _sizes(document["log_growth"]), _sizes(document["log_openings"])
        except (RiskError, TypeError) as error:
            raise ArtifactError(f"the e-process cannot be used: {error}") from None
        sums = growth + openings
        if (
            not all(isinstance(v, int | float) and isfinite(v) for v in (*sums, value, peak))
            or len(growth) != len(begun.bets)
            or len(openings) != len(begun.bets)
            or type(n) is not int
            or n < 0
            or peak < max(0.0, value)
        ):
            raise ArtifactError("the e-process cannot be used: its numbers contradict each other.")
        return replace(
            begun,
            log_growth=growth,
            log_openings=openings,
            n=n,
            log_value=float(value),
            log_peak=float(peak),
        )


def _sizes(values: ArrayLike) -> tuple[float, ...]:
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise RiskError(f"expected a list of numbers, got {values!r}.") from None
    if array.ndim != 1:
        raise RiskError(f"expected a list of numbers, got shape {array.shape}.")
    return tuple(array.tolist())


def _log_mean_exp(logs: Float64s) -> Float64s:
    """Over the L rows, one after the other: the sum of a column depends on no other column."""
    top = logs.max(axis=0)
    total = np.zeros(logs.shape[1])
    for row in logs:
        total += np.exp(row - top)
    return np.asarray(top + np.log(total) - np.log(len(logs)))
