"""Working points of selective classification: the risk at a coverage, the coverage at a risk.

A confidence of -inf means "always defer": such samples never belong to a working point.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from selectkit.arrays import ArrayLike
from selectkit.errors import DataError
from selectkit.metrics import steps as st
from selectkit.metrics.ranked import Ranked, checked


@dataclass(frozen=True, slots=True)
class WorkingPoint:
    """A point of the curve: what is really reached, which ties may keep from what was asked.

    It describes the sample it was read from; it is no promise about new samples.

    Attributes:
        risk: Selective risk, NaN when nothing is accepted.
        coverage: Fraction accepted.
        threshold: Accept iff confidence >= threshold; inf when nothing is accepted.
    """

    risk: float
    coverage: float
    threshold: float


def risk_at_coverage(confidence: ArrayLike, loss: ArrayLike, coverage: float) -> WorkingPoint:
    """Return the working point of smallest coverage that is at least the one asked for.

    Args:
        confidence: Shape (N,), higher = accept first.
        loss: Shape (N,).
        coverage: In (0, 1].

    Returns:
        The point with the coverage it really has. When samples at -inf keep the coverage out of
        reach, the point that accepts all others.

    Raises:
        DataError: If an array is malformed, a confidence is NaN or coverage is outside (0, 1].
    """
    return working_points(confidence, loss, coverages=[coverage])[0]


def coverage_at_risk(confidence: ArrayLike, loss: ArrayLike, risk: float) -> WorkingPoint:
    """Return the working point of largest coverage whose selective risk is at most `risk`.

    The risk is not monotone along the curve, so all points are looked at.

    Args:
        confidence: Shape (N,), higher = accept first.
        loss: Shape (N,).
        risk: Largest allowed mean loss of the accepted, >= 0.

    Returns:
        The point; coverage 0, threshold inf and risk NaN when no point qualifies.

    Raises:
        DataError: If an array is malformed, a confidence is NaN or risk is negative or NaN.
    """
    return working_points(confidence, loss, risks=[risk])[0]


def working_points(
    confidence: ArrayLike,
    loss: ArrayLike,
    *,
    coverages: Sequence[float] = (),
    risks: Sequence[float] = (),
) -> list[WorkingPoint]:
    """Return many working points for one sort of the confidences.

    Args:
        confidence: Shape (N,), higher = accept first.
        loss: Shape (N,).
        coverages: As in `risk_at_coverage`.
        risks: As in `coverage_at_risk`.

    Returns:
        A point per coverage, then a point per risk.

    Raises:
        DataError: If an array is malformed, a confidence is NaN, or a coverage or a risk makes no
            sense.
    """
    for coverage in coverages:
        check_coverage(coverage)
    for risk in risks:
        check_risk(risk)
    ranked = Ranked.of(*checked(confidence, loss))
    steps = ranked.steps()
    indices = [st.reach_coverage(steps, coverage) for coverage in coverages]
    indices += [st.keep_risk(steps, risk) for risk in risks]
    return [_point(steps, ranked.values, int(index)) for index in indices]


def check_coverage(coverage: float) -> None:
    """Refuse a coverage outside (0, 1].

    Args:
        coverage: The coverage asked for.

    Raises:
        DataError: If it is outside (0, 1] or NaN.
    """
    if not 0 < coverage <= 1:
        raise DataError(f"coverage must be in (0, 1], got {coverage}.")


def check_risk(risk: float) -> None:
    """Refuse a negative risk.

    Args:
        risk: The risk asked for.

    Raises:
        DataError: If it is negative or NaN.
    """
    if not risk >= 0:
        raise DataError(f"risk must be at least 0, got {risk}.")


def _point(steps: st.Steps, values: npt.NDArray[np.float64], index: int) -> WorkingPoint:
    if index < 0:
        return WorkingPoint(float("nan"), 0.0, float("inf"))
    accepted = int(steps.accepted[index])
    risk = float(steps.lost[index]) / accepted
    return WorkingPoint(risk, accepted / int(steps.total), float(values[index]))
