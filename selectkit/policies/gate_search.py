"""One threshold for several constraints: shares deferred and risks, certified together.

Coverage. With N rows sorted by falling score, P(S >= S_(n)) < c only if at least n rows lie above
the score at which coverage is c, and their number is at most binomial: the probability is at most
P(Bin(N, c) >= n), ties included. All thresholds at or below S_(n) have at least its coverage, so
one such event covers them all.

Risks. Candidates accept the rows strictly above one of the scores and are tested from strict to
lax, until a test fails. First is the strictest whose coverage is certified, and where three errors
of each risk are affordable: at the first row, one error would end the walk. All risks are walked
together, by the largest of their p-values, with all that coverage leaves of delta. Where there is
no such start, and for a single risk without a limit of the coverage, there are several (Wiens,
2003): then each risk is walked on its own, at an equal share, and a threshold in all walks keeps
all risks.

Proof, for scores without ties; a start between equal scores is tested among these in random order,
and after it only thresholds that keep equal scores together, as `selectkit.risk.threshold` explains
for one risk. The start T is the (m + 1)-th largest score, m fixed by how many
rows there are and how many of them each risk is about. If some risk exceeds its alpha at T, its
test passes with at most the level: given T the rows above are independent draws from what is
accepted. Else let c be where the walk would enter the next stretch of thresholds that exceed some
alpha, say that of risk r, and g where T's safe stretch begins. The walk passes the test of exactly
the rows above c. The rate of r is alpha above c and at most alpha above g, so at least alpha in
between. T lies in this stretch if and only if at most m rows are above g, and more above c; given
how many are above c, the first only moves rows from above g to below, that is, adds errors. So the
test passes with at most the level whichever stretch T is in.

With several starts that is not enough: levels that add up from start to start need errors that are
binomial given all counts, as they are for a single risk (`selectkit.risk.threshold`). Hence the
shares. A start of a risk that is about some of the rows is a rank among these. Whether there are
several follows from how many rows the risks are about, not from where these lie. Errors among all
rows, as in a miss rate, never fall on the way, so that every candidate that passes is certified;
such a risk has a share of its own, too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
import numpy.typing as npt

from selectkit.arrays import Bools
from selectkit.policies.constraints import DEFERRAL, Constraint
from selectkit.policies.counted import WHOLE, Labels, counted
from selectkit.risk import Certificate, Infeasible, labels_needed
from selectkit.risk.assumptions import ASSUMPTIONS, DRAWN
from selectkit.risk.budget import labels_needed_at_rate
from selectkit.risk.certificate import unit
from selectkit.risk.suffices import verdict_on
from selectkit.risk.threshold_walk import shuffled_ties
from selectkit.stats import binomial_pvalue, clopper_pearson_upper, dkw_lower
from selectkit.stats.multiplicity import multi_start

Float64s = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

_FOR_COVERAGE = 0.1
_SEQUENCE = (
    "Learn-then-Test, fixed sequence from the strictest threshold with certified coverage, exact "
    "binomial"
)
_MOST = "Learn-then-Test of a risk that never falls, exact binomial"
_QUANTILE = "order statistic of the scores, exact binomial"


@dataclass(frozen=True, slots=True, eq=False)
class _Counted:
    """One constraint at M candidates, strict to lax: rows above, those it is about, and errors."""

    constraint: Constraint
    about: int
    rows: Counts
    accepted: Counts
    errors: Counts

    @property
    def n(self) -> Counts:
        """Rows behind the errors."""
        if self.constraint.risk in WHOLE | {DEFERRAL}:
            return np.full_like(self.accepted, self.about)
        return self.accepted

    def pvalues(self, first: int = 0) -> Float64s:
        """Of "the rate exceeds alpha", from one candidate on."""
        return binomial_pvalue(self.errors[first:], self.n[first:], self.constraint.alpha)


def certified_together(
    scores: Float64s,
    prediction: Labels,
    labels: Labels,
    wanted: Sequence[Constraint],
    *,
    delta: float,
    positive: int | None,
    seed: int = 0,
) -> tuple[Certificate, ...] | Infeasible:
    """Find the most permissive threshold that keeps every constraint.

    Args:
        scores: Shape (N,), finite.
        prediction: Shape (N,), class codes.
        labels: Shape (N,), class codes.
        wanted: The constraints; one on the share deferred at most, and last.
        delta: Probability with which any of them may be broken.
        positive: Code of the positive class, or None.
        seed: Orders rows of equal score; to be fixed before looking at them.

    Returns:
        One certificate per constraint, all for one threshold, or why there are none.
    """
    order = np.lexsort((labels, prediction, -scores))  # however the rows came
    s = scores[order]
    order = order[shuffled_ties(s, np.random.default_rng(seed))]
    deployable = np.append(s[1:] != s[:-1], True)
    below = np.append(s[1:], -np.inf)
    counts = [_count(c, prediction[order], labels[order], positive) for c in wanted]
    deferral = next((c for c in counts if c.constraint.risk == DEFERRAL), None)
    risks = [c for c in counts if c is not deferral]
    for_coverage = 0.0 if deferral is None else (_FOR_COVERAGE if risks else 1.0) * delta
    level = delta - for_coverage
    start = 0
    if deferral is not None:
        meets = deferral.pvalues() <= for_coverage
        if not meets[-1]:
            return _too_few(deferral, delta, for_coverage)
        start = int(np.argmax(meets))
    if risks:
        at_once = np.logical_and.reduce([_affordable(c, level) for c in risks])
        if len(risks) > 1 and at_once.any():  # one start for all, with all of the level
            start = max(start, int(np.argmax(at_once)))
        share = level if at_once[start] else level / len(risks)
        lacking = [c for c in risks if c.n[-1] < labels_needed(c.constraint.alpha, share)]
        if lacking:
            return _too_few(lacking[0], delta, share)
        walks = [_walk(c, start, share, deployable) for c in risks]
        passed = np.logical_and.reduce([passed for passed, _ in walks])
        kept = start + np.flatnonzero(passed & deployable[start:])
        if not kept.size:
            strictest = max(
                int(np.argmax(p)) if p.any() else min(starts, default=0) for p, starts in walks
            )
            return _too_many(risks, start + strictest, delta, share)
        best = int(kept[-1])
        drawn = not all(deployable[start:][starts].all() for _, starts in walks)
    else:
        best, drawn = start + int(np.argmax(deployable[start:])), False
    threshold = float(np.nextafter(below[best], np.inf))
    coverage = (best + 1) / len(s)
    ties = (DRAWN,) if drawn else ()
    return tuple(_certificate(c, best, threshold, coverage, len(s), delta, ties) for c in counts)


def _walk(c: _Counted, first: int, level: float, deployable: Bools) -> tuple[Bools, list[int]]:
    """Which candidates from `first` on keep one risk, and the places where testing starts."""
    p = c.pvalues(first)
    if c.constraint.risk in WHOLE:
        return np.asarray(p <= level), []
    starts = [max(first, start) - first for start in _starts(c, first, level)]
    among_equals = ~deployable[first:]
    among_equals[starts] = False
    p[among_equals] = 0.0  # not tested
    return multi_start(p, level, starts), starts


def _affordable(c: _Counted, level: float) -> Bools:
    """Where three errors are affordable among as many rows as are to be expected there."""
    if c.constraint.risk in WHOLE:
        return np.zeros(len(c.rows), dtype=np.bool_)
    needed = labels_needed(c.constraint.alpha, level, 3)
    return np.asarray(c.about * c.rows >= c.rows[-1] * needed)


def _starts(c: _Counted, first: int, level: float) -> list[int]:
    """Where to start testing: at `first`, or where counts allow, as `certify_threshold` does.

    One start with all of the level where that is affordable; else several, where 0, 3, 12, ...
    errors are, so that one error among the first rows does not end everything.
    """
    alpha, budgets = c.constraint.alpha, [0]
    if _affordable(c, level)[first]:
        return [first]
    while labels_needed(alpha, level / (len(budgets) + 1), 3 * budgets[-1] + 3) <= 0.75 * c.about:
        budgets.append(3 * budgets[-1] + 3)
    counts = [labels_needed(alpha, level / len(budgets), errors) for errors in budgets]
    places = np.searchsorted(c.accepted, [m for m in counts if m <= c.accepted[-1]])
    # up to just above the next row that the risk is about: given its score, all above are draws
    return [int(np.searchsorted(c.accepted, c.accepted[i], side="right")) - 1 for i in places]


def _count(
    constraint: Constraint, prediction: Labels, labels: Labels, positive: int | None
) -> _Counted:
    rows = np.arange(1, len(labels) + 1)
    if constraint.risk == DEFERRAL:
        return _Counted(constraint, len(labels), rows, rows, len(labels) - rows)
    about, wrong = counted(constraint.risk, prediction, labels, positive)
    accepted = np.cumsum(about, dtype=np.int64)
    errors = np.cumsum(wrong, dtype=np.int64)
    return _Counted(constraint, int(about.sum()), rows, accepted, errors)


def _certificate(
    c: _Counted,
    best: int,
    threshold: float,
    coverage: float,
    n: int,
    delta: float,
    ties: tuple[str, ...],
) -> Certificate:
    walked = c.constraint.risk not in WHOLE | {DEFERRAL}
    return Certificate(
        risk=c.constraint.risk,
        alpha=c.constraint.alpha,
        delta=delta,
        kind="pac",
        method=_SEQUENCE if walked else _QUANTILE if c.constraint.risk == DEFERRAL else _MOST,
        threshold=threshold,
        n=c.about,
        n_accepted=int(c.accepted[best]),
        errors=int(c.errors[best]),
        risk_upper=clopper_pearson_upper(c.errors[best], c.n[best], delta),
        coverage=coverage,
        coverage_lower=dkw_lower(coverage, n, delta),
        assumptions=(*ASSUMPTIONS, *(ties if walked else ())),
    )


def _too_few(c: _Counted, delta: float, level: float) -> Infeasible:
    risk, alpha = c.constraint
    needs = labels_needed(alpha, level)
    reason = f"{c.about} {unit(risk)} in the calibration split"
    return Infeasible(risk, alpha, delta, c.about, reason, needs)


def _too_many(risks: Sequence[_Counted], start: int, delta: float, level: float) -> Infeasible:
    """No threshold is in all walks: which risk fails at the strictest, and what would do."""
    c = max(risks, key=lambda c: float(c.pvalues(start)[0]))
    (risk, alpha), k, n = c.constraint, int(c.errors[start]), int(c.n[start])
    accepted = int(c.accepted[start])
    reason = (
        f"{k} of {accepted} {unit(risk)} are errors where as few are accepted as the other targets "
        "and the tests allow"
    )
    if not n:
        return Infeasible(
            risk, alpha, delta, c.about, reason, c.about + labels_needed(alpha, level)
        )
    needs = labels_needed_at_rate(alpha, level, k, n)
    if needs is None:
        reason += verdict_on(k, n, alpha)
    else:
        needs = max(c.about + 1, ceil(needs * c.about / n))
    return Infeasible(risk, alpha, delta, c.about, reason, needs)
