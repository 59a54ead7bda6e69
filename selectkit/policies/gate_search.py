"""One threshold for several constraints: shares deferred and risks, certified together.

Coverage. With N rows sorted by falling score, P(S >= S_(n)) < c only if at least n rows lie above
the score at which coverage is c, and their number is at most binomial: the probability is at most
P(Bin(N, c) >= n), ties included. All thresholds at or below S_(n) have at least its coverage, so
one such event covers them all.

Risks. Candidates accept the rows strictly above one of the scores: given this score, they are
independent draws from what the candidate accepts. They are tested from strict to lax, first the
strictest whose coverage is certified, each by the largest of its p-values, until one fails. Where
coverage asks for so little that an early error would end the walk, it has several starts, set by
counts (Wiens, 2003). That argument is exact for scores without ties; with ties, and where a risk
is about some of the rows only, the promise has been simulated, not proven.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
import numpy.typing as npt

from selectkit.policies.constraints import DEFERRAL, Constraint
from selectkit.policies.counted import WHOLE, Labels, counted
from selectkit.risk import Certificate, Infeasible, labels_needed
from selectkit.risk.budget import labels_needed_at_rate
from selectkit.risk.certificate import unit
from selectkit.stats import binomial_pvalue, clopper_pearson_upper, dkw_lower
from selectkit.stats.multiplicity import multi_start

Float64s = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

_FOR_COVERAGE = 0.1
_ASSUMPTIONS = (
    "the samples to come are drawn independently from the distribution of the calibration split",
    "nothing was chosen on the calibration split except this threshold",
)
_SEQUENCE = (
    "Learn-then-Test, fixed sequence from the strictest threshold with certified coverage, exact "
    "binomial"
)
_QUANTILE = "order statistic of the scores, exact binomial"


@dataclass(frozen=True, slots=True, eq=False)
class _Counted:
    """One constraint at M candidates, strict to lax."""

    constraint: Constraint
    about: int
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
) -> tuple[Certificate, ...] | Infeasible:
    """Find the most permissive threshold that keeps every constraint.

    Args:
        scores: Shape (N,), finite.
        prediction: Shape (N,), class codes.
        labels: Shape (N,), class codes.
        wanted: The constraints; one on the share deferred at most, and last.
        delta: Probability with which any of them may be broken.
        positive: Code of the positive class, or None.

    Returns:
        One certificate per constraint, all for one threshold, or why there are none.
    """
    order = np.argsort(-scores, kind="stable")
    s = scores[order]
    ends = np.append(np.flatnonzero(s[1:] != s[:-1]), len(s) - 1)  # candidates: last of equal rows
    below = np.append(s[ends[:-1] + 1], -np.inf)
    counts = [_count(c, prediction[order], labels[order], positive, ends) for c in wanted]
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
    best = start
    if risks:
        starts = _starts(risks, start, level)
        if isinstance(starts, _Counted):
            return _too_few(starts, delta, level)
        first = starts[0]
        p = np.max([c.pvalues(first) for c in risks], axis=0)
        passed = multi_start(p, level, [start - first for start in starts])
        if not passed.any():
            return _too_many(risks, first, delta, level)
        best = first + int(np.flatnonzero(passed)[-1])
    threshold = float(np.nextafter(below[best], np.inf))
    coverage = (int(ends[best]) + 1) / len(s)
    return tuple(_certificate(c, best, threshold, coverage, len(s), delta) for c in counts)


def _starts(risks: Sequence[_Counted], first: int, level: float) -> list[int] | _Counted:
    """Where to start testing: at `first`, or where counts allow, as `certify_threshold` does.

    One start with all of delta where three errors are affordable; else several, where 0, 3, 12, ...
    errors are, so that one error among the first rows does not end everything. A risk without
    enough rows for any test is returned instead.
    """

    def place(errors: int, share: float, among: float = 1.0) -> int | None:
        places = [first]
        for c in risks:
            enough = c.n >= labels_needed(c.constraint.alpha, share, errors)
            if not enough[-1] or labels_needed(c.constraint.alpha, share, errors) > among * c.about:
                return None
            places.append(int(np.argmax(enough)))
        return max(places)

    if place(3, level) == first:
        return [first]
    lacking = [c for c in risks if c.n[-1] < labels_needed(c.constraint.alpha, level)]
    if lacking:
        return lacking[0]
    budgets = [0]
    while place(3 * budgets[-1] + 3, level / (len(budgets) + 1), 0.75) is not None:
        budgets.append(3 * budgets[-1] + 3)
    found = [place(errors, level / len(budgets)) for errors in budgets]
    return [start for start in found if start is not None]


def _count(
    constraint: Constraint, prediction: Labels, labels: Labels, positive: int | None, ends: Counts
) -> _Counted:
    if constraint.risk == DEFERRAL:
        return _Counted(constraint, len(labels), ends + 1, len(labels) - 1 - ends)
    about, wrong = counted(constraint.risk, prediction, labels, positive)
    accepted = np.cumsum(about, dtype=np.int64)[ends]
    errors = np.cumsum(wrong, dtype=np.int64)[ends]
    return _Counted(constraint, int(about.sum()), accepted, errors)


def _certificate(
    c: _Counted, best: int, threshold: float, coverage: float, n: int, delta: float
) -> Certificate:
    return Certificate(
        risk=c.constraint.risk,
        alpha=c.constraint.alpha,
        delta=delta,
        kind="pac",
        method=_QUANTILE if c.constraint.risk == DEFERRAL else _SEQUENCE,
        threshold=threshold,
        n=c.about,
        n_accepted=int(c.accepted[best]),
        errors=int(c.errors[best]),
        risk_upper=clopper_pearson_upper(c.errors[best], c.n[best], delta),
        coverage=coverage,
        coverage_lower=dkw_lower(coverage, n, delta),
        assumptions=_ASSUMPTIONS,
    )


def _too_few(c: _Counted, delta: float, level: float) -> Infeasible:
    risk, alpha = c.constraint
    needs = labels_needed(alpha, level)
    reason = f"{c.about} {unit(risk)} in the calibration split"
    return Infeasible(risk, alpha, delta, c.about, reason, needs)


def _too_many(risks: Sequence[_Counted], start: int, delta: float, level: float) -> Infeasible:
    """The first test failed: by which risk, and how many samples would do at this rate."""
    c = max(risks, key=lambda c: float(c.pvalues(start)[0]))
    (risk, alpha), k, n = c.constraint, int(c.errors[start]), int(c.n[start])
    accepted = int(c.accepted[start])
    reason = (
        f"{k} of {accepted} {unit(risk)} are errors where as few are accepted as the other targets "
        "allow"
    )
    needs = labels_needed_at_rate(alpha, level, k, n)
    if needs is None:
        reason += ", so more labels will not help"
    else:
        needs = max(c.about + 1, ceil(needs * c.about / n))
    return Infeasible(risk, alpha, delta, c.about, reason, needs)
