"""Selective conformal risk control with confidence: one part selects, the other certifies.

Given a threshold found on other rows, the accepted rows of the second part are independent draws
from the accepted distribution. The exact binomial test (0/1 losses) or the betting test (others)
then needs no correction for the acceptance rate: no Dvoretzky-Kiefer-Wolfowitz term in a
denominator. Tests go along lambda from the largest sets down (Bates et al. 2021,
https://arxiv.org/abs/2101.02703; Angelopoulos et al. 2022, https://arxiv.org/abs/2110.01052).
"""

from math import ceil
from typing import Literal

import numpy as np

from selectkit.arrays import ArrayLike, Bools
from selectkit.errors import RiskError
from selectkit.risk.budget import errors_affordable, labels_needed, labels_needed_at_rate
from selectkit.risk.certificate import Infeasible
from selectkit.risk.scrc_losses import Float64s, Misses, SetLosses
from selectkit.risk.scrc_result import INDEPENDENT, SelectiveSets, no_lambda, selective_sets
from selectkit.risk.scrc_rows import Ask, Rows, finite_score, share_of
from selectkit.stats import clopper_pearson_lower, clopper_pearson_upper
from selectkit.stats.binomial import check_level


def scrc_split_pac(
    score: ArrayLike,
    losses: ArrayLike | Misses,
    lambdas: ArrayLike | None = None,
    xi: float = 0.8,
    alpha: float = 0.05,
    delta: float = 0.1,
    *,
    coverage: Literal["mean", "pac"] = "mean",
    select_score: ArrayLike | None = None,
    share: float = 0.5,
    rng: np.random.Generator | None = None,
    bound: float = 1.0,
    counted: ArrayLike | None = None,
    risk: str = "set_error",
) -> SelectiveSets | Infeasible:
    """Find a threshold and the smallest sets whose risk among accepted rows is certified.

    With probability at least 1 - delta over the draw of the calibration split, the true
    E[loss | accept] at the returned threshold and lambda2 is at most alpha.

    The threshold needs scores only. With coverage "mean" it is the M-th largest of the n1
    selecting scores, M = ceil(xi (n1 + 1)), and P(accept) >= M / (n1 + 1) on average. With "pac"
    it is the order statistic whose true acceptance rate is below xi with probability at most
    delta / 2 (exact: that rate follows Beta(M, n1 - M + 1) and P(Bin(n1, xi) >= M) <= delta / 2),
    and the risk is certified at the other delta / 2.

    Args:
        score: Shape (n,), finite, higher = accept first; a function of the image only.
        losses: As in `scrc_t`.
        lambdas: As in `scrc_t`.
        xi: Share to accept, in (0, 1).
        alpha: Largest allowed mean loss of accepted rows, in (0, 1).
        delta: Probability with which any of the promises may fail.
        coverage: How the acceptance rate is promised.
        select_score: Shape (n1,): scores of other rows, unlabelled ones for instance, that find
            the threshold; all n rows then certify. None: a random part of the n rows is set aside.
        share: Share of the rows that is set aside, in (0, 1), when `select_score` is None.
        rng: Source of that part and of the order in which losses that are not 0/1 are bet on;
            None: numpy's default generator with seed 0.
        bound: B, the largest possible loss.
        counted: As in `scrc_t`.
        risk: Name of the risk in the certificate.

    Returns:
        Threshold (accept iff score > threshold), lambda2 and certificates, or why there is no
        lambda and how many rows would do. Counts are over the certifying part.

    Raises:
        DataError: If an array is malformed, or a loss grows with lambda or leaves [0, bound].
        RiskError: If a level, the lambdas, the bound or the coverage make no sense.
    """
    ask = Ask(xi, alpha, delta, risk)
    check_level(share, "share")
    if coverage not in {"mean", "pac"}:
        raise RiskError(f'coverage must be "mean" or "pac", got {coverage!r}.')
    rng = rng or np.random.default_rng(0)
    rows = Rows.of(score, losses, lambdas, bound, counted)
    level = delta if coverage == "mean" else delta / 2
    selecting, certifying = _parts(rows.score, select_score, share, rng)
    threshold, deferral_upper = _threshold(selecting, xi, level if coverage == "pac" else None)
    cut = rows.cut(threshold, certifying)
    accepted, size = cut.accepted, cut.size
    lambda2 = accepted.certified(alpha, level, rng) if len(accepted) else None
    if lambda2 is None:
        needs = rows_needed(accepted, cut.n, alpha, level)
        scale = len(rows.score) / size if size else 1 / (1 - share)
        whole = None if needs is None else ceil(needs * scale)
        return no_lambda(ask, cut, whole)
    return selective_sets(
        "split_pac",
        ask,
        cut,
        lambda2,
        kinds=("pac", "pac" if coverage == "pac" else "expectation"),
        level=level,
        lower=clopper_pearson_lower(cut.n_above, size, level),
        deferral_upper=deferral_upper,
        method="threshold from one part, fixed sequence along lambda on the other",
        assumptions=INDEPENDENT,
        rng=rng,
    )


def _parts(
    score: Float64s, select_score: ArrayLike | None, share: float, rng: np.random.Generator
) -> tuple[Float64s, Bools]:
    """Scores that find the threshold, and the rows that certify."""
    certifying = np.ones(len(score), dtype=np.bool_)
    if select_score is not None:
        return finite_score(select_score), certifying
    certifying[rng.permutation(len(score))[: round(share * len(score))]] = False
    return score[~certifying], certifying


def _threshold(selecting: Float64s, xi: float, level: float | None) -> tuple[float, float]:
    """The float64 just below the M-th largest score, and a bound of the rate it defers.

    Whoever ties with that score is accepted.
    """
    n = len(selecting)
    if level is None:
        rank = share_of(xi, n + 1)
        upper = 1 - rank / (n + 1)
    else:
        rank = n - errors_affordable(n, round(1 - xi, 12), float(level))
        upper = 0.0 if rank > n else clopper_pearson_upper(n - rank, n, level)
    if rank > n:
        return float("-inf"), 0.0
    return float(np.nextafter(np.partition(selecting, n - rank)[n - rank], -np.inf)), upper


def rows_needed(losses: SetLosses, n: int, alpha: float, level: float) -> int | None:
    """Return how many rows in place of n would certify alpha if the best mean loss seen stays.

    Args:
        losses: Of the accepted among n rows.
        n: Rows that the risk is about.
        alpha: Mean loss to certify.
        level: Level of the test.

    Returns:
        The number of rows, None when no number would do.
    """
    accepted = len(losses)
    if not accepted:
        return labels_needed(alpha, level)
    needed = labels_needed_at_rate(alpha, level, ceil(losses.least() - 1e-9), accepted)
    if needed is not None and needed <= accepted:  # the losses are not 0/1, and vary
        needed = 2 * accepted
    return None if needed is None else ceil(needed * n / accepted)
