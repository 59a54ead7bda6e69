"""Several hypotheses, one delta: which of M p-values certify something.

Every rule takes p-values of shape (M,), each valid on its own (P(p <= u) <= u when there is nothing
to certify), with any dependence among them, and keeps the probability of certifying anything
falsely at or below delta. Order, shares and starts must be fixed before the labels are seen.

Sources: Bonferroni; Maurer, Hothorn and Lehmacher (1995) for the fixed sequence; Wiens (2003), "A
fixed sequence Bonferroni procedure for testing multiple endpoints", Pharmaceutical Statistics 2,
for several starts; Angelopoulos et al. (2022), https://arxiv.org/abs/2110.01052, for their use in
risk control. Holm's rule is `selectkit.metrics.holm`.
"""

import numpy as np

from selectkit.arrays import ArrayLike, Bools, real_array, regular_array
from selectkit.errors import DataError, RiskError
from selectkit.stats.binomial import Float64s, check_level


def bonferroni(pvalues: ArrayLike, delta: float) -> Bools:
    """Certify where p <= delta / M: needs no order.

    Args:
        pvalues: Shape (M,), M >= 1, in [0, 1].
        delta: Probability of any false certificate, in (0, 1).

    Returns:
        Shape (M,), True where certified.

    Raises:
        DataError: If a p-value is not in [0, 1] or the shape is wrong.
        RiskError: If delta is outside (0, 1).

    Examples:
        >>> bonferroni([0.04, 0.001, 0.06], 0.1)
        array([False,  True, False])
    """
    p = _checked(pvalues, delta)
    return np.asarray(p <= delta / len(p))


def split(pvalues: ArrayLike, delta: float, shares: ArrayLike) -> Bools:
    """Certify where p <= share * delta: Bonferroni's rule with weights.

    Args:
        pvalues: Shape (M,), M >= 1, in [0, 1].
        delta: Probability of any false certificate, in (0, 1).
        shares: Shape (M,), each >= 0, together at most 1.

    Returns:
        Shape (M,), True where certified; a share of 0 certifies nothing.

    Raises:
        DataError: If a p-value is not in [0, 1] or the shape is wrong.
        RiskError: If delta is outside (0, 1) or the shares are more than the whole.

    Examples:
        >>> split([0.04, 0.001], 0.1, shares=[0.9, 0.1])
        array([ True,  True])
    """
    p = _checked(pvalues, delta)
    share = real_array(shares, "shares")
    if share.shape != p.shape or not (share >= 0).all() or not share.sum() <= 1 + 1e-12:
        raise RiskError(
            f"shares must be {len(p)} numbers >= 0 that sum to at most 1; got shape "
            f"{share.shape} with sum {share.sum():.6g}."
        )
    return np.asarray((p <= share * delta) & (share > 0))


def fixed_sequence(pvalues: ArrayLike, delta: float) -> Bools:
    """Certify from the first hypothesis on until one has p > delta: no correction at all.

    Args:
        pvalues: Shape (M,), M >= 1, in [0, 1], in the order of testing.
        delta: Probability of any false certificate, in (0, 1).

    Returns:
        Shape (M,), True where certified: a run from the front.

    Raises:
        DataError: If a p-value is not in [0, 1] or the shape is wrong.
        RiskError: If delta is outside (0, 1).

    Examples:
        >>> fixed_sequence([0.01, 0.09, 0.2, 0.001], 0.1)
        array([ True,  True, False, False])
    """
    return np.asarray(np.logical_and.accumulate(_checked(pvalues, delta) <= delta))


def multi_start(pvalues: ArrayLike, delta: float, starts: ArrayLike) -> Bools:
    """Walk a fixed sequence from several starts, each with an equal share of delta.

    A stretch from one start to the next that is certified as a whole hands its level on, so a walk
    without any failure ends with all of delta. A failure ends a stretch; the next start begins
    again with its own share.

    Args:
        pvalues: Shape (M,), M >= 1, in [0, 1], in the order of testing.
        delta: Probability of any false certificate, in (0, 1).
        starts: Shape (S,), S >= 1, indices in [0, M). What lies before the first is not tested; a
            start given twice has two shares.

    Returns:
        Shape (M,), True where certified.

    Raises:
        DataError: If a p-value is not in [0, 1] or the shape is wrong.
        RiskError: If delta is outside (0, 1) or the starts are no indices.

    Examples:
        >>> multi_start([0.01, 0.9, 0.04, 0.05, 0.06], 0.1, starts=[0, 2])
        array([ True, False,  True,  True, False])
    """
    p = _checked(pvalues, delta)
    first, shares = _starts(starts, len(p), delta)
    certified, carried = np.zeros(len(p), dtype=np.bool_), 0.0
    for start, stop, share in zip(first, [*first[1:], len(p)], shares, strict=True):
        level = min(delta, carried + share)
        run = np.logical_and.accumulate(p[start:stop] <= level)
        certified[start:stop] = run
        carried = level if run[-1] else 0.0
    return certified


def _starts(starts: ArrayLike, size: int, delta: float) -> tuple[list[int], list[float]]:
    index = regular_array(starts, "starts")
    if index.ndim != 1 or index.size == 0 or index.dtype.kind not in "iu":
        raise RiskError(f"starts must be integers of shape (S,), S >= 1; got {starts!r}.")
    if index.min() < 0 or index.max() >= size:
        raise RiskError(f"starts must be indices in [0, {size}), got {index.tolist()}.")
    first, copies = np.unique(index, return_counts=True)
    return first.tolist(), (copies * (delta / len(index))).tolist()


def _checked(pvalues: ArrayLike, delta: float) -> Float64s:
    check_level(delta, "delta")
    p = real_array(pvalues, "pvalues")
    if p.ndim != 1 or p.size == 0:
        raise DataError(f"pvalues must have shape (M,) with M >= 1, got {p.shape}.")
    if not (p.min() >= 0 and p.max() <= 1):  # NaN compares as false
        wrong = int(np.flatnonzero(~((p >= 0) & (p <= 1)))[0])
        raise DataError(f"pvalues must lie in [0, 1], got {p[wrong]} at index {wrong}.")
    return p
