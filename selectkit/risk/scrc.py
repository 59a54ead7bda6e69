"""Selective conformal risk control, the exact one-pass form (SCRC-T).

Source: Xu, Guo and Wei (2025), "Selective Conformal Risk Control", https://arxiv.org/abs/2512.12844;
conformal risk control: Angelopoulos et al. (2024), https://arxiv.org/abs/2208.02814. The published
rule selects among calibration and test rows together, once per test row. For a quantile it needs no
second pass: a test row is among the M largest of n + 1 scores exactly when it exceeds the M-th
largest of the n calibration scores, and the others among the selected are then exactly the
calibration rows above that score. They are exchangeable with the test row, so conformal risk
control on them is valid.
"""

from math import ceil, floor

import numpy as np

from selectkit.arrays import ArrayLike
from selectkit.risk.certificate import Infeasible
from selectkit.risk.scrc_losses import ROUNDING, Misses, SetLosses
from selectkit.risk.scrc_result import INDEPENDENT, SelectiveSets, no_lambda, selective_sets
from selectkit.risk.scrc_rows import Ask, Rows, share_of
from selectkit.stats import dkw_lower

_ASSUMPTIONS = (
    "the sample to come is exchangeable with those of the calibration split",
    *INDEPENDENT[1:],
    "for the deferral rate: no two samples have the same score",
)


def scrc_t(
    score: ArrayLike,
    losses: ArrayLike | Misses,
    lambdas: ArrayLike | None = None,
    xi: float = 0.8,
    alpha: float = 0.05,
    *,
    bound: float = 1.0,
    counted: ArrayLike | None = None,
    risk: str = "set_error",
    delta: float = 0.1,
) -> SelectiveSets | Infeasible:
    """Find the threshold that accepts a share xi, and the smallest sets that keep the risk there.

    With M = ceil(xi (n + 1)) the threshold is the M-th largest score, and lambda2 the smallest
    lambda with sum of losses <= alpha (m + 1) - bound over the m rows above it. Both promises are
    on average over calibration split and test row, and exact: P(accept) = M / (n + 1) and
    E[loss | accept] <= alpha. About half of all splits have a true risk above alpha; for a promise
    with confidence use `scrc_split_pac`.

    Equal scores: the risk is kept whatever the ties, because whoever ties with the threshold is
    deferred; that costs coverage, and when it happens the certificate promises none. Break ties
    beforehand, of calibration and test rows alike, with a second score that does not tie.

    Args:
        score: Shape (n,), finite, higher = accept first; a function of the image only.
        losses: Shape (n, L), in [0, bound], non-increasing along the lambdas; or `Misses`, for
            "the true class is not in the set", with no matrix and every lambda a candidate.
        lambdas: Shape (L,), strictly increasing; None for `Misses`.
        xi: Share to accept, in (0, 1).
        alpha: Largest allowed mean loss of accepted rows, in (0, 1).
        bound: B, the largest possible loss.
        counted: Booleans of shape (n,): the rows that the risk is about, such as the positives;
            the promise is then E[loss | accepted and counted] <= alpha. None: all.
        risk: Name of the risk in the certificate.
        delta: Level of the certificate's descriptive bounds; the promise does not use it.

    Returns:
        Threshold (accept iff score > threshold), lambda2 and certificates of kind "expectation",
        or why there is no lambda and how many rows would do.

    Raises:
        DataError: If an array is malformed, or a loss grows with lambda or leaves [0, bound].
        RiskError: If a level, the lambdas or the bound make no sense.

    Examples:
        >>> found = scrc_t(np.arange(99.0), Misses.of(np.linspace(1, 0, 99)), xi=0.8, alpha=0.05)
        >>> found.threshold, found.n_accepted, found.total_loss
        (19.0, 79, 3.0)
    """
    ask = Ask(xi, alpha, delta, risk)
    rows = Rows.of(score, losses, lambdas, bound, counted)
    n = len(rows.score)
    rank = share_of(xi, n + 1)
    threshold = float(np.partition(rows.score, n - rank)[n - rank]) if rank <= n else -np.inf
    cut = rows.cut(threshold)
    accepted, tied = cut.accepted, cut.n_above < rank - 1
    lambda2 = accepted.within(alpha * (len(accepted) + 1) - bound) if len(accepted) else None
    if lambda2 is None:
        needs = _needs(rows, accepted, xi, alpha)
        return no_lambda(ask, cut, needs, tied=tied, on_average=True)
    return selective_sets(
        "t",
        ask,
        cut,
        lambda2,
        kinds=("expectation", "none" if tied else "expectation"),
        level=delta,
        lower=dkw_lower(cut.coverage, n, delta),
        deferral_upper=(n - cut.n_above) / (n + 1),
        method="selective conformal risk control, one pass (SCRC-T)",
        assumptions=_ASSUMPTIONS,
        rng=np.random.default_rng(0),
    )


def _needs(rows: Rows, accepted: SetLosses, xi: float, alpha: float) -> int | None:
    """Smallest number of rows that would do if the mean at the largest lambda stays, or None.

    With m of them accepted it takes rate m + B <= alpha (m + 1), and with the M-rule m = M - 1.
    """
    m = len(accepted)
    rate = accepted.least() / m if m else 0.0
    if rate >= alpha:
        return None
    needed = max(1, ceil((accepted.bound - alpha) / (alpha - rate) - ROUNDING))
    if rows.counted is None or not m:
        return floor(needed / xi + ROUNDING)
    return ceil(needed * rows.n / m)
