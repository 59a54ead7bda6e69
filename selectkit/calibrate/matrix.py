"""Matrix scaling: an affine map of the logits, regularised by ODIR ("MS-ODIR").

Sources: Guo, Pleiss, Sun and Weinberger (2017), https://arxiv.org/abs/1706.04599, section 4.2; the
regularisation, without which K^2 parameters overfit, is that of Kull et al. (2019),
https://arxiv.org/abs/1910.12656.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from selectkit.arrays import ArrayLike, softmax
from selectkit.calibrate.door import Float64s, fitting_rows, usable_logits
from selectkit.calibrate.odir import Penalties, affine_from, affine_parameters, fit_odir
from selectkit.calibrate.parameters import require_columns


@dataclass(frozen=True, slots=True)
class MatrixScaling:
    """p = softmax(W z + b); the top class may change. For two classes prefer Platt.

    Attributes:
        weights: W, K rows of K numbers.
        bias: b, K numbers.
        penalties: Off-diagonal and intercept penalty of the fit, per mean nat.
    """

    method: ClassVar[str] = "matrix"
    weights: tuple[tuple[float, ...], ...]
    bias: tuple[float, ...]
    penalties: Penalties

    @classmethod
    def fit(
        cls,
        logits: ArrayLike,
        labels: ArrayLike,
        *,
        penalties: Penalties | None = None,
        folds: ArrayLike | None = None,
    ) -> Self:
        """Minimise the penalised negative log-likelihood (nats per sample) of held-out labels.

        Args:
            logits: Shape (N, K), finite.
            labels: Shape (N,), integers in [0, K), from the selection split.
            penalties: lambda of the squared off-diagonal weights and mu of the squared
                intercepts; None chooses both from powers of ten by cross-validation.
            folds: Fold of each row, shape (N,); rows of one group belong into one fold. None
                deals rows out.

        Returns:
            The calibrator.

        Raises:
            DataError: If a shape, a dtype or a value is wrong.
            CalibrationError: If a class is missing or the classes can be separated.
        """
        z, y = fitting_rows(logits, labels)
        return cls(*fit_odir(z, y, penalties, folds))

    def probabilities(self, logits: ArrayLike) -> Float64s:
        """Return softmax(W logits + b).

        Args:
            logits: Shape (N, K), finite.

        Returns:
            Shape (N, K), float64, rows sum to one.

        Raises:
            DataError: If the shape is wrong or an entry cannot be used.
        """
        x = require_columns(usable_logits(logits), len(self.bias))
        return softmax(x @ np.array(self.weights).T + np.array(self.bias))

    def to_dict(self) -> dict[str, Any]:
        """Return method and parameters as JSON values."""
        parameters = affine_parameters(self.weights, self.bias, self.penalties)
        return {"method": self.method, "parameters": parameters}

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Any]) -> Self:
        """Rebuild from `to_dict()["parameters"]`.

        Args:
            parameters: `weights`, `bias`, `off_diagonal` and `intercept`.

        Returns:
            The calibrator.

        Raises:
            ValueError: If a shape or a number is wrong.
            KeyError: If one is missing.
        """
        return cls(*affine_from(parameters))
