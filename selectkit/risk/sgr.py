"""Selection with guaranteed risk (SGR): binary search for a certified threshold.

Source: Geifman and El-Yaniv (2017), "Selective classification for deep neural networks", NeurIPS,
https://arxiv.org/abs/1705.08500, algorithm 1. Differences to the published code: errors are counted
as integers, delta is divided by a number of steps that is set before the search, and the answer is
a threshold whose own bound passed, or Infeasible (the published code returns its last probe).

What is proven. Let the true risk among the accepted rise as the threshold falls. The search turns
to stricter thresholds after a failure and to laxer ones after a success. Until the first mistake (a
success where the risk is above alpha), every threshold with too large a risk that it probes lies on
one path: that of the search that knows the true risk; for a failure at a safe threshold leads to
safe ones only. The path has at most as many steps as delta was divided by, and it depends on
scores, not on labels. So the probability of a mistake is at most delta. If the risk is not
monotone, the probes depend on the labels in more ways than the union covers: no proof is known.
"""

from dataclasses import replace

import numpy as np

from selectkit.arrays import ArrayLike, confidence_and_loss
from selectkit.errors import DataError
from selectkit.risk.assumptions import ASSUMPTIONS
from selectkit.risk.budget import labels_needed
from selectkit.risk.certificate import Certificate, Infeasible
from selectkit.risk.suffices import infeasible
from selectkit.risk.threshold import certificate_of
from selectkit.risk.threshold_candidates import Counts, candidates_of, in_precision_of
from selectkit.stats.binomial import binomial_pvalue, check_level

_MONOTONE = "the true risk among the accepted never falls when more are accepted"


def sgr(
    confidence: ArrayLike,
    loss: ArrayLike,
    *,
    alpha: float,
    delta: float = 0.1,
    risk: str = "error",
) -> Certificate | Infeasible:
    """Return a threshold certified by binary search over the distinct confidences.

    Prefer `certify_threshold`: it needs no monotone risk, pays for a few starts instead of for
    every step, and tests every threshold on the way, so that it accepts more and its promise rests
    on less.

    Args:
        confidence: Shape (N,), higher = accept first; -inf means "always defer".
        loss: Shape (N,), 0 or 1.
        alpha: Largest allowed risk among the accepted, in (0, 1).
        delta: Allowed probability that the promise fails, in (0, 1).
        risk: Name of the risk in the certificate.

    Returns:
        The certificate, with the assumption that the risk is monotone, or why there is none.

    Raises:
        DataError: If an array is malformed or a loss is neither 0 nor 1.
        RiskError: If alpha or delta is outside (0, 1).
    """
    check_level(alpha, "alpha")
    check_level(delta, "delta")
    s, ell = confidence_and_loss(confidence, loss)
    wrong = ell == 1
    if not (wrong | (ell == 0)).all():
        raise DataError("loss must be 0 or 1 in every row: the exact binomial test needs counts.")
    walk = candidates_of(s, wrong, None)
    first, steps = _testable(walk.accepted, alpha, delta)
    best = _search(walk.errors[first:], walk.accepted[first:], alpha, delta / steps)
    if best < 0:
        answer = infeasible(walk, alpha=alpha, delta=delta / steps, risk=risk, total=len(s))
        return replace(answer, delta=delta)
    accepted = int(walk.accepted[first + best])
    found = certificate_of(
        walk.threshold(first + best),
        accepted=accepted,
        errors=int(walk.errors[first + best]),
        n_tested=accepted,
        total=len(s),
        alpha=alpha,
        delta=delta,
        risk=risk,
    )
    return replace(
        in_precision_of(confidence, found),
        method=f"SGR: binary search, union over {steps} steps, exact binomial",
        assumptions=(*ASSUMPTIONS, _MONOTONE),
    )


def _testable(accepted: Counts, alpha: float, delta: float) -> tuple[int, int]:
    """First candidate that could pass, set by counts of scores, and the steps of the search."""
    steps = max(1, len(accepted).bit_length())
    first = int(np.searchsorted(accepted, labels_needed(alpha, delta / steps)))
    return first, max(1, (len(accepted) - first).bit_length())


def _search(errors: Counts, n: Counts, alpha: float, level: float) -> int:
    """The last success of the binary search, which is the laxest; -1 if none."""
    best, low, high = -1, 0, len(n)
    while low < high:
        middle = (low + high) // 2
        if binomial_pvalue(int(errors[middle]), int(n[middle]), alpha) <= level:
            best, low = middle, middle + 1
        else:
            high = middle
    return best
