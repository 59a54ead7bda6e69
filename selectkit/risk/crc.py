"""Conformal risk control: a risk at most alpha on average over calibration splits.

Source: Angelopoulos, Bates, Fisch, Lei and Schuster (2024), "Conformal risk control", ICLR,
https://arxiv.org/abs/2208.02814, theorem 1: with exchangeable losses L_i in [0, B] that do not
rise with lambda, the smallest lambda with (sum_i L_i(lambda) + B) / (n + 1) <= alpha keeps
E[L_{n+1}(lambda)] <= alpha. The mean is over calibration splits and the next sample together: for
about half of the splits the true risk is above alpha. `certify_threshold` promises more.

Both ends are branches of their own. If every lambda is allowed, the smallest is the answer. If
none is, the answer is Infeasible; deferring everything then has no loss, so that the mean over all
calibration splits, those without an answer included, is still at most alpha.
"""

from math import ceil, nextafter
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from selectkit.arrays import ArrayLike, confidence_and_loss, finite_matrix, finite_vector
from selectkit.errors import DataError, RiskError
from selectkit.risk.certificate import Certificate, Infeasible, unit
from selectkit.risk.threshold_candidates import LOWEST, in_precision_of
from selectkit.stats.binomial import check_level, dkw_lower

Float64s: TypeAlias = npt.NDArray[np.float64]

_ROUNDING = 1e-9
_ASSUMPTIONS = (
    "the samples to come are exchangeable with those of the calibration split",
    "nothing was chosen on the calibration split except this threshold",
)


def crc_threshold(
    confidence: ArrayLike,
    loss: ArrayLike,
    *,
    alpha: float,
    bound: float = 1.0,
    delta: float = 0.1,
    risk: str = "miss_rate",
) -> Certificate | Infeasible:
    """Return the most permissive threshold whose mean loss is at most alpha on average.

    The loss of a sample that is not accepted is 0, so that the risk is the mean over all samples
    (such as the share of all positives that are accepted and missed) and falls with the threshold.
    For 0/1 losses the accepted errors may be at most floor(alpha (n + 1) - 1). The risk among the
    accepted is not monotone: use `certify_threshold` for it.

    Args:
        confidence: Shape (N,), higher = accept first; -inf means "always defer".
        loss: Shape (N,), in [0, bound]. For a risk over positives pass the positives only.
        alpha: Largest allowed mean loss, in (0, bound).
        bound: The largest loss possible, B; a property of the loss, not of the sample.
        delta: Level of `coverage_lower`; the promise has none.
        risk: Name of the risk in the certificate.

    Returns:
        A certificate of the kind "expectation", or Infeasible where n < B / alpha - 1. Where the
        most confident samples alone break the budget, the threshold is above all N confidences.

    Raises:
        DataError: If an array is malformed or a loss is outside [0, bound].
        RiskError: If alpha, bound or delta make no sense.

    Examples:
        >>> found = crc_threshold(np.linspace(1, 0, 100), np.arange(100) % 10 == 9, alpha=0.05)
        >>> found.n_accepted, found.errors  # 5 errors are one too many: 0.05 * 101 - 1 = 4.05
        (49, 4)
    """
    _check(alpha, bound, delta)
    s, ell = confidence_and_loss(confidence, loss)
    _check_losses(ell, bound)
    n, budget = len(s), alpha * (len(s) + 1) - bound + _ROUNDING
    if budget < 0:
        return _too_few(risk, alpha, delta, bound, n)
    costly = (ell > 0) & (s >= LOWEST)  # a sum can pass the budget only where a loss comes in
    falling = np.argsort(-s[costly])
    total = np.cumsum(ell[costly][falling])
    fits = int(np.searchsorted(total, budget, side="right"))
    threshold = LOWEST
    if fits < len(total):
        threshold = nextafter(s[costly][falling[fits]], np.inf)
    accepted = s >= threshold
    errors, coverage = int((ell[accepted] > 0).sum()), float(accepted.mean())
    lost = float(ell[accepted].sum())
    found = Certificate(
        risk=risk,
        alpha=alpha,
        delta=delta,
        kind="expectation",
        method="conformal risk control",
        threshold=threshold,
        n=n,
        n_accepted=int(accepted.sum()),
        errors=errors,
        risk_upper=(lost + bound) / (n + 1),
        coverage=coverage,
        coverage_lower=dkw_lower(coverage, n, delta),
        assumptions=_ASSUMPTIONS,
        mean_loss=None if lost == errors else lost / n,
    )
    return in_precision_of(confidence, found)


def crc_lambda(
    losses: ArrayLike,
    lambdas: ArrayLike,
    *,
    alpha: float,
    bound: float = 1.0,
    delta: float = 0.1,
    risk: str = "loss",
    monotonise: bool = False,
) -> Certificate | Infeasible:
    """Return the smallest lambda of a grid whose mean loss is at most alpha on average.

    Args:
        losses: Shape (N, L), in [0, bound]: sample i under lambda j, along lambda never rising
            (such as the share of true labels that a set misses, which grows with lambda).
        lambdas: Shape (L,), rising, fixed without these samples.
        alpha: Largest allowed mean loss, in (0, bound).
        bound: The largest loss possible, B.
        delta: Kept in the certificate; the promise has none.
        risk: Name of the risk in the certificate.
        monotonise: Replace a loss by the largest at this or any larger lambda, which bounds it, so
            that the promise holds for both. False: rising losses are refused.

    Returns:
        A certificate of the kind "expectation" whose threshold is lambda; every sample counts as
        accepted, an error is a loss above 0. Or Infeasible: n < B / alpha - 1, or the losses at the
        largest lambda are too large.

    Raises:
        DataError: If an array is malformed, a loss is outside [0, bound] or rises with lambda.
        RiskError: If alpha, bound, delta or the lambdas make no sense.
    """
    _check(alpha, bound, delta)
    matrix, grid = finite_matrix(losses, "losses"), finite_vector(lambdas, "lambdas")
    _check_losses(matrix, bound)
    n, size = matrix.shape
    if grid.shape != (size,) or (np.diff(grid) <= 0).any():
        raise RiskError(f"lambdas must be {size} rising numbers, one for each column of losses.")
    if monotonise:
        matrix = np.maximum.accumulate(matrix[:, ::-1], axis=1)[:, ::-1]
    _refuse_rising(matrix)
    total = matrix.sum(axis=0)
    budget = alpha * (n + 1) - bound + _ROUNDING
    if budget < 0:
        return _too_few(risk, alpha, delta, bound, n)
    if total[-1] > budget:
        return _not_even_the_last(risk, alpha, delta, bound, n, float(total[-1] / n))
    best = size - int(np.searchsorted(total[::-1], budget, side="right"))
    lost, errors = float(total[best]), int((matrix[:, best] > 0).sum())
    return Certificate(
        risk=risk,
        alpha=alpha,
        delta=delta,
        kind="expectation",
        method="conformal risk control on a grid" + (", monotonised losses" if monotonise else ""),
        threshold=float(grid[best]),
        n=n,
        n_accepted=n,
        errors=errors,
        risk_upper=(lost + bound) / (n + 1),
        coverage=1.0,
        coverage_lower=1.0,
        assumptions=_ASSUMPTIONS,
        mean_loss=None if lost == errors else lost / n,
    )


def _check(alpha: float, bound: float, delta: float) -> None:
    if not 0 < bound < np.inf:
        raise RiskError(f"bound must be a positive number, got {bound}.")
    if not 0 < alpha < bound or bound / alpha > 1e300:
        raise RiskError(f"alpha must lie strictly between 0 and bound = {bound:g}, got {alpha}.")
    check_level(delta, "delta")


def _check_losses(losses: Float64s, bound: float) -> None:
    if losses.min() < 0 or losses.max() > bound:
        raise DataError(
            f"losses must lie in [0, {bound:g}], got {losses.min():.6g} to {losses.max():.6g}. "
            "Pass the largest loss possible as bound."
        )


def _refuse_rising(matrix: Float64s) -> None:
    rising = matrix[:, 1:] > matrix[:, :-1]
    if rising.any():
        row, column = (int(i) for i in np.argwhere(rising)[0])
        raise DataError(
            f"losses must not rise along lambda, but in row {row} they do from column {column} to "
            f"{column + 1}. Pass monotonise=True to bound them, or use learn_then_test."
        )


def _too_few(risk: str, alpha: float, delta: float, bound: float, n: int) -> Infeasible:
    reason = f"{n} {unit(risk)} in the calibration split"
    needs = ceil(bound / alpha - 1 - _ROUNDING)
    return Infeasible(risk, alpha, delta, n, reason, needs, on_average=True)


def _not_even_the_last(
    risk: str, alpha: float, delta: float, bound: float, n: int, mean: float
) -> Infeasible:
    reason = f"the mean loss at the largest lambda is {mean:.4g}"
    needs = None
    if mean < alpha:
        needs = max(n + 1, ceil((bound - alpha) / (alpha - mean) - _ROUNDING))
    else:
        reason += ", so more labels will not help"
    return Infeasible(risk, alpha, delta, n, reason, needs, on_average=True)
