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

Candidates taken from the scores, and starts from counts, are as good as fixed ones if the scores
have no ties. Proof. Let the true risk R be continuous in the threshold; on the way from strict to
lax it rises above alpha at b_1, falls back at a_1, rises again at b_2, and so on. From one start, a
threshold with R > alpha can be certified in two ways. The start itself is there: given the start,
the samples above it are independent draws from the accepted law, and its test passes with at most
its level. Or the walk comes in through some b_i, and so has passed the test of exactly the samples
above b_i. R is alpha at all b_i and a_j, so the mean error between any two of them is alpha, too:
however the counts distribute these samples over the pieces, their errors are Bin(n, alpha), and the
test passes with at most its level. The shares of the starts add up to delta as in any fallback
procedure.

Ties. Think of one more coordinate that orders equal scores at random: with it there are no ties,
and R is continuous. A start that comes to lie between equal scores is tested right there, by the
samples above it in this order, and its test is as good as any. After it only thresholds that keep
equal scores together are tested and deployed. The walk may then pass b_i between equal scores
untested, but meets the end of these next, where R is still above alpha: what lies between errs more
often than alpha. However the counts distribute the samples over the pieces, the errors there are
Bin(n, alpha) or more. With a grid that the caller fixed, starts are candidates, picked by counts
that may hang together with errors: the promise then rests on the tests over draws in
tests/statistical, and the certificate says so among its assumptions. Errors among all samples
("all") need none of this: their rate never falls on the way, so whatever is certified beyond the
first threshold above alpha has at most its errors, ties or not.
"""

from math import log
from typing import Literal

import numpy as np
import numpy.typing as npt

from selectkit.arrays import ArrayLike, shared_confidence_and_loss
from selectkit.errors import RiskError
from selectkit.risk.assumptions import ASSUMPTIONS, DRAWN, GRID
from selectkit.risk.bounded import certify_losses
from selectkit.risk.certificate import Certificate, Infeasible
from selectkit.risk.suffices import infeasible
from selectkit.risk.threshold_candidates import (
    Counts,
    Float64s,
    candidates_of,
    grid_of,
    in_precision_of,
    starts_of,
)
from selectkit.risk.threshold_walk import Ranked, exponent, laxest
from selectkit.stats.binomial import binomial_pvalue, check_level, clopper_pearson_upper, dkw_lower


def certify_threshold(
    confidence: ArrayLike,
    loss: ArrayLike,
    *,
    alpha: float,
    delta: float = 0.1,
    candidates: ArrayLike | None = None,
    denominator: Literal["accepted", "all"] = "accepted",
    risk: str = "error",
    seed: int = 0,
) -> Certificate | Infeasible:
    """Return the most permissive threshold that is certified to keep a risk at or below alpha.

    With probability at least 1 - delta over the draw of the calibration split, the true risk of
    "accept iff confidence >= threshold" is at most alpha. A candidate taken from the scores
    themselves is judged by the samples strictly above it, which are independent draws from the
    accepted distribution, and deployed as the next larger number of the scores' dtype, so that
    exactly those samples are accepted, ties included.

    Args:
        confidence: Shape (N,), higher = accept first; -inf means "always defer": such a sample is
            never accepted, whatever the threshold.
        loss: Shape (N,), in [0, 1]. For a risk over positives pass the positives only. If all are 0
            or 1, the loss is taken to have no other values, and the test is exact. Otherwise it is
            by betting (`selectkit.risk.bounded`), and the rows must come in the order in which they
            were drawn or the promise is over the draw of the seed, too.
        alpha: Largest allowed risk, in (0, 1).
        delta: Allowed probability that the promise fails, in (0, 1).
        candidates: Thresholds fixed without looking at labels, shape (M,); each accepts
            confidence >= candidate. None uses every distinct confidence.
        denominator: "accepted": errors among accepted samples (a selective risk). "all": accepted
            errors among all N samples (such as a miss rate), monotone in the threshold; a grid may
            then certify a threshold above all N confidences, which accepts none of them.
        risk: Name of the risk in the certificate: "error", "fnr", "fpr", "miss_rate", ...
        seed: Orders equal scores where testing starts between them, and shuffles the rows for
            losses between 0 and 1; to be fixed before looking at them.

    Returns:
        The certificate, or why there is none and what would suffice.

    Raises:
        DataError: If an array is malformed or a loss is outside [0, 1].
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
    s, ell = shared_confidence_and_loss(confidence, loss)
    grid, among_accepted = grid_of(candidates), denominator == "accepted"
    wrong = np.asarray(ell == 1)
    found: Certificate | Infeasible | None = None
    if ell.dtype != np.bool_ and not (wrong | (ell == 0)).all():
        found = certify_losses(
            s,
            ell.astype(np.float64),
            alpha=alpha,
            delta=delta,
            grid=grid,
            among_accepted=among_accepted,
            risk=risk,
            rng=np.random.default_rng(seed),
        )
    elif grid is None:
        found = _among_scores(s, wrong, among_accepted, alpha, delta, risk, seed)
    else:
        found = _among_candidates(s, wrong, grid, among_accepted, alpha, delta, risk)
    return in_precision_of(confidence, found)


def _among_scores(
    s: Float64s,
    wrong: npt.NDArray[np.bool_],
    among_accepted: bool,
    alpha: float,
    delta: float,
    risk: str,
    seed: int,
) -> Certificate | Infeasible:
    """The certificate if every distinct score is a candidate, or why there is none."""
    ranked = Ranked.of(s, wrong, among_accepted)
    starts = ranked.starts(alpha, delta, np.random.default_rng(seed))
    below = laxest(ranked, starts, alpha)
    if below is None:
        walk = candidates_of(s.copy(), wrong, None)
        return infeasible(
            walk, alpha=alpha, delta=delta, risk=risk, total=len(s), among_accepted=among_accepted
        )
    threshold = float(np.nextafter(below, np.inf))
    at = np.array([threshold])
    return certificate_of(
        threshold,
        accepted=len(ranked.scores) - int(np.searchsorted(ranked.scores, threshold)),
        errors=int(ranked.errors(at)[0]),
        n_tested=int(ranked.tested(at)[0]),
        total=len(s),
        alpha=alpha,
        delta=delta,
        risk=risk,
        remarks=(DRAWN,) if any(start.split for start in starts) else (),
    )


def _among_candidates(
    s: Float64s,
    wrong: npt.NDArray[np.bool_],
    grid: Float64s,
    among_accepted: bool,
    alpha: float,
    delta: float,
    risk: str,
) -> Certificate | Infeasible:
    """The certificate if the candidates are given, or why there is none."""
    walk, total = candidates_of(s.copy(), wrong, grid), len(s)
    tested = walk.accepted if among_accepted else np.full_like(walk.accepted, total)
    starts = starts_of(tested, alpha, delta) if among_accepted else _first(tested, delta)
    best = _last_certified(walk.errors, tested, starts, alpha)
    if best < 0:
        return infeasible(
            walk, alpha=alpha, delta=delta, risk=risk, total=total, among_accepted=among_accepted
        )
    return certificate_of(
        walk.threshold(best),
        accepted=int(walk.accepted[best]),
        errors=int(walk.errors[best]),
        n_tested=int(tested[best]),
        total=total,
        alpha=alpha,
        delta=delta,
        risk=risk,
        remarks=(GRID,) if among_accepted else (),
    )


def _first(tested: Counts, delta: float) -> list[tuple[int, float]]:
    """One start with all of delta: a monotone risk gains nothing from more."""
    return [(0, delta)] if len(tested) else []


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
    open_ = tests[exponent(errors[tests], n[tests], alpha) < -log(level)]
    for block in np.split(open_, range(256, len(open_), 16_384)):
        failed = block[binomial_pvalue(errors[block], n[block], alpha) > level]
        if failed.size:
            return int(failed[0])
    return stop


def certificate_of(
    threshold: float,
    *,
    accepted: int,
    errors: int,
    n_tested: int,
    total: int,
    alpha: float,
    delta: float,
    risk: str,
    remarks: tuple[str, ...] = (),
) -> Certificate:
    """Return what is promised at a threshold that passed.

    Args:
        threshold: Accept iff confidence >= threshold.
        accepted: Samples accepted.
        errors: Errors among them.
        n_tested: Samples that the errors are counted among.
        total: All samples.
        alpha: The promise.
        delta: Probability with which it may fail.
        risk: Its name.
        remarks: Further assumptions.

    Returns:
        The certificate.
    """
    coverage = accepted / total
    return Certificate(
        risk=risk,
        alpha=alpha,
        delta=delta,
        kind="pac",
        method="Learn-then-Test, fixed sequence with fallback, exact binomial",
        threshold=threshold,
        n=total,
        n_accepted=accepted,
        errors=errors,
        risk_upper=clopper_pearson_upper(errors, n_tested, delta),
        coverage=coverage,
        coverage_lower=dkw_lower(coverage, total, delta),
        assumptions=(*ASSUMPTIONS, *remarks),
    )
