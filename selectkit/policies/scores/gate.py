"""The trained gate as a score: its logit, calibrated to the log-odds of a right prediction.

A gate is trained to accept, not to be a probability. A logistic curve through its logits, fitted on
whether the predictions of held-out rows are right (Platt scaling, on val_select), keeps their order
and makes them readable: 0 means that a prediction is as often right as wrong.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from selectkit.errors import ArtifactError, DataError
from selectkit.fields import Fields
from selectkit.policies.outputs import Outputs
from selectkit.policies.scores.score import Float64s


@dataclass(frozen=True, slots=True)
class Gate:
    """slope u + intercept, u the gate's logit.

    Attributes:
        slope: > 0.
        intercept: In logits. Slope 1 and intercept 0 leave the gate as it was trained.
    """

    kind: ClassVar[str] = "gate"
    slope: float = 1.0
    intercept: float = 0.0

    def __call__(self, outputs: Outputs) -> Float64s:
        """Return the calibrated logits; their sigmoid estimates P(right).

        Args:
            outputs: Gate logits are used.

        Returns:
            Shape (N,).

        Raises:
            DataError: If the head has no gate.
        """
        if outputs.gate is None:
            raise DataError(
                "the score gate needs a head with a trained gate (fit with --head three); this "
                "head has none."
            )
        return np.asarray(self.slope * outputs.gate + self.intercept)

    def to_dict(self) -> dict[str, Any]:
        """Return method and parameters as JSON values."""
        return {
            "method": "platt",
            "parameters": {"slope": self.slope, "intercept": self.intercept},
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """Rebuild a gate from what `to_dict` returned.

        Args:
            document: `parameters`; other fields are ignored.

        Returns:
            The gate.

        Raises:
            ArtifactError: If a parameter is missing or out of range.
        """
        read = Fields.of(document.get("parameters"), "the gate's calibration")
        slope, intercept = read.number("slope"), read.number("intercept")
        if not slope > 0:
            raise ArtifactError(
                f"the gate's slope must be positive and its intercept finite, got {slope:g} and "
                f"{intercept:g}. Calibrate again."
            )
        return cls(slope, intercept)
