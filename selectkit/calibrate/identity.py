"""No calibration: the softmax of the logits as they are."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from selectkit.arrays import ArrayLike, softmax
from selectkit.calibrate.door import usable_logits, usable_rows


@dataclass(frozen=True, slots=True)
class Identity:
    """Softmax of unchanged logits; its `fit` learns nothing and only checks the arrays."""

    method: ClassVar[str] = "none"

    @classmethod
    def fit(cls, logits: ArrayLike, labels: ArrayLike) -> Self:
        """Return the calibrator that changes nothing.

        Args:
            logits: Shape (N, K), finite.
            labels: Shape (N,), integers in [0, K).

        Returns:
            The calibrator.

        Raises:
            DataError: If a shape, a dtype or a value is wrong.
        """
        usable_rows(logits, labels)
        return cls()

    def probabilities(self, logits: ArrayLike) -> npt.NDArray[np.float64]:
        """Return softmax(logits).

        Args:
            logits: Shape (N, K), finite.

        Returns:
            Shape (N, K), float64, rows sum to one.

        Raises:
            DataError: If the shape is wrong or an entry is not finite.
        """
        return softmax(usable_logits(logits))

    def to_dict(self) -> dict[str, Any]:
        """Return method and parameters as JSON values."""
        return {"method": self.method, "parameters": {}}

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Any]) -> Self:
        """Rebuild from `to_dict()["parameters"]`; there are none."""
        del parameters
        return cls()
