"""Vector scaling: softmax(w * z + b), a slope and an intercept for every class.

Source: Guo, Pleiss, Sun and Weinberger (2017), "On Calibration of Modern Neural Networks",
section 4.2, https://arxiv.org/abs/1706.04599.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from selectkit.arrays import ArrayLike, softmax
from selectkit.calibrate.door import Float64s, fitting_rows, require_every_class, usable_logits
from selectkit.calibrate.multinomial import Multinomial, minimum
from selectkit.calibrate.parameters import numbers, require_columns


@dataclass(frozen=True, slots=True)
class VectorScaling:
    """p = softmax(w * z + b); the top class may change.

    Attributes:
        weights: w, K numbers; ones change nothing. For logits with two opposite columns only
            their mean is identified, and both are equal.
        bias: b, K numbers, in logits, with sum zero.
    """

    method: ClassVar[str] = "vector"
    weights: tuple[float, ...]
    bias: tuple[float, ...]

    @classmethod
    def fit(cls, logits: ArrayLike, labels: ArrayLike) -> Self:
        """Minimise the negative log-likelihood (nats per sample) of held-out labels.

        Args:
            logits: Shape (N, K), finite.
            labels: Shape (N,), integers in [0, K), from the selection split.

        Returns:
            The calibrator.

        Raises:
            DataError: If a shape, a dtype or a value is wrong.
            CalibrationError: If a class is missing or the classes can be separated.
        """
        z, y = fitting_rows(logits, labels)
        n, k = z.shape
        require_every_class(y, k)
        scale = float(z.std()) or 1.0
        free = np.concatenate([np.eye(k, dtype=np.bool_), np.ones((k, 1), dtype=np.bool_)], axis=1)
        x = np.concatenate([z.T / scale, np.ones((1, n))])
        start = np.concatenate([scale * np.eye(k), np.zeros((k, 1))], axis=1)
        v = minimum(Multinomial(x, y, free, np.zeros((k, k + 1))), start)
        return cls(
            weights=tuple((np.diag(v) / scale).tolist()),
            bias=tuple((v[:, k] - v[:, k].mean()).tolist()),
        )

    def probabilities(self, logits: ArrayLike) -> Float64s:
        """Return softmax(w * logits + b).

        Args:
            logits: Shape (N, K), finite.

        Returns:
            Shape (N, K), float64, rows sum to one.

        Raises:
            DataError: If the shape is wrong or an entry cannot be used.
        """
        z = require_columns(usable_logits(logits), len(self.bias))
        return softmax(z * np.array(self.weights) + np.array(self.bias))

    def to_dict(self) -> dict[str, Any]:
        """Return method and parameters as JSON values."""
        parameters = {"weights": list(self.weights), "bias": list(self.bias)}
        return {"method": self.method, "parameters": parameters}

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Any]) -> Self:
        """Rebuild from `to_dict()["parameters"]`.

        Args:
            parameters: `weights` and `bias`.

        Returns:
            The calibrator.

        Raises:
            ValueError: If they are not K finite numbers each.
            KeyError: If one is missing.
        """
        bias = numbers(parameters["bias"], "bias")
        return cls(weights=numbers(parameters["weights"], "weights", len(bias)), bias=bias)
