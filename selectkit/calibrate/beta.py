"""Beta calibration of two classes: a logistic curve through ln p and -ln(1 - p).

Source: Kull, Silva Filho and Flach (2017), "Beta calibration: a well-founded and easily
implemented improvement on logistic calibration for binary classifiers", AISTATS.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any, ClassVar, Self

import numpy as np

from selectkit.arrays import ArrayLike, softmax
from selectkit.calibrate.door import (
    Float64s,
    Ints64,
    fitting_rows,
    log_odds,
    log_probabilities,
    usable_logits,
)
from selectkit.calibrate.multinomial import Multinomial, minimum
from selectkit.errors import CalibrationError, DataError


@dataclass(frozen=True, slots=True)
class Beta:
    """p(class 1) = sigmoid(a ln p - b ln(1 - p) + c), p = softmax(z)_1; a = b = 1, c = 0: identity.

    Increasing in p. Log-probabilities below log(1e-30) are taken as that. It is the form that
    Dirichlet calibration without penalties takes for two classes, with signs that keep the order.

    Attributes:
        a: Shape at p near 0, at least 0.
        b: Shape at p near 1, at least 0; not both are 0.
        c: Intercept, in logits.
    """

    method: ClassVar[str] = "beta"
    a: float
    b: float
    c: float

    @classmethod
    def fit(cls, logits: ArrayLike, labels: ArrayLike) -> Self:
        """Minimise the negative log-likelihood (nats per sample) subject to a, b >= 0.

        Args:
            logits: Shape (N, 2), finite.
            labels: Shape (N,), 0 or 1, from the selection split.

        Returns:
            The calibrator.

        Raises:
            DataError: If an array is wrong or there are more than two classes.
            CalibrationError: If a class is missing, a threshold on p separates the classes, or
                the logits are no better than chance.
        """
        z, y = fitting_rows(logits, labels)
        x = _features(z)
        _refuse_separated(log_odds(z)[:, 1], y)
        for a, b, c in _candidates(x, y):
            if a >= 0 and b >= 0 and max(a, b) > 0:
                return cls(a=a, b=b, c=c)
        raise CalibrationError(
            f"the logits are no better than chance on these {len(y)} samples. Check that logits "
            "and labels share split and order."
        )

    def probabilities(self, logits: ArrayLike) -> Float64s:
        """Return the probabilities of both classes.

        Args:
            logits: Shape (N, 2), finite.

        Returns:
            Shape (N, 2), float64, rows sum to one.

        Raises:
            DataError: If the shape is wrong or an entry cannot be used.
        """
        low, high = _features(usable_logits(logits))
        v = self.a * low + self.b * high + self.c
        return softmax(np.stack([np.zeros_like(v), v], axis=1))

    def to_dict(self) -> dict[str, Any]:
        """Return method and parameters as JSON values."""
        return {"method": self.method, "parameters": {"a": self.a, "b": self.b, "c": self.c}}

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Any]) -> Self:
        """Rebuild from `to_dict()["parameters"]`.

        Args:
            parameters: `a`, `b` and `c`.

        Returns:
            The calibrator.

        Raises:
            ValueError: If a or b is negative, both are 0, or a number is not finite.
            KeyError: If one is missing.
        """
        a, b, c = (float(parameters[name]) for name in "abc")
        if not (min(a, b) >= 0 and max(a, b) > 0 and all(map(isfinite, (a, b, c)))):
            raise ValueError(
                f"a and b must be at least 0 and not both 0, c finite; got {a:g}, {b:g}, {c:g}"
            )
        return cls(a=a, b=b, c=c)


def _features(z: Float64s) -> Float64s:
    """Ln p and -ln(1 - p), shape (2, N)."""
    if z.shape[1] != 2:
        raise DataError(
            f"beta calibration is for two classes, got {z.shape[1]}; use 'dirichlet', which is "
            "its form for more."
        )
    logs = log_probabilities(z)
    return np.stack([logs[:, 1], -logs[:, 0]])


def _refuse_separated(u: Float64s, y: Ints64) -> None:
    if u[y == 1].min() >= u[y == 0].max():
        raise CalibrationError(
            f"the logits are right every time on these {len(y)} samples, up to a threshold: the "
            "steeper the curve, the better it fits. Add samples, or use 'platt'."
        )


def _candidates(x: Float64s, y: Ints64) -> list[tuple[float, float, float]]:
    """Unconstrained minimum; then, when a sign is wrong, those with a = 0 or b = 0, best first.

    The likelihood is convex: where its minimum breaks a constraint, or is not attained, the
    constrained minimum lies on the border.
    """
    try:
        _, inside = _logistic(x, y, (True, True))
        if min(inside[:2]) >= 0:
            return [inside]
    except CalibrationError:
        pass
    border = []
    for used in ((True, False), (False, True)):
        try:
            border.append(_logistic(x, y, used))
        except CalibrationError:
            continue
    return [found for _, found in sorted(border)]


def _logistic(
    x: Float64s, y: Ints64, used: tuple[bool, bool]
) -> tuple[float, tuple[float, float, float]]:
    columns = np.concatenate([x, np.ones((1, x.shape[1]))])
    free = np.array([[False] * 3, [*used, True]])
    problem = Multinomial(columns, y, free, np.zeros((2, 3)))
    v = minimum(problem, np.array([[0.0] * 3, [*map(float, used), 0.0]]))
    a, b, c = v[1].tolist()
    return problem.value_and_gradient(v)[0], (a, b, c)
