"""Temperature scaling: one positive number that makes softmax confidences honest.

Source: Guo, Pleiss, Sun and Weinberger (2017), "On Calibration of Modern Neural Networks",
section 4.2, https://arxiv.org/abs/1706.04599. With b = 1/T the mean negative log-likelihood of
softmax(b z) is convex in b; its slope is mean(E_p[z] - z_label), p = softmax(b z), and its
curvature mean(Var_p[z]). Newton's method inside a shrinking bracket finds the root of the slope,
first on evenly spaced rows and then on all: no learning rate, no seed, no order of samples.

When is T identified? The slope runs from mean(mean(z) - z_label) at b = 0 to
mean(max(z) - z_label) at infinity. A finite positive T exists exactly when the first is negative
and the second is positive: better than chance, and wrong at least once. Otherwise the fit is
refused, since any number would be the choice of this code and not of the data. A T that exists
but lies outside [0.05, 20] is set to the bound, with a warning.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, copysign, inf, sqrt
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from selectkit.arrays import ArrayLike, softmax
from selectkit.calibrate.door import usable_logits, usable_rows
from selectkit.errors import CalibrationError

Float64s = npt.NDArray[np.float64]

LOWEST, HIGHEST = 0.05, 20.0
"""The range of temperatures that can be returned."""

_SMALLEST, _LARGEST = 1 / HIGHEST, 1 / LOWEST
_BLOCK = 8192
_WARM_START_ROWS = 20_000
_TOLERANCE = 1e-10
_ITERATIONS = 200


@dataclass(frozen=True, slots=True)
class Temperature:
    """Softmax of logits divided by one fitted temperature. N samples, K classes.

    Attributes:
        temperature: T > 0, no unit. T > 1 softens, T < 1 sharpens, T = 1 changes nothing.

    Examples:
        >>> logits = np.array([[4.0, 0.0], [4.0, 0.0], [4.0, 0.0], [0.0, 4.0]])
        >>> calibrator = Temperature.fit(logits, labels=np.array([0, 0, 1, 1]))
        >>> round(calibrator.temperature, 3)  # 3 of 4 right: softmax must say 0.75, T = 4 / ln 3
        3.641
        >>> calibrator.probabilities(logits[:1]).round(2)
        array([[0.75, 0.25]])
    """

    method: ClassVar[str] = "temperature"
    temperature: float

    @classmethod
    def fit(cls, logits: ArrayLike, labels: ArrayLike) -> Self:
        """Minimise the negative log-likelihood (nats per sample) of held-out labels.

        Args:
            logits: Shape (N, K), finite, any float dtype; computed in float64.
            labels: Shape (N,), integers in [0, K), from the selection split.

        Returns:
            The calibrator, T exact to a relative 1e-9, or at the bound after a warning.

        Raises:
            DataError: If a shape, a dtype or a value is wrong.
            CalibrationError: If no finite positive T fits best: the logits are right every time,
                or no better than chance.
        """
        z, y = usable_rows(logits, labels)
        margins = _margins(z, y)
        _refuse_unidentified(margins)
        start = _root(margins[:, :: ceil(len(y) / _WARM_START_ROWS)], 1.0)
        b = _root(margins, start if _SMALLEST < start < _LARGEST else 1.0)
        if b in {_SMALLEST, _LARGEST}:
            bound = HIGHEST if b == _SMALLEST else LOWEST
            warnings.warn(
                f"the best temperature for these {len(y)} samples lies beyond {bound:g}, which "
                "is used instead; check the scale of the logits.",
                stacklevel=2,
            )
            return cls(temperature=bound)
        return cls(temperature=1 / b)

    def probabilities(self, logits: ArrayLike) -> Float64s:
        """Return softmax(logits / T); the top class never changes.

        Args:
            logits: Shape (N, K), finite.

        Returns:
            Shape (N, K), float64, rows sum to one.

        Raises:
            DataError: If the shape is wrong or an entry is not finite.
        """
        return softmax(usable_logits(logits) / self.temperature)

    def to_dict(self) -> dict[str, Any]:
        """Return method and parameters as JSON values."""
        return {"method": self.method, "parameters": {"temperature": self.temperature}}

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Any]) -> Self:
        """Rebuild from `to_dict()["parameters"]`.

        Args:
            parameters: `temperature`.

        Returns:
            The calibrator.

        Raises:
            ValueError: If the temperature is not positive and finite.
            KeyError: If it is missing.
        """
        temperature = float(parameters["temperature"])
        if not 0 < temperature < inf:
            raise ValueError(f"temperature must be positive, got {temperature:g}")
        return cls(temperature=temperature)


def _margins(z: Float64s, y: npt.NDArray[np.int64]) -> Float64s:
    """Logits minus the label's, class-major (K, N): sums over few classes are then fast."""
    transposed = np.ascontiguousarray(z.T)
    transposed -= transposed[y, np.arange(len(y))]
    return transposed


def _refuse_unidentified(margins: Float64s) -> None:
    n = margins.shape[1]
    if margins.mean() >= 0:
        raise CalibrationError(
            f"no temperature fits these {n} samples: the logits are no better than chance. "
            "Check that logits and labels share split and order."
        )
    if not margins.max(axis=0).any():
        raise CalibrationError(
            f"the logits are right every time on these {n} samples: every smaller temperature fits "
            "better, so the data do not identify one. Add samples, or use the calibrator 'none'."
        )


def _root(margins: Float64s, b: float) -> float:
    """Root of the slope, or the end of the range beyond which it lies."""
    left, right = 0.0, inf  # largest b with a negative slope, smallest with another
    for _ in range(_ITERATIONS):
        slope, curvature = _slope_and_curvature(margins, b)
        left, right = (b, right) if slope < 0 else (left, b)
        if right <= _SMALLEST or left >= _LARGEST:
            return b
        newton = b - slope / curvature if curvature > 0 else -copysign(inf, slope)
        new = min(max(newton, _SMALLEST), _LARGEST)
        if abs(new - b) <= _TOLERANCE * b:
            return new
        b = new if left < new < right else sqrt(left * right)
    return b


def _slope_and_curvature(margins: Float64s, b: float) -> tuple[float, float]:
    slope = curvature = 0.0
    n = margins.shape[1]
    for start in range(0, n, _BLOCK):
        d = margins[:, start : start + _BLOCK]
        p = b * d
        p -= p.max(axis=0)
        np.exp(p, out=p)
        total = p.sum(axis=0)
        p *= d
        first = p.sum(axis=0) / total
        p *= d
        slope += float(first.sum())
        curvature += float((p.sum(axis=0) / total - first**2).sum())
    return slope / n, curvature / n
