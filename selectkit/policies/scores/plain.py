"""Scores of logits and probabilities alone: nothing to fit.

The baselines that every comparison needs. `msp` and `neg_entropy` look at calibrated
probabilities, `margin`, `max_logit` and `energy` at the head's logits.
"""

import numpy as np

from selectkit.policies.outputs import Outputs
from selectkit.policies.scores.score import Float64s


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


def max_logit(outputs: Outputs) -> Float64s:
    """Largest logit.

    Source: Hendrycks et al. 2022, https://arxiv.org/abs/1911.11132. It depends on what all logits
    of a row share, which the heads here centre to zero over the classes.

    Args:
        outputs: Logits are used.

    Returns:
        Shape (N,).
    """
    return np.asarray(outputs.logits.max(axis=1))


def energy(outputs: Outputs) -> Float64s:
    """Log of the sum of exponentiated logits: the negative free energy at temperature 1.

    Source: Liu, Wang, Owens and Li 2020, https://arxiv.org/abs/2010.03759.

    Args:
        outputs: Logits are used.

    Returns:
        Shape (N,).
    """
    return log_sum_exp(outputs.logits)


def log_sum_exp(logits: Float64s) -> Float64s:
    """Return log sum exp over the last axis, without overflow."""
    top = logits.max(axis=1)
    return np.asarray(top + np.log(np.exp(logits - top[:, np.newaxis]).sum(axis=1)))
