"""Confidence scores: one number per row, higher = accept first.

The baselines that every comparison needs. `msp` and `neg_entropy` look at calibrated
probabilities, `margin` and `energy` at the head's logits.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

import numpy as np
import numpy.typing as npt

from selectkit.policies.outputs import Outputs

Float64s = npt.NDArray[np.float64]


class Score(Protocol):
    """Maps outputs of N rows to confidences (N,)."""

    def __call__(self, outputs: Outputs, /) -> Float64s:
        """Return the confidences, float64, finite, row by row."""
        ...


def msp(outputs: Outputs) -> Float64s:
    """Maximum softmax probability, in [1 / K, 1].

    Source: Hendrycks and Gimpel 2017, https://arxiv.org/abs/1610.02136.

    Args:
        outputs: Probabilities are used.

    Returns:
        Shape (N,).
    """
    return np.asarray(outputs.probabilities.max(axis=1))


def margin(outputs: Outputs) -> Float64s:
    """Largest logit minus second largest, >= 0.

    For two classes it ranks rows as `msp` does when the calibrator has no intercept, and never
    saturates.

    Args:
        outputs: Logits are used.

    Returns:
        Shape (N,).
    """
    top = np.partition(outputs.logits, -2, axis=1)
    return np.asarray(top[:, -1] - top[:, -2])


def neg_entropy(outputs: Outputs) -> Float64s:
    """Sum of p ln p, in [-ln K, 0] nats.

    Args:
        outputs: Probabilities are used; 0 ln 0 = 0.

    Returns:
        Shape (N,).
    """
    p = outputs.probabilities
    return np.asarray((p * np.log(np.where(p > 0, p, 1.0))).sum(axis=1))


def energy(outputs: Outputs) -> Float64s:
    """Log of the sum of exponentiated logits: the negative free energy at temperature 1.

    Source: Liu, Wang, Owens and Li 2020, https://arxiv.org/abs/2010.03759.

    Args:
        outputs: Logits are used.

    Returns:
        Shape (N,).
    """
    z = outputs.logits
    top = z.max(axis=1)
    return np.asarray(top + np.log(np.exp(z - top[:, np.newaxis]).sum(axis=1)))


SCORES: Mapping[str, Score] = MappingProxyType({
    "msp": msp,
    "margin": margin,
    "neg_entropy": neg_entropy,
    "energy": energy,
})
"""Every score by the name used in settings and artifacts."""
