"""The error of rows whose set is a single class, certified directly.

A set of two classes counts as right when the true class is in it, so a bound on the set loss says
nothing about the rows that are decided, those with one class: at a set loss of 5 % their error is
about 7.6 % in a plain two-class model. Here exits, accepted rows with a single class, are what is
tested.

A row's set is a single class at lambda exactly when lambda is below the lambda at which its second
class enters, which is thereby the confidence of its exit. Lambdas at preset ranks of that
confidence are tested from few exits to many with the exact binomial tail; given such a lambda the
rows above it are independent draws of exits. Every lambda that passes is certified, all together,
so the smallest one that also keeps another promise may be taken. The proof is that of
`selectkit.risk.threshold`; between two ranks the error only adds to that of the rows above the
point where it reached alpha. Like that one it is for lambdas without ties.
"""

from dataclasses import replace
from math import ceil

import numpy as np
import numpy.typing as npt

from selectkit.arrays import ArrayLike, Bools, confidence_and_loss
from selectkit.errors import DataError
from selectkit.risk.assumptions import about_ties
from selectkit.risk.budget import labels_needed
from selectkit.risk.certificate import Certificate, Infeasible, unit
from selectkit.risk.scrc_losses import Float64s
from selectkit.risk.scrc_result import INDEPENDENT
from selectkit.risk.suffices import least_rate, most_promising, samples_like, verdict
from selectkit.stats import binomial_pvalue, clopper_pearson_upper, dkw_lower
from selectkit.stats.binomial import check_level
from selectkit.stats.multiplicity import multi_start

Counts = npt.NDArray[np.int64]

_CANDIDATES = 1000


def certify_singletons(
    second: ArrayLike,
    wrong: ArrayLike,
    *,
    alpha: float,
    delta: float = 0.1,
    at_least: float = 0.0,
    risk: str = "error",
) -> Certificate | Infeasible:
    """Return the smallest certified lambda whose single-class sets are wrong at most at rate alpha.

    With probability at least 1 - delta over the draw of the rows, the true error rate of rows with
    second > lambda is at most alpha, whatever `at_least` depends on.

    Args:
        second: Shape (m,), the lambda at which each accepted row's second class enters, >= 0. The
            rows must be independent draws of accepted rows: those above a threshold that was found
            on other rows, or that is an order statistic of the scores of these.
        wrong: Shape (m,), 0 or 1: whether the single class would be wrong.
        alpha: Largest allowed error rate of exits, in (0, 1).
        delta: Probability with which the promise may fail, in (0, 1).
        at_least: Smallest lambda to consider.
        risk: Name of the risk in the certificate.

    Returns:
        A certificate of kind "pac" whose threshold is the float64 above lambda, so that a row is
        an exit iff second >= threshold; or why there is none and how many accepted rows would do.

    Raises:
        DataError: If an array is malformed or `wrong` is neither 0 nor 1.
        RiskError: If alpha or delta is outside (0, 1).
    """
    check_level(alpha, "alpha")
    check_level(delta, "delta")
    c, ell = confidence_and_loss(second, wrong)
    if not ((ell == 0) | (ell == 1)).all() or c.min() < 0:
        raise DataError("wrong must be 0 or 1, and second at least 0, in every row.")
    lambdas, counts, errors = _candidates(c, ell == 1)
    starts = _starts(counts, alpha, delta)
    if not len(starts):
        reason = f"{len(c)} accepted {unit(risk)} in the calibration split"
        answer = _infeasible(counts, errors, len(c), alpha, delta, risk)
        return replace(answer, reason=reason, needs=answer.needs or labels_needed(alpha, delta))
    passed = multi_start(binomial_pvalue(errors, counts, alpha), delta, starts)
    large = lambdas >= at_least
    usable = np.flatnonzero(passed & large)
    if not usable.size:
        return _infeasible(counts[large], errors[large], len(c), alpha, delta, risk)
    best = int(usable[-1])
    k, exits, m = int(errors[best]), int(counts[best]), len(c)
    return Certificate(
        risk=risk,
        alpha=alpha,
        delta=delta,
        kind="pac",
        method="single-class sets, fixed sequence along lambda with several starts, exact binomial",
        threshold=float(np.nextafter(lambdas[best], np.inf)),
        n=m,
        n_accepted=exits,
        errors=k,
        risk_upper=clopper_pearson_upper(k, exits, delta),
        coverage=exits / m,
        coverage_lower=dkw_lower(exits / m, m, delta),
        assumptions=(*INDEPENDENT, *about_ties(np.sort(c))),
    )


def _candidates(c: Float64s, wrong: Bools) -> tuple[Float64s, Counts, Counts]:
    """Lambdas from large to small, how many rows are above each, and errors in them."""
    m = len(c)
    ranks = np.unique(np.linspace(1, m, min(m, _CANDIDATES)).round().astype(np.int64))[:-1]
    order = np.sort(c)
    failures = np.sort(c[wrong])
    values = np.unique(np.append(order[m - 1 - ranks], 0.0))[::-1]
    counts = m - np.searchsorted(order, values, side="right")
    errors = len(failures) - np.searchsorted(failures, values, side="right")
    tested = counts > 0
    return values[tested], counts[tested], errors[tested]


def _starts(counts: Counts, alpha: float, delta: float) -> Counts:
    """Where 0, 3, 12, 39, ... errors are affordable, by counts only."""
    total = int(counts[-1]) if len(counts) else 0
    budgets = [0]
    while labels_needed(alpha, delta / (len(budgets) + 1), 3 * budgets[-1] + 3) <= 0.75 * total:
        budgets.append(3 * budgets[-1] + 3)
    needed = [labels_needed(alpha, delta / len(budgets), k) for k in budgets]
    starts = np.searchsorted(counts, needed)
    return np.asarray(starts[starts < len(counts)], dtype=np.int64)


def _infeasible(
    counts: Counts, errors: Counts, m: int, alpha: float, delta: float, risk: str
) -> Infeasible:
    """No lambda passed: show the best error rate of those that were large enough."""
    what, smallest, most = unit(risk), labels_needed(alpha, delta), int(counts.max(initial=0))
    found = most_promising(errors, counts, alpha, few=most < smallest) if most else None
    needs = None
    if found is not None:
        n = int(counts[found[0]])
        needs = samples_like(found[1], n, m, alpha=alpha, delta=delta, most=most)
    if most < smallest:
        reason = f"{most} of {m} accepted {what} have single-class sets"
        least = ceil(smallest * m / max(most, 1))
        return Infeasible(risk, alpha, delta, m, reason, max(least, needs or 0))
    best = found[0] if found is not None else least_rate(errors, counts, smallest)
    k, exits = int(errors[best]), int(counts[best])
    reason = f"{k} of the {exits} most confident of {m} accepted {what} are errors"
    if needs is None:
        reason += verdict(errors, counts, alpha, smallest)
    return Infeasible(risk, alpha, delta, m, reason, needs)
