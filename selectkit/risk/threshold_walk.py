"""The walk over every distinct score, at the cost of one sort and little more.

A p-value can rise only where an error comes in. So the walk looks at the errors, not at all the
scores: sorted scores tell how many samples lie at or above an error, sorted errors how many errors.
Blocks of errors whose most pessimistic reading passes (all errors of the block, the samples before
it) are not looked at one by one.

A start is a count of samples. Where equal scores lie astride it, which of them are above is drawn.
"""

from dataclasses import dataclass
from math import log
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from selectkit.risk.threshold_candidates import LOWEST, Counts, Float64s, start_counts
from selectkit.stats.binomial import binomial_pvalue

_BLOCK = 64


@dataclass(frozen=True, slots=True, eq=False)
class Ranked:
    """Sorted scores that may be accepted, and those of them that are errors.

    Attributes:
        scores: Shape (N,), rising, without those that are always deferred.
        failures: Shape (K,), rising: the scores of the errors.
        total: Number of samples, those that are always deferred included.
        among_accepted: Whether errors are counted among the accepted; else among all.
    """

    scores: Float64s
    failures: Float64s
    total: int
    among_accepted: bool

    @classmethod
    def of(cls, s: Float64s, wrong: npt.NDArray[np.bool_], among_accepted: bool) -> Self:
        """Sort scores of shape (N,) and those that are wrong; values only, never indices."""
        scores, failures = np.sort(s), np.sort(s[wrong])
        scores = scores[np.searchsorted(scores, LOWEST) :]
        failures = failures[np.searchsorted(failures, LOWEST) :]
        return cls(scores, failures, len(s), among_accepted)

    def errors(self, values: Float64s) -> Counts:
        """Errors at or above each value."""
        return np.asarray(len(self.failures) - np.searchsorted(self.failures, values))

    def tested(self, values: Float64s) -> Counts:
        """Samples that the errors at or above each value are counted among."""
        if not self.among_accepted:
            return np.full(len(values), self.total)
        return np.asarray(len(self.scores) - np.searchsorted(self.scores, values))

    def starts(self, alpha: float, delta: float, rng: np.random.Generator) -> list["Start"]:
        """Return the places where testing starts, from strict to lax.

        Args:
            alpha: Largest allowed risk, in (0, 1).
            delta: Allowed probability that the promise fails, in (0, 1).
            rng: Orders equal scores where a start lies between them.

        Returns:
            Up to a handful.
        """
        if not len(self.scores):
            return []
        if not self.among_accepted:  # a monotone risk gains nothing from several
            highest = self.scores[-1:]
            return [
                Start(float(highest[0]), int(self.errors(highest)[0]), self.total, delta, False)
            ]
        counts, share = start_counts(len(self.scores), alpha, delta)
        found: list[Start] = []
        for count in counts:
            if count <= len(self.scores):
                found.append(self._start(count, share, found[-1:], rng))
        return found

    def _start(
        self, count: int, share: float, before: list["Start"], rng: np.random.Generator
    ) -> "Start":
        """Draw which of equal scores are among the highest, beside those of the start before."""
        score = self.scores[-count]
        ends = np.array([np.nextafter(score, np.inf), score])
        (n, n_all), (k, k_all) = self.tested(ends).tolist(), self.errors(ends).tolist()
        if before and before[0].score == score:
            n, k = before[0].tested, before[0].errors
        wrong, right = k_all - k, n_all - n - (k_all - k)
        drawn = int(rng.hypergeometric(wrong, right, count - n))
        split = count < n_all and wrong > 0 and right > 0
        return Start(float(score), k + drawn, count, share, split)


class Start(NamedTuple):
    """Where testing starts.

    Attributes:
        score: Of the last sample that is accepted here.
        errors: Errors among those that are accepted here.
        tested: Samples that these are counted among.
        share: Of delta.
        split: Which of the samples of this score are accepted here was drawn, and matters.
    """

    score: float
    errors: int
    tested: int
    share: float
    split: bool


def laxest(ranked: Ranked, starts: list[Start], alpha: float) -> float | None:
    """Return the largest score that may not be accepted: -inf if all may, None if nothing is sure.

    Args:
        ranked: The samples.
        starts: Theirs.
        alpha: Largest allowed risk, in (0, 1).

    Returns:
        A score v such that "accept above v" passed its test and all before it.
    """
    best: float | None = None
    carried = 0.0
    for i, start in enumerate(starts):
        stop = starts[i + 1].score if i + 1 < len(starts) else -np.inf
        level, carried = carried + start.share, 0.0
        if binomial_pvalue(start.errors, start.tested, alpha) > level:
            continue
        failed = _first_failure(ranked, start.score, stop, alpha, level)
        below = stop if failed is None else failed
        best = below if below < start.score else best
        carried = level if failed is None else 0.0
    return best


def _first_failure(
    ranked: Ranked, first: float, stop: float, alpha: float, level: float
) -> float | None:
    """First score v in (stop, first] at which "accept from v on" does not pass, or None."""
    low = int(np.searchsorted(ranked.failures, stop, side="right"))
    high = int(np.searchsorted(ranked.failures, first, side="right"))
    falling = ranked.failures[low:high][::-1]
    heads = falling[::_BLOCK]
    tails = falling[np.minimum(np.arange(len(heads)) * _BLOCK + _BLOCK, len(falling)) - 1]
    sure = exponent(ranked.errors(tails), ranked.tested(heads), alpha) >= -log(level)
    open_, done, step = np.flatnonzero(~sure), 0, 4
    while done < len(open_):
        blocks = open_[done : done + step]
        places = (blocks[:, None] * _BLOCK + np.arange(_BLOCK)).ravel()
        values = falling[places[places < len(falling)]]
        failed = values[~_pass(ranked, values, alpha, level)]
        if failed.size:
            return float(failed[0])
        done, step = done + step, 2 * step
    return None


def _pass(ranked: Ranked, values: Float64s, alpha: float, level: float) -> npt.NDArray[np.bool_]:
    """Which p-values are at most the level; Chernoff's bound settles most of them."""
    errors, n = ranked.errors(values), ranked.tested(values)
    passed = exponent(errors, n, alpha) >= -log(level)
    open_ = ~passed
    passed[open_] = binomial_pvalue(errors[open_], n[open_], alpha) <= level
    return passed


def exponent(errors: Counts | Float64s, n: Counts, alpha: float) -> Float64s:
    """Return Chernoff's bound: n KL(errors / n, alpha) <= -ln p-value, 0 where errors >= alpha n.

    Args:
        errors: Counts.
        n: Counts of the same shape.
        alpha: Error rate under test, in (0, 1).

    Returns:
        The bound, of the same shape.
    """
    rate = np.minimum(errors / np.maximum(n, 1), alpha)
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = np.where(rate > 0, rate * np.log(rate / alpha), 0.0)
    return np.asarray(n * (entropy + (1 - rate) * np.log((1 - rate) / (1 - alpha))))


def shuffled_ties(scores: Float64s, rng: np.random.Generator) -> Counts:
    """Return an order, shape (N,), in which only samples of equal score change places, at random.

    Args:
        scores: Shape (N,), N >= 1, sorted either way.
        rng: Source of randomness.

    Returns:
        Indices into the sorted samples.
    """
    run = np.cumsum(np.append(True, scores[1:] != scores[:-1]))
    return np.lexsort((rng.random(len(scores)), run))
