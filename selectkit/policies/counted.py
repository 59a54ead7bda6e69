"""Which rows a risk is about, and which of these are errors."""

import numpy as np
import numpy.typing as npt

from selectkit.arrays import Bools

Labels = npt.NDArray[np.int64]

WHOLE = frozenset({"miss_rate", "false_alarm"})
"""Risks whose errors are counted among all rows they are about, accepted or not."""


def counted(
    risk: str, prediction: Labels, labels: Labels, positive: int | None
) -> tuple[Bools, Bools]:
    """Return the rows that a risk is about and, among all rows, its errors.

    Args:
        risk: "error", "fnr", "miss_rate", "fpr" or "false_alarm".
        prediction: Shape (N,), class codes.
        labels: Shape (N,), class codes.
        positive: Code of the positive class; `error` needs none.

    Returns:
        Two masks of shape (N,); the second lies within the first.
    """
    match risk:
        case "error":
            return np.ones(len(labels), dtype=np.bool_), np.asarray(prediction != labels)
        case "fpr" | "false_alarm":
            about = np.asarray(labels != positive)
            return about, about & (prediction == positive)
        case _:
            about = np.asarray(labels == positive)
            return about, about & (prediction != positive)
