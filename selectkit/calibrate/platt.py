"""Platt scaling: a logistic curve through the logit difference of two classes.

Sources: Platt (1999), "Probabilistic outputs for support vector machines"; the fit follows Lin,
Lin and Weng (2007), "A note on Platt's probabilistic outputs for support vector machines", Machine
Learning 68, https://doi.org/10.1007/s10994-007-5018-6: Newton's method with backtracking on
smoothed targets, which are finite even when the classes can be separated.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, isfinite, log
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from selectkit.arrays import ArrayLike
from selectkit.calibrate.door import usable_logits, usable_rows
from selectkit.errors import CalibrationError, DataError

Float64s = npt.NDArray[np.float64]

_ITERATIONS = 100
_TOLERANCE = 1e-10


@dataclass(frozen=True, slots=True)
class Platt:
    """p(class 1) = sigmoid(slope u + intercept), u = logit of class 1 minus logit of class 0.

    The intercept moves the decision boundary, so that the predicted class may change.

    Attributes:
        slope: a > 0, no unit.
        intercept: b, in logits.

    Examples:
        >>> logits = np.array([[0.0, -2.0], [0.0, -1.0], [0.0, 1.0], [0.0, 2.0]])
        >>> calibrator = Platt.fit(logits, labels=np.array([0, 1, 0, 1]))
        >>> calibrator.probabilities(logits)[:, 1].round(2)
        array([0.4 , 0.45, 0.55, 0.6 ])
    """

    method: ClassVar[str] = "platt"
    slope: float
    intercept: float

    @classmethod
    def fit(cls, logits: ArrayLike, labels: ArrayLike) -> Self:
        """Minimise the cross-entropy to Platt's smoothed targets.

        With N+ samples of class 1 and N- of class 0 the targets are (N+ + 1) / (N+ + 2) and
        1 / (N- + 2).

        Args:
            logits: Shape (N, 2), finite.
            labels: Shape (N,), 0 or 1, from the selection split.

        Returns:
            The calibrator, both parameters exact to about 1e-9.

        Raises:
            DataError: If an array is wrong or there are more than two classes.
            CalibrationError: If one class is missing, all logit differences are equal, or the
                best slope is not positive: the logits are no better than chance.
        """
        z, y = usable_rows(logits, labels)
        u = _difference(z)
        n = len(y)
        n_positive = int(y.sum())
        if n_positive in {0, n}:
            raise CalibrationError(
                f"all {n} labels are class {y[0]}: Platt scaling needs samples of both classes."
            )
        if np.ptp(u) == 0:
            raise CalibrationError(
                f"all {n} logit differences are {u[0]:g}: there is nothing to calibrate."
            )
        slope, intercept = _newton(u, targets(y))
        if slope <= 0:
            raise CalibrationError(
                f"Platt's slope for these {n} samples is {slope:.3g}: the logits are no better "
                "than chance. Check that logits and labels share split and order."
            )
        return cls(slope=slope, intercept=intercept)

    def probabilities(self, logits: ArrayLike) -> Float64s:
        """Return the probabilities of both classes.

        Args:
            logits: Shape (N, 2), finite.

        Returns:
            Shape (N, 2), float64, rows sum to one.

        Raises:
            DataError: If the shape is wrong or an entry is not finite.
        """
        v = self.slope * _difference(usable_logits(logits)) + self.intercept
        return np.stack([_sigmoid(-v), _sigmoid(v)], axis=1)

    def to_dict(self) -> dict[str, Any]:
        """Return method and parameters as JSON values."""
        parameters = {"slope": self.slope, "intercept": self.intercept}
        return {"method": self.method, "parameters": parameters}

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Any]) -> Self:
        """Rebuild from `to_dict()["parameters"]`.

        Args:
            parameters: `slope` and `intercept`.

        Returns:
            The calibrator.

        Raises:
            ValueError: If the slope is not positive or a number is not finite.
            KeyError: If one is missing.
        """
        slope, intercept = float(parameters["slope"]), float(parameters["intercept"])
        if not (0 < slope < inf and isfinite(intercept)):
            raise ValueError(
                f"slope must be positive and intercept finite, got {slope:g} and {intercept:g}"
            )
        return cls(slope=slope, intercept=intercept)


def targets(labels: npt.NDArray[np.int64]) -> Float64s:
    """Return Platt's smoothed targets.

    Args:
        labels: Shape (N,), 0 or 1.

    Returns:
        (N+ + 1) / (N+ + 2) for class 1 and 1 / (N- + 2) for class 0, shape (N,).
    """
    n_positive = int(labels.sum())
    n_negative = len(labels) - n_positive
    return np.where(labels == 1, (n_positive + 1) / (n_positive + 2), 1 / (n_negative + 2))


def _difference(z: Float64s) -> Float64s:
    if z.shape[1] != 2:
        raise DataError(
            f"Platt scaling is for two classes, got {z.shape[1]}; use temperature scaling."
        )
    return np.asarray(z[:, 1] - z[:, 0])


def _newton(u: Float64s, t: Float64s) -> tuple[float, float]:
    """Minimise mean(softplus(v) - t v), v = a u' + b, for u' = u centred and scaled."""
    centre, spread = float(u.mean()), float(u.std())
    x = (u - centre) / spread
    positives = float(t.sum())
    a, b = 0.0, log(positives / (len(t) - positives))
    value = _cross_entropy(x, t, a, b)
    for _ in range(_ITERATIONS):
        p = _sigmoid(a * x + b)
        residual, w = p - t, p * (1 - p)
        slope_a, slope_b = float((residual * x).mean()), float(residual.mean())
        haa, hab, hbb = float((w * x * x).mean()), float((w * x).mean()), float(w.mean())
        determinant = haa * hbb - hab * hab
        step_a = -(hbb * slope_a - hab * slope_b) / determinant
        step_b = -(haa * slope_b - hab * slope_a) / determinant
        length, descent = 1.0, slope_a * step_a + slope_b * step_b
        while length > _TOLERANCE:
            new = _cross_entropy(x, t, a + length * step_a, b + length * step_b)
            if new <= value + 1e-4 * length * descent:
                break
            length /= 2
        a, b, value = a + length * step_a, b + length * step_b, new
        if max(abs(step_a), abs(step_b)) <= _TOLERANCE * (1 + abs(a) + abs(b)):
            break
    return a / spread, b - a * centre / spread


def _cross_entropy(x: Float64s, t: Float64s, a: float, b: float) -> float:
    v = a * x + b
    return float((np.maximum(v, 0) + np.log1p(np.exp(-np.abs(v))) - t * v).mean())


def _sigmoid(v: Float64s) -> Float64s:
    e = np.exp(-np.abs(v))
    return np.asarray(np.where(v >= 0, 1, e) / (1 + e))
