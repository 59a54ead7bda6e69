"""How many samples like these would do? The number that an infeasible answer names.

An estimate, no promise. The samples to come are taken to be like those seen: of the most confident
share, in which m samples were seen with k errors, they bring as many more and err at the same rate.
Which share to look at is the choice of whoever asks, and the best of many rates looks better than
it is. So where there are errors at all the rate is taken as (k + 2/3) / m, about its median given
k errors; that is below the level sought only where m is large enough to tell.
"""

from math import ceil, log

import numpy as np

from selectkit.risk.budget import labels_needed, labels_needed_at_rate
from selectkit.risk.certificate import Infeasible, unit
from selectkit.risk.threshold_candidates import Candidates, Counts, Float64s, start_counts
from selectkit.risk.threshold_walk import exponent

_MEDIAN = 2 / 3


def most_promising(
    errors: Counts | Float64s, n: Counts, alpha: float, *, few: bool, largest: float = 1.0
) -> tuple[int, float] | None:
    """Return the most confident share whose rate is most clearly below alpha.

    Args:
        errors: Errors, or summed losses, in each share, shape (M,), M >= 1.
        n: Samples in each, shape (M,), >= 1.
        alpha: Level sought, in (0, 1).
        few: Whether these are too few for any test; then a rate as seen must do.
        largest: The largest loss seen.

    Returns:
        Its index and the errors to reckon with; None where no rate is clearly below alpha.
    """
    margin = _MEDIAN * largest if errors[-1] > 0 else 0.0
    for more in (margin, 0.0) if few else (margin,):
        promise = exponent(np.asarray(errors + more, dtype=np.float64), n, alpha)
        best = int(np.argmax(promise))
        if promise[best] > 0:
            return best, float(errors[best] + more)
    return None


def verdict(errors: Counts | Float64s, n: Counts, alpha: float, smallest: int = 1) -> str:
    """Return what is to be said where no number would do: whether that is known.

    Args:
        errors: As in `most_promising`.
        n: As in `most_promising`.
        alpha: Level sought, in (0, 1).
        smallest: Samples that a test takes.

    Returns:
        The end of a sentence: that no rate is below alpha, and none on which it could be tested
        above it by chance (Chernoff's bound below 10 %); or that this is not known.
    """
    from scipy.special import rel_entr

    rate = errors / np.maximum(n, 1)
    nats = n * (rel_entr(rate, alpha) + rel_entr(1 - rate, 1 - alpha))
    if (rate >= alpha).all() and (nats[n >= smallest] >= log(10)).all():
        return ", so more labels will not help"
    return "; whether more labels would help cannot be told from these"


def verdict_on(errors: int, n: int, alpha: float) -> str:
    """Return `verdict` on one rate.

    Args:
        errors: Errors seen.
        n: Samples they are among.
        alpha: Level sought, in (0, 1).

    Returns:
        The end of a sentence.
    """
    return verdict(np.array([errors]), np.array([n]), alpha)


def samples_like(
    errors: float, n: int, total: int, *, alpha: float, delta: float, most: int | None = None
) -> int | None:
    """Return how many samples in all would certify alpha if n of `total` err at the rate seen.

    Args:
        errors: Errors to reckon with among the n most confident.
        n: So many most confident samples.
        total: Samples in all.
        alpha: Level sought, in (0, 1).
        delta: Probability with which the promise may fail, for all starts of the walk together.
        most: Samples that can ever be accepted, which say how many starts there are; None: all.

    Returns:
        The number, more than `total`; None where none would do.
    """
    needed = labels_needed_at_rate(alpha, delta, errors, n)
    if needed is None:
        return None
    usable = (total if most is None else most) / n
    for _ in range(2):  # more samples, more starts, a smaller share of delta for each
        share = start_counts(ceil(needed * usable), alpha, delta)[1]
        needed = labels_needed_at_rate(alpha, share, errors, n) or needed
    return max(total + 1, ceil(needed * total / n))


def least_rate(errors: Counts | Float64s, n: Counts, smallest: int) -> int:
    """Return the share with the smallest rate of those that are large enough for a test.

    Args:
        errors: As in `most_promising`.
        n: As in `most_promising`.
        smallest: Samples that a test takes.

    Returns:
        Its index.
    """
    return int(np.argmin(np.where(n >= smallest, errors / np.maximum(n, 1), np.inf)))


def infeasible(
    walk: Candidates,
    *,
    alpha: float,
    delta: float,
    risk: str,
    total: int,
    among_accepted: bool = True,
) -> Infeasible:
    """Say why no threshold passed, and what would suffice.

    Args:
        walk: The thresholds, from strict to lax.
        alpha: Level sought, in (0, 1).
        delta: Probability with which the promise may fail.
        risk: Its name.
        total: Samples in all.
        among_accepted: Whether errors are counted among the accepted; else among all.

    Returns:
        Too few samples, or too many errors among the most confident.
    """
    smallest = labels_needed(alpha, delta)
    tested = walk.accepted if among_accepted else np.full_like(walk.accepted, total)
    few = not len(tested) or bool(tested[-1] < smallest)
    found = most_promising(walk.errors, tested, alpha, few=few) if len(tested) else None
    if few:
        usable = int(walk.accepted[-1]) if len(tested) else 0
        reason = f"{usable} {unit(risk)} in the calibration split"
        if usable < total:
            reason += f" can be accepted (of {total})"
        needs: int | None = smallest
        if found is not None and among_accepted:
            best, errors = found
            like = samples_like(errors, int(tested[best]), total, alpha=alpha, delta=delta)
            needs = max(smallest, like or 0)
        return Infeasible(risk, alpha, delta, total, reason, needs)
    best = found[0] if found is not None else least_rate(walk.errors, tested, smallest)
    k, n, accepted = int(walk.errors[best]), int(tested[best]), int(walk.accepted[best])
    reason = f"{k} of the {accepted} most confident {unit(risk)} are errors"
    if accepted == 1:
        reason = f"the most confident of {total} {unit(risk)} is an error"
    if n > accepted:
        reason += f" (of {n} in all)"
    needs = None
    if found is not None and among_accepted:
        needs = samples_like(found[1], n, total, alpha=alpha, delta=delta)
    elif not among_accepted and k < alpha * n:
        needs = labels_needed_at_rate(alpha, delta, k, n)
    if needs is None:
        reason += verdict(walk.errors, tested, alpha, smallest)
    elif among_accepted and n >= labels_needed(alpha, delta, k):  # alone they would pass
        reason += ", but errors came too early among them"
    return Infeasible(risk, alpha, delta, total, reason, needs)
