"""Selective classification: risk-coverage curves and their areas.

Sources: Geifman, Uziel and El-Yaniv (2019), "Bias-reduced uncertainty estimation for deep neural
classifiers", https://arxiv.org/abs/1805.08206 (AURC, excess AURC); Traub et al. (2024),
"Overcoming common flaws in the evaluation of selective classification systems",
https://arxiv.org/abs/2407.01032 (AUGRC). Coverage is the accepted fraction, selective risk the mean
loss of the accepted, generalized risk their product. Values are fractions, not per mille.

A confidence of -inf means "always defer": such samples count in the areas as the last to be
accepted.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from selectkit.arrays import ArrayLike, finite_vector
from selectkit.errors import DataError
from selectkit.metrics import steps as st
from selectkit.metrics.ranked import Losses, Ranked, checked, require_errors, unranked_steps

Estimator = Literal["trapezoid", "mean"]


@dataclass(frozen=True, slots=True)
class RiskCoverageCurve:
    """One point per distinct confidence, most confident first; all arrays have shape (G,).

    Attributes:
        coverage: Fraction accepted at the threshold, rising to 1.
        risk: Mean loss of the accepted.
        generalized_risk: Summed loss of the accepted over all N samples.
        threshold: Accept iff confidence >= threshold.
    """

    coverage: npt.NDArray[np.float64]
    risk: npt.NDArray[np.float64]
    generalized_risk: npt.NDArray[np.float64]
    threshold: npt.NDArray[np.float64]


def risk_coverage_curve(confidence: ArrayLike, loss: ArrayLike) -> RiskCoverageCurve:
    """Return the risk-coverage curve.

    Args:
        confidence: Shape (N,), higher = accept first.
        loss: Shape (N,), 1 for an error and 0 for a correct prediction, or any real loss.

    Returns:
        One point per distinct confidence.

    Raises:
        DataError: If an array is malformed or a confidence is NaN.
    """
    ranked = Ranked.of(*checked(confidence, loss))
    steps = ranked.steps()
    n = steps.total
    return RiskCoverageCurve(steps.accepted / n, steps.risk, steps.lost / n, ranked.values.copy())


def augrc(confidence: ArrayLike, loss: ArrayLike) -> float:
    """Return the area under the generalized risk-coverage curve.

    It is the mean risk of an undetected failure: with 0/1 losses and error rate e it equals
    e (1 - e) (1 - AUROC of failures) + e^2 / 2, also in finite samples and under ties. Several
    metrics of one sample share one sort in `selective_metrics`.

    Args:
        confidence: Shape (N,), higher = accept first.
        loss: Shape (N,).

    Returns:
        The area, trapezoid rule over distinct confidences.

    Raises:
        DataError: If an array is malformed or a confidence is NaN.

    Examples:
        >>> round(augrc([0.9, 0.8, 0.7, 0.6, 0.5], [0, 0, 1, 0, 1]), 6)
        0.12
    """
    return float(st.area_generalized(unranked_steps(*checked(confidence, loss))))


def aurc(confidence: ArrayLike, loss: ArrayLike, estimator: Estimator = "trapezoid") -> float:
    """Return the area under the selective risk-coverage curve.

    Several metrics of one sample share one sort in `selective_metrics`.

    Args:
        confidence: Shape (N,), higher = accept first.
        loss: Shape (N,).
        estimator: "trapezoid": over distinct confidences, the first risk extended to coverage 0
            (Traub et al.). "mean": mean selective risk of the N most-confident prefixes
            (Geifman et al.), expected over a random order of tied samples. Without ties they
            differ by (risk of the most confident sample - risk of all) / (2 N).

    Returns:
        The area.

    Raises:
        DataError: If an array is malformed, a confidence is NaN or the estimator is unknown.

    Examples:
        >>> round(aurc([0.9, 0.8, 0.7, 0.6, 0.5], [0, 0, 1, 0, 1]), 7)
        0.1566667
    """
    return float(_area(unranked_steps(*checked(confidence, loss)), estimator))


def optimal_augrc(loss: ArrayLike) -> float:
    """Return the AUGRC of a perfect ranking of these losses: the least one without ties.

    Args:
        loss: Shape (N,), finite; e^2 / 2 for 0/1 losses with error rate e, in finite samples too.

    Returns:
        The area.

    Raises:
        DataError: If the losses are malformed.
    """
    ell = finite_vector(loss, "loss")
    return _optimal_augrc(checked(-ell, ell)[1])


def optimal_aurc(loss: ArrayLike, estimator: Estimator = "trapezoid") -> float:
    """Return the AURC of a perfect ranking of these losses, without ties, for N samples.

    Some code takes the population limit e + (1 - e) ln(1 - e) instead, which is 9 % off at
    N = 100.

    Args:
        loss: Shape (N,), finite.
        estimator: As in `aurc`.

    Returns:
        The area.

    Raises:
        DataError: If the losses are malformed or the estimator is unknown.
    """
    ell = finite_vector(loss, "loss")
    return _optimal_aurc(checked(-ell, ell)[1], estimator)


def e_augrc(confidence: ArrayLike, loss: ArrayLike) -> float:
    """Return the excess AUGRC: AUGRC minus `optimal_augrc`, e^2 / 2 for 0/1 losses.

    Args:
        confidence: Shape (N,), higher = accept first.
        loss: Shape (N,).

    Returns:
        The excess; 0/1 losses never give a negative one beyond rounding.

    Raises:
        DataError: If an array is malformed or a confidence is NaN.
    """
    s, ell = checked(confidence, loss)
    return float(st.area_generalized(unranked_steps(s, ell)) - _optimal_augrc(ell))


def e_aurc(confidence: ArrayLike, loss: ArrayLike, estimator: Estimator = "trapezoid") -> float:
    """Return the excess AURC: AURC minus `optimal_aurc` of the same N losses and estimator.

    A perfect ranking scores exactly 0. Under large ties the trapezoid can undercut every ranking
    without ties, and the excess is then slightly negative.

    Args:
        confidence: Shape (N,), higher = accept first.
        loss: Shape (N,).
        estimator: As in `aurc`.

    Returns:
        The excess.

    Raises:
        DataError: If an array is malformed, a confidence is NaN or the estimator is unknown.
    """
    s, ell = checked(confidence, loss)
    return float(_area(unranked_steps(s, ell), estimator)) - _optimal_aurc(ell, estimator)


def auroc_failure(confidence: ArrayLike, loss: ArrayLike) -> float:
    """Return the probability that a correct prediction is more confident than a wrong one.

    Args:
        confidence: Shape (N,), higher = accept first.
        loss: Shape (N,), 0 or 1.

    Returns:
        The area under the ROC curve of correctness, ties counted half; NaN when all predictions
        are right or all are wrong.

    Raises:
        DataError: If an array is malformed, a confidence is NaN or a loss is neither 0 nor 1.
    """
    s, ell = checked(confidence, loss)
    require_errors(ell, "auroc_failure")
    return float(st.failure_auroc(unranked_steps(s, ell)))


def _area(steps: st.Steps, estimator: Estimator) -> npt.NDArray[np.float64]:
    if estimator == "trapezoid":
        return st.area_trapezoid(steps)
    if estimator == "mean":
        return st.area_mean(steps)
    raise DataError(f'estimator must be "trapezoid" or "mean", got {estimator!r}.')


def _optimal_augrc(ell: Losses) -> float:
    if ell.dtype == np.bool_:
        return float(np.mean(ell) ** 2 / 2)
    return float(st.area_generalized(Ranked.of(-ell.astype(np.float64), ell).steps()))


def _optimal_aurc(ell: Losses, estimator: Estimator) -> float:
    if estimator not in {"trapezoid", "mean"}:
        raise DataError(f'estimator must be "trapezoid" or "mean", got {estimator!r}.')
    trapezoid = estimator == "trapezoid"
    if ell.dtype == np.bool_:
        n = np.array([float(len(ell))])
        steps = st.Steps(n, np.array([float(np.count_nonzero(ell))]), 1)
        return float(st.best_area_of_errors(steps, trapezoid=trapezoid))
    return float(st.best_area(Ranked.of(-ell.astype(np.float64), ell).steps(), trapezoid=trapezoid))
