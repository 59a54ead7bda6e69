"""Criteria for early stopping on val_select: functions of (logits, labels), lower is better."""

from collections.abc import Callable

import numpy as np

from selectkit import metrics
from selectkit.arrays import Floats, Ints, log_softmax, softmax
from selectkit.errors import ConfigError

Criterion = Callable[[Floats, Ints], float]


def criterion(name: str, positive: int | None) -> Criterion:
    """Return the criterion called `name`.

    Args:
        name: "nll", "augrc", or "coverage@fnr=RATE": the largest coverage at which the false
            negative rate among accepted positives is at most RATE (with its sign turned).
        positive: Index of the positive class.

    Returns:
        A function of logits (N, K) and labels (N,).

    Raises:
        ConfigError: If the name is unknown, or needs a positive class and there is none.
    """
    if name == "nll":
        return lambda z, y: float(-log_softmax(z)[np.arange(len(y)), y].mean())
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
    return lambda z, y: -_coverage_at_fnr(z, y, positive, alpha)


def _augrc(logits: Floats, labels: Ints) -> float:
    return float(metrics.augrc(softmax(logits).max(axis=1), logits.argmax(axis=1) != labels))


def _coverage_at_fnr(logits: Floats, labels: Ints, positive: int, alpha: float) -> float:
    score = softmax(logits).max(axis=1)
    order = np.argsort(-score, kind="stable")
    score, is_positive = score[order], labels[order] == positive
    missed = is_positive & (logits.argmax(axis=1)[order] != positive)
    whole = np.append(score[1:] < score[:-1], True)  # ties are accepted together
    good = whole & (np.cumsum(missed) <= alpha * np.cumsum(is_positive))
    return float((np.flatnonzero(good)[-1] + 1) / len(score)) if good.any() else 0.0
