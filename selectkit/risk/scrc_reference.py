"""The form of SCRC-I that is in circulation, for comparison only: its promise does not hold."""

from math import log, sqrt

import numpy as np

from selectkit.arrays import ArrayLike
from selectkit.errors import RiskError
from selectkit.risk.certificate import Infeasible
from selectkit.risk.scrc_losses import Misses
from selectkit.risk.scrc_result import SelectiveSets, no_lambda, selective_sets
from selectkit.risk.scrc_rows import Ask, Rows, share_of
from selectkit.stats import dkw_lower


def scrc_i(
    score: ArrayLike,
    losses: ArrayLike | Misses,
    lambdas: ArrayLike | None = None,
    xi: float = 0.8,
    alpha: float = 0.05,
    delta: float = 0.1,
    *,
    reference: bool = False,
    risk: str = "set_error",
) -> SelectiveSets | Infeasible:
    """Run SCRC-I of the first version of https://arxiv.org/abs/2512.12844; promises nothing.

    The threshold is the empirical quantile that accepts a share xi; lambda2 is the smallest with
    sum of losses of accepted rows <= alpha xi_L (n + 1) - 1, where xi_L is the observed share less
    sqrt(ln(2 / delta) / (2 n)).

    What it does not do, measured on the model of `tests/statistical/test_scrc_promises.py`
    (n = 1000, xi = 0.9, alpha = 0.05, delta = 0.1):

    * delta protects the acceptance rate in the denominator only. The true risk among accepted rows
      exceeds alpha in about 36 % of calibration splits (33 to 36 % for n from 200 to 5,000), not in
      10 %. `scrc_split_pac` does it in about 7 %.
    * The coverage falls below xi in about 54 % of splits.
    * The error of rows with a single-class set is about 0.074, half again as large as alpha.

    The circulating script also rounds the budget to ceil((n + 1) alpha xi_L) - 1, up to one error
    more than conformal risk control allows (mean risk .0557 for alpha .05 at n = 200). That slip
    is left out here.

    Args:
        score: As in `scrc_t`.
        losses: As in `scrc_t`, in [0, 1].
        lambdas: As in `scrc_t`.
        xi: Share to accept, in (0, 1).
        alpha: Mean loss that is aimed at.
        delta: Level of the correction of the acceptance rate.
        reference: Must be True: the caller knows that nothing is promised.
        risk: Name of the risk in the certificate.

    Returns:
        Threshold, lambda2 and certificates of kind "none", or why there is no lambda.

    Raises:
        DataError: If an array is malformed, or a loss grows with lambda.
        RiskError: If `reference` is not True, or a level or the lambdas make no sense.
    """
    if not reference:
        raise RiskError(
            "scrc_i does not keep its promise: the true risk exceeds alpha in about a third of "
            "calibration splits at delta = 0.1. Use scrc_t (on average) or scrc_split_pac (with "
            "confidence 1 - delta); for a comparison pass reference=True."
        )
    ask = Ask(xi, alpha, delta, risk)
    rows = Rows.of(score, losses, lambdas, 1.0, None)
    n = len(rows.score)
    rank = min(n, share_of(xi, n))
    threshold = float(np.nextafter(np.partition(rows.score, n - rank)[n - rank], -np.inf))
    cut = rows.cut(threshold)
    corrected = max(0.0, cut.coverage - sqrt(log(2 / delta) / (2 * n)))
    lambda2 = cut.accepted.within(alpha * corrected * (n + 1) - 1)
    if lambda2 is None:
        return no_lambda(ask, cut, None)
    return selective_sets(
        "i",
        ask,
        cut,
        lambda2,
        kinds=("none", "none"),
        level=delta,
        lower=dkw_lower(cut.coverage, n, delta),
        method="SCRC-I as published, first version (reference only)",
        assumptions=("a comparison with the literature: nothing is promised",),
        rng=np.random.default_rng(0),
    )
