"""The most permissive threshold whose risk is certified: Learn-then-Test on the binomial tail.

Source: Angelopoulos, Bates, Candès, Jordan and Lei (2022), "Learn then Test: calibrating
predictive algorithms to achieve risk control", https://arxiv.org/abs/2110.01052, with the exact
binomial p-value and the fallback procedure of Wiens (2003), "A fixed sequence Bonferroni procedure
for testing multiple endpoints", Pharmaceutical Statistics 2.

Thresholds are tested from strict to lax until a test fails. The risk among accepted samples is
not monotone in the threshold, and one unlucky error among the very first samples would end the
walk for good. So the walk has several starts, set by counts and never by labels: each start
brings its share of delta, and a stretch that passed hands its level on to the next. Starting only
at the first testable count would give up far more often when even the most confident samples carry
a little label noise.
"""

from dataclasses import dataclass
from math import ceil, log
from typing import Literal

import numpy as np
import numpy.typing as npt

from selectkit.arrays import ArrayLike, confidence_and_loss
from selectkit.errors import DataError, RiskError
from selectkit.risk.budget import labels_needed, labels_needed_at_rate
from selectkit.risk.certificate import Certificate, Infeasible, unit
from selectkit.stats.binomial import binomial_pvalue, check_level, clopper_pearson_upper, dkw_lower

Float64s = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

_LOWEST = float(np.finfo(np.float64).min)
_ASSUMPTIONS = (
    "the samples to come are drawn independently from the distribution of the calibration split",
    "nothing was chosen on the calibration split except this threshold",
)


def certify_threshold(
    confidence: ArrayLike,
    loss: ArrayLike,
    *,
    alpha: float,
    delta: float = 0.1,
    candidates: ArrayLike | None = None,
    denominator: Literal["accepted", "all"] = "accepted",
    risk: str = "error",
) -> Certificate | Infeasible:
    """Return the most permissive threshold that is certified to keep a risk at or below alpha.

    With probability at least 1 - delta over the draw of the calibration split, the true risk of
    "accept iff confidence >= threshold" is at most alpha. A candidate taken from the scores
    themselves is judged by the samples strictly above it, which are independent draws from the
    accepted distribution, and deployed as the next larger float64, so that exactly those samples
    are accepted, ties included.

    Args:
        confidence: Shape (N,), higher = accept first; -inf means "always defer": such a sample is
            never accepted, whatever the threshold.
        loss: Shape (N,), 0 or 1. For a risk over positives pass the positives only.
        alpha: Largest allowed risk, in (0, 1).
        delta: Allowed probability that the promise fails, in (0, 1).
        candidates: Thresholds fixed without looking at labels, shape (M,); each accepts
            confidence >= candidate. None uses every distinct confidence.
        denominator: "accepted": errors among accepted samples (a selective risk). "all": accepted
            errors among all N samples (such as a miss rate), monotone in the threshold; a grid may
            then certify a threshold above all N confidences, which accepts none of them.
        risk: Name of the risk in the certificate: "error", "fnr", "fpr", "miss_rate", ...

    Returns:
        The certificate, or why there is none and what would suffice.

    Raises:
        DataError: If an array is malformed or a loss is neither 0 nor 1.
        RiskError: If alpha, delta, the candidates or the denominator make no sense.

    Examples:
        >>> found = certify_threshold(np.linspace(1, 0, 100), np.arange(100) >= 60, alpha=0.05)
        >>> found.n_accepted, found.errors, round(found.threshold, 2)
        (60, 0, 0.39)
    """
    check_level(alpha, "alpha")
    check_level(delta, "delta")
    if denominator not in {"accepted", "all"}:
        raise RiskError(f'denominator must be "accepted" or "all", got {denominator!r}.')
    s, ell = confidence_and_loss(confidence, loss)
    wrong = ell == 1
    if not (wrong | (ell == 0)).all():
        raise DataError(
            "loss must be 0 or 1 in every row: the exact binomial test needs counts. Losses in "
            "between have a bound in selectkit.stats.wsr_upper, but no certified threshold yet."
        )
    walk = _candidates(s, wrong, _grid(candidates))
    del ell
    total = len(s)
    tested = walk.accepted if denominator == "accepted" else np.full_like(walk.accepted, total)
    starts = _starts(tested, alpha, delta) if denominator == "accepted" else _first(tested, delta)
    best = _last_certified(walk.errors, tested, starts, alpha)
    if best < 0:
        return _infeasible(walk, tested, alpha, delta, risk, total)
    return _certificate(walk, best, int(tested[best]), alpha, delta, risk, total)


@dataclass(frozen=True, slots=True)
class _Candidates:
    """From strict to lax: accept values at or above a bound; how many are, and errors in them."""

    bounds: Float64s
    accepted: Counts
    errors: Counts
    between: bool  # the bounds are the scores themselves: deploy just above the next lower one

    def threshold(self, index: int) -> float:
        """The float64 to deploy for one candidate."""
        if not self.between:
            return float(self.bounds[index])
        below = self.bounds[index + 1] if index + 1 < len(self.bounds) else -np.inf
        return float(np.nextafter(below, np.inf))


def _grid(candidates: ArrayLike | None) -> Float64s | None:
    if candidates is None:
        return None
    grid = np.asarray(candidates, dtype=np.float64)
    if grid.ndim != 1 or grid.size == 0 or np.isnan(grid).any():
        raise RiskError(f"candidates must be numbers of shape (M,), M >= 1; got {grid.shape}.")
    return np.maximum(np.unique(grid)[::-1], _LOWEST)


def _candidates(s: Float64s, wrong: npt.NDArray[np.bool_], grid: Float64s | None) -> _Candidates:
    """Counts per distinct confidence; sorts `s` in place, values only, never indices."""
    failures = s[wrong]
    failures.sort()
    failures = failures[np.searchsorted(failures, _LOWEST) :]
    s.sort()
    s = s[np.searchsorted(s, _LOWEST) :]
    opens = np.ones(len(s), dtype=np.bool_)
    np.not_equal(s[1:], s[:-1], out=opens[1:])
    values = s[opens]
    accepted = len(s) - np.flatnonzero(opens)[::-1]
    failed = np.bincount(np.searchsorted(values, failures), minlength=len(values))
    errors = np.cumsum(failed[::-1])
    if grid is None:
        return _Candidates(values[::-1], accepted, errors, between=True)
    place = len(values) - np.searchsorted(values, grid)  # distinct values at or above each
    return _Candidates(grid, np.append(0, accepted)[place], np.append(0, errors)[place], False)


def _first(tested: Counts, delta: float) -> list[tuple[int, float]]:
    """One start with all of delta: a monotone risk gains nothing from more."""
    return [(0, delta)] if len(tested) else []


def _starts(accepted: Counts, alpha: float, delta: float) -> list[tuple[int, float]]:
    """Index and share of delta of each start: where 0, 3, 12, 39, ... errors are affordable."""
    total = int(accepted[-1]) if len(accepted) else 0
    budgets = [0]
    while labels_needed(alpha, delta / (len(budgets) + 1), 3 * budgets[-1] + 3) <= 0.75 * total:
        budgets.append(3 * budgets[-1] + 3)
    share = delta / len(budgets)
    counts = [labels_needed(alpha, share, k) for k in budgets]
    first, copies = np.unique(np.searchsorted(accepted, counts), return_counts=True)
    return [
        (int(i), min(delta, c * share))
        for i, c in zip(first, copies, strict=True)
        if i < len(accepted)
    ]


def _last_certified(
    errors: Counts, n: Counts, starts: list[tuple[int, float]], alpha: float
) -> int:
    """Index of the most permissive candidate whose test and all before it passed, or -1."""
    best, carried = -1, 0.0
    for i, (first, share) in enumerate(starts):
        stop = starts[i + 1][0] if i + 1 < len(starts) else len(n)
        level = carried + share
        failed = _first_failure(errors, n, first, stop, alpha, level)
        best = max(best, failed - 1) if failed > first else best
        carried = level if failed == stop else 0.0
    return best


def _first_failure(
    errors: Counts, n: Counts, first: int, stop: int, alpha: float, level: float
) -> int:
    """First index in [first, stop) whose p-value exceeds the level, or stop.

    The p-value falls while errors stay and samples come, so only indices at which errors rose
    are tested; Chernoff's bound on the p-value settles most of those without the exact tail.
    """
    rises = np.flatnonzero(errors[first + 1 : stop] != errors[first : stop - 1]) + first + 1
    tests = np.append(first, rises) if first < stop else rises
    open_ = tests[_exponent(errors[tests], n[tests], alpha) < -log(level)]
    for block in np.split(open_, range(256, len(open_), 16_384)):
        failed = block[binomial_pvalue(errors[block], n[block], alpha) > level]
        if failed.size:
            return int(failed[0])
    return stop


def _exponent(errors: Counts, n: Counts, alpha: float) -> Float64s:
    """Chernoff's bound: n KL(errors / n, alpha) <= -ln p-value where errors < alpha n, else 0."""
    rate = np.minimum(errors / np.maximum(n, 1), alpha)
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = np.where(rate > 0, rate * np.log(rate / alpha), 0.0)
    return np.asarray(n * (entropy + (1 - rate) * np.log((1 - rate) / (1 - alpha))))


def _certificate(
    walk: _Candidates, best: int, n_tested: int, alpha: float, delta: float, risk: str, total: int
) -> Certificate:
    accepted, errors = int(walk.accepted[best]), int(walk.errors[best])
    coverage = accepted / total
    return Certificate(
        risk=risk,
        alpha=alpha,
        delta=delta,
        kind="pac",
        method="Learn-then-Test, fixed sequence with fallback, exact binomial",
        threshold=walk.threshold(best),
        n=total,
        n_accepted=accepted,
        errors=errors,
        risk_upper=clopper_pearson_upper(errors, n_tested, delta),
        coverage=coverage,
        coverage_lower=dkw_lower(coverage, total, delta),
        assumptions=_ASSUMPTIONS,
    )


def _infeasible(
    walk: _Candidates, tested: Counts, alpha: float, delta: float, risk: str, total: int
) -> Infeasible:
    """Too few samples, or too many errors among the most confident: say which."""
    smallest = labels_needed(alpha, delta)
    testable = np.flatnonzero(tested >= smallest)
    if not testable.size:
        usable = int(walk.accepted[-1]) if len(tested) else 0
        reason = f"{usable} {unit(risk)} in the calibration split"
        if usable < total:
            reason += f" can be accepted (of {total})"
        return Infeasible(risk, alpha, delta, total, reason, smallest)
    promise = _exponent(walk.errors[testable], tested[testable], alpha)
    if promise.max() <= 0:  # nowhere below alpha: show the best rate
        promise = -walk.errors[testable] / tested[testable]
    best = testable[np.argmax(promise)]
    k, n, accepted = int(walk.errors[best]), int(tested[best]), int(walk.accepted[best])
    reason = f"{k} of the {accepted} most confident {unit(risk)} are errors"
    if accepted == 1:
        reason = f"the most confident of {total} {unit(risk)} is an error"
    if n > accepted:
        reason += f" (of {n} in all)"
    needs = labels_needed_at_rate(alpha, delta, k, n)
    if needs is None:
        reason += ", so more labels will not help"
    elif needs <= n:  # alone they would pass; what suffices with a start of their own?
        reason += ", but errors came too early among them"
        needs = max(n + 1, labels_needed_at_rate(alpha, delta / 4, k, n) or 0)
    if needs is not None and n == accepted:  # so many as confident as these: scale to all samples
        needs = ceil(needs * total / accepted)
    return Infeasible(risk, alpha, delta, total, reason, needs)
