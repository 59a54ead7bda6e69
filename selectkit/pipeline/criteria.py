"""Criteria for early stopping and for the choice of a configuration on val_select.

They judge what is deployed by default: predictions ranked by the maximal softmax probability.
"""

from typing import Protocol

import numpy as np

from selectkit import metrics
from selectkit.arrays import Floats, Ints, log_softmax, softmax
from selectkit.errors import ConfigError


class Criterion(Protocol):
    """Judges rows; whether a head has a gate makes no difference."""

    def __call__(self, logits: Floats, labels: Ints, gate_logits: Floats | None = None, /) -> float:
        """Return a number, lower is better."""
        ...


def criterion(name: str, positive: int | None) -> Criterion:
    """Return the criterion called `name`.

    Args:
        name: "nll", "augrc", or "coverage@fnr=RATE": the largest coverage at which the false
            negative rate among accepted positives is at most RATE (with its sign turned).
        positive: Index of the positive class.

    Returns:
        A function of logits (N, K), labels (N,) and gate logits, which it does not look at.

    Raises:
        ConfigError: If the name is unknown, or needs a positive class and there is none.
    """
    if name == "nll":
        return _nll
    if name == "augrc":
        return _augrc
    what, _, rate = name.partition("=")
    try:
        alpha = float(rate)
    except ValueError:
        alpha = np.nan
    if what != "coverage@fnr" or not 0 < alpha < 1:
        raise ConfigError(f"select_by = {name!r}: use nll, augrc or coverage@fnr=0.02.")
    if positive is None:
        raise ConfigError(f"select_by = {name!r} needs a positive class: give --positive LABEL.")
    return lambda z, y, gate=None: -_coverage_at_fnr(z, y, positive, alpha)


def _nll(logits: Floats, labels: Ints, gate_logits: Floats | None = None) -> float:
    return float(-log_softmax(logits)[np.arange(len(labels)), labels].mean())


def _augrc(logits: Floats, labels: Ints, gate_logits: Floats | None = None) -> float:
    return float(metrics.augrc(softmax(logits).max(axis=1), logits.argmax(axis=1) != labels))


def _coverage_at_fnr(logits: Floats, labels: Ints, positive: int, alpha: float) -> float:
    score = softmax(logits).max(axis=1)
    order = np.argsort(-score, kind="stable")
    score, is_positive = score[order], labels[order] == positive
    missed = is_positive & (logits.argmax(axis=1)[order] != positive)
    whole = np.append(score[1:] < score[:-1], True)  # ties are accepted together
    good = whole & (np.cumsum(missed) <= alpha * np.cumsum(is_positive))
    return float((np.flatnonzero(good)[-1] + 1) / len(score)) if good.any() else 0.0
