"""Certified thresholds for losses anywhere in [0, 1], by betting.

Fixed sequence with fallback as in `selectkit.risk.threshold`, with the betting p-value of Waudby-
Smith and Ramdas (2024) in place of the binomial tail. The rows are shuffled once, before anything
is looked at; a threshold is judged by the losses of the samples it accepts, in that order.

Candidates are the distinct scores, each judged by the samples strictly above it, as long as these
are few enough to test all of them. Of more rows, the first of the shuffle only lend their scores as
candidates and are judged by nobody, so that the candidates are fixed for all the others.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, log
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from selectkit.errors import DataError
from selectkit.risk.assumptions import ASSUMPTIONS, GRID, about_ties
from selectkit.risk.budget import labels_needed
from selectkit.risk.certificate import Certificate, Infeasible, unit
from selectkit.risk.suffices import least_rate, most_promising, verdict
from selectkit.risk.threshold_candidates import (
    LOWEST,
    Candidates,
    Counts,
    starts_of,
)
from selectkit.stats.binomial import dkw_lower
from selectkit.stats.bounded import betting_upper, log_wealth, shares

Float64s: TypeAlias = npt.NDArray[np.float64]
Starts: TypeAlias = list[tuple[int, float]]

_TESTED = 10_000  # distinct scores that are all tested
_LENT = 1_000  # rows of larger samples that lend their scores
_MOST = 2**24  # samples that are tried when asked how many would do


def certify_losses(
    s: Float64s,
    ell: Float64s,
    *,
    alpha: float,
    delta: float,
    grid: Float64s | None,
    among_accepted: bool,
    risk: str,
    rng: np.random.Generator,
) -> Certificate | Infeasible:
    """Return the most permissive threshold certified by betting: `certify_threshold` calls it.

    Args:
        s: Shape (N,), confidences, checked.
        ell: Shape (N,), finite losses.
        alpha: Largest allowed mean loss, in (0, 1).
        delta: Allowed probability that the promise fails, in (0, 1).
        grid: Thresholds fixed without labels, falling; None: those of the scores.
        among_accepted: Whether the mean is over the accepted; else over all N, loss 0 if deferred.
        risk: Name of the risk.
        rng: Source of the shuffle.

    Returns:
        The certificate, or why there is none and what would suffice.

    Raises:
        DataError: If a loss is outside [0, 1].
    """
    if ell.min() < 0 or ell.max() > 1:
        raise DataError(f"loss must lie in [0, 1], got {ell.min():.6g} to {ell.max():.6g}.")
    order = rng.permutation(len(s))
    s, ell, lent = s[order], ell[order], None
    given = grid is not None
    if grid is None and len(np.unique(s)) > _TESTED:
        lent, s, ell = s[:_LENT], s[_LENT:], ell[_LENT:]
        grid = np.unique(lent[lent >= LOWEST])[::-1]
    candidates = _candidates(s, grid)
    if among_accepted:
        starts = _starts(_expected(candidates, lent, len(s)), alpha, delta)
    else:
        starts = [(0, delta)] if len(s) >= samples_needed(alpha, delta) else []
    walk = _Walk(s, ell, candidates, alpha, among_accepted, aim=delta / max(1, len(starts)))
    best = _last_certified(walk.passes, len(walk.candidates.accepted), starts)
    if best < 0:
        return walk.infeasible(delta, starts, risk)
    remarks: tuple[str, ...] = ()
    if among_accepted and lent is None:  # lent thresholds and their starts are fixed for the rest
        remarks = (GRID,) if given else about_ties(np.sort(s[s >= LOWEST]))
    return walk.certificate(best, delta, risk, remarks)


@dataclass(frozen=True, slots=True, eq=False)
class _Walk:
    """Shuffled samples, the candidates from strict to lax, and the test of each."""

    s: Float64s
    ell: Float64s
    candidates: Candidates
    alpha: float
    among_accepted: bool
    aim: float  # level at which the bets are aimed

    def losses(self, index: int) -> Float64s:
        """The losses that a candidate is judged by, in the order of the shuffle."""
        accepted = self.s >= self.candidates.threshold(index)
        return self.ell[accepted] if self.among_accepted else np.where(accepted, self.ell, 0.0)

    def passes(self, index: int, level: float) -> bool:
        """Whether the p-value of a candidate is at most the level."""
        return log_p(self.losses(index), self.alpha, self.aim) <= log(level)

    def certificate(
        self, best: int, delta: float, risk: str, remarks: tuple[str, ...]
    ) -> Certificate:
        """What is promised at a candidate that passed."""
        losses, n = self.losses(best), len(self.s)
        accepted = int(self.candidates.accepted[best])
        row = losses[None, :]
        bets = shares(row, None, self.aim)
        return Certificate(
            risk=risk,
            alpha=self.alpha,
            delta=delta,
            kind="pac",
            method="Learn-then-Test, fixed sequence with fallback, betting",
            threshold=self.candidates.threshold(best),
            n=n,
            n_accepted=accepted,
            errors=int((losses > 0).sum()),
            risk_upper=min(self.alpha, float(betting_upper(row, bets, delta)[0])),
            coverage=accepted / n,
            coverage_lower=dkw_lower(accepted / n, n, delta),
            assumptions=(*ASSUMPTIONS, *remarks),
            mean_loss=float(losses.mean()),
        )

    def infeasible(self, delta: float, starts: Starts, risk: str) -> Infeasible:
        """Too few samples, or too large losses among the most confident: say which."""
        n, counts = len(self.s), self.candidates.accepted
        tested = counts if self.among_accepted else np.full_like(counts, n)
        least = samples_needed(self.alpha, delta)
        few = not len(tested) or bool(tested[-1] < max(least, 1))
        best, losses, unknown = self._most_promising(few, least)
        needs = _samples_like(losses, self.alpha, delta / max(1, len(starts)))
        if needs is not None and self.among_accepted:
            needs = max(n + 1, ceil(needs * n / max(1, int(counts[best]))))
        if few:
            usable = int(counts[-1]) if len(counts) else 0
            reason = f"{usable} {unit(risk)} in the calibration split"
            if usable < n:
                reason += f" can be accepted (of {n})"
            return Infeasible(risk, self.alpha, delta, n, reason, max(least, needs or 0))
        mean, accepted = self.losses(best).mean(), int(counts[best])
        reason = f"the mean loss of the {accepted} most confident {unit(risk)} is {mean:.4g}"
        if not self.among_accepted:
            reason = f"the mean loss with {accepted} of {n} accepted is {mean:.4g}"
        if needs is None:
            reason += unknown
        return Infeasible(risk, self.alpha, delta, n, reason, needs)

    def _most_promising(self, few: bool, least: int) -> tuple[int, Float64s, str]:
        """Where the mean loss is most clearly below alpha, losses to reckon with, a verdict."""
        counts, alpha = self.candidates.accepted, self.alpha
        if not len(counts):
            return 0, np.empty(0), ""
        sums = np.append(0.0, np.cumsum(self.ell[np.argsort(-self.s, kind="stable")]))[counts]
        if not self.among_accepted:  # the strictest loses least
            return 0, self.losses(0), verdict(sums[:1], np.array([len(self.s)]), alpha)
        unknown = verdict(sums, counts, alpha, least)
        found = most_promising(sums, counts, alpha, few=few, largest=float(self.ell.max()))
        if found is None:
            return least_rate(sums, counts, 1 if few else least), np.empty(0), unknown
        best, total = found
        return best, np.append(self.losses(best), total - sums[best]), unknown


def _expected(candidates: Candidates, lent: Float64s | None, n: int) -> Counts:
    """Counts of accepted samples that starts are set by, those of the rows that are not tested."""
    if lent is None:
        return candidates.accepted
    ranks = len(lent) - np.searchsorted(np.sort(lent), candidates.bounds)
    return np.asarray(ranks * n // (2 * len(lent)))  # half: the tested rows may have fewer


def _starts(counts: Counts, alpha: float, delta: float) -> Starts:
    """Index and share of delta of each start: as in the exact test, where betting can well pass.

    Losses between 0 and 1 are hardly ever all 0, so the first start is where a mean of alpha / 5
    would pass.
    """
    starts = starts_of(counts, alpha, delta)
    least = samples_needed(alpha, delta / max(1, len(starts)), typical=alpha / 5)
    first = int(np.searchsorted(counts, least))
    shares_at: dict[int, float] = {}
    for index, share in starts:
        shares_at[max(index, first)] = shares_at.get(max(index, first), 0.0) + share
    return [(i, share) for i, share in shares_at.items() if i < len(counts)]


def log_p(losses: Float64s, alpha: float, aim: float) -> float:
    """Log of the betting p-value of "the mean is at least alpha", losses in the order given.

    Args:
        losses: Shape (N,), in [0, 1]; N may be 0.
        alpha: Mean under test.
        aim: Level at which the bets are aimed.

    Returns:
        The logarithm, at most 0.
    """
    if not len(losses):
        return 0.0
    row = losses[None, :]
    return -max(0.0, float(log_wealth(row, shares(row, None, aim), np.array([alpha]))[0]))


@lru_cache(maxsize=256)
def samples_needed(alpha: float, level: float, typical: float = 0.0) -> int:
    """Return the smallest number of samples that betting can certify.

    Args:
        alpha: Mean loss to certify, in (0, 1).
        level: Error level of the test, in (0, 1).
        typical: The loss of each of them, below alpha.

    Returns:
        The number; `labels_needed` is smaller, because 0/1 losses have an exact test. Beyond 2^24
        only a number that is surely needed.
    """
    low = labels_needed(alpha, level) - 1
    if low >= _MOST:
        return low + 1
    return (
        _smallest(lambda n: log_p(np.full(n, typical), alpha, level) <= log(level), low, _MOST)
        or _MOST
    )


def _samples_like(losses: Float64s, alpha: float, level: float) -> int | None:
    """How many samples with the losses of these, again and again, would pass; None if too many."""
    if not len(losses) or losses.mean() >= alpha:
        return None
    most = max(2**20, 8 * len(losses))
    return _smallest(
        lambda n: log_p(np.resize(losses, n), alpha, level) <= log(level), len(losses), most
    )


def _smallest(enough: Callable[[int], bool], low: int, most: int) -> int | None:
    """Smallest number above `low` that is enough, by doubling and halving; None above `most`."""
    low, high = max(low, 0), max(low, 0) + 1
    while not enough(high):
        if high > most:
            return None
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _candidates(s: Float64s, grid: Float64s | None) -> Candidates:
    ordered = np.sort(s[s >= LOWEST])
    bounds = np.unique(ordered)[::-1] if grid is None else grid
    accepted = len(ordered) - np.searchsorted(ordered, bounds)
    return Candidates(bounds, accepted, np.zeros_like(accepted), between=grid is None)


def _last_certified(
    passes: Callable[[int, float], bool], size: int, starts: Sequence[tuple[int, float]]
) -> int:
    """Index of the most permissive candidate whose test and all before it passed, or -1."""
    best, carried = -1, 0.0
    for i, (first, share) in enumerate(starts):
        stop = starts[i + 1][0] if i + 1 < len(starts) else size
        level, at = carried + share, first
        while at < stop and passes(at, level):
            at += 1
        best = max(best, at - 1) if at > first else best
        carried = level if at == stop else 0.0
    return best
