"""What the winner of a sweep is worth: the best of many on the rows it was chosen by is flattered.

The rows of val_select, by groups, are resampled; each time the best configuration of the resample
is judged on the rows that the resample left out. The mean over resamples estimates how well what is
chosen in this way does on other rows. Source: Tsamardinos, Greasidou and Borboudakis (2018),
"Bootstrapping the out-of-sample predictions for efficient and accurate cross-validation",
https://doi.org/10.1007/s10994-018-5714-4 (BBC-CV), with one held-out split for their pooled folds.

What it does not undo is that each configuration has chosen its epoch (or its strength) on all of
val_select.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from selectkit.arrays import Bools, Floats, Ints, log_softmax, softmax
from selectkit.metrics import bootstrap_weights, curve_statistics

Float64s: TypeAlias = npt.NDArray[np.float64]
Statistic: TypeAlias = Callable[[Ints], Float64s]
"""From counts (B, N) to values (B,), lower is better; NaN where undefined."""

REPLICATES = 200


@dataclass(frozen=True)
class Reestimate:
    """The winner's criterion on rows that it was not chosen by.

    Attributes:
        naive: On the rows it was chosen by.
        value: Mean over resamples of what was chosen in each, on the rows left out.
        low: 2.5 % quantile of it.
        high: 97.5 % quantile.
        won: For each configuration the share of resamples in which it was the best, shape (M,).
        n_replicates: Number of resamples in which it was defined.
    """

    naive: float
    value: float
    low: float
    high: float
    won: Float64s
    n_replicates: int


def statistic(name: str, logits: Floats, labels: Ints, positive: int | None) -> Statistic:
    """Return a criterion of `pipeline.criteria` as a function of counts.

    Args:
        name: "nll", "augrc" or "coverage@fnr=RATE".
        logits: Shape (N, K).
        labels: Shape (N,).
        positive: Index of the positive class.

    Returns:
        The statistic; with counts of one it is the criterion.
    """
    if name == "nll":
        nll = -log_softmax(logits)[np.arange(len(labels)), labels].astype(np.float64)
        return lambda w: np.asarray(w @ nll / w.sum(axis=1))
    confidence = softmax(logits).max(axis=1).astype(np.float64)
    wrong = logits.argmax(axis=1) != labels
    if name == "augrc":
        evaluate = curve_statistics(["augrc"], confidence, wrong)
        return lambda w: evaluate(w)["augrc"]
    is_positive = labels == positive
    missed = is_positive & (logits.argmax(axis=1) != positive)
    alpha = float(name.partition("=")[2])
    return _coverage_at_fnr(confidence, is_positive, missed, alpha)


def _coverage_at_fnr(
    confidence: Float64s, is_positive: Bools, missed: Bools, alpha: float
) -> Statistic:
    order = np.argsort(-confidence, kind="stable")
    s = confidence[order]
    whole = np.append(s[1:] < s[:-1], True)

    def evaluate(weights: Ints) -> Float64s:
        w = weights[:, order]
        accepted = np.cumsum(w, axis=1)
        positives = np.cumsum(w * is_positive[order], axis=1)
        misses = np.cumsum(w * missed[order], axis=1)
        good = whole & (misses <= alpha * positives)
        largest = np.where(good, accepted, 0).max(axis=1)
        coverage = largest / accepted[:, -1]
        return np.where(positives[:, -1] > 0, -coverage, np.nan)

    return evaluate


def reestimate(
    statistics: Sequence[Statistic],
    groups: npt.NDArray[np.object_],
    *,
    n_replicates: int = REPLICATES,
    rng: np.random.Generator,
) -> Reestimate:
    """Choose among M configurations on resamples, judge the chosen on the rows left out.

    Args:
        statistics: One per configuration.
        groups: Shape (N,), resampled as wholes.
        n_replicates: Number of resamples.
        rng: Source of randomness.

    Returns:
        The estimate; NaN where no resample defines it, for instance when there is one group.
    """
    _, codes = np.unique(groups.astype(str), return_inverse=True)
    inside, outside = [], []
    everything = np.ones((1, len(groups)), dtype=np.int64)
    naive = np.array([float(s(everything)[0]) for s in statistics])
    for weights in bootstrap_weights(len(groups), n_replicates, codes, rng):
        left_out = (weights == 0).astype(np.int64)
        kept = left_out.any(axis=1)
        if kept.any():
            inside.append(np.stack([s(weights[kept]) for s in statistics], axis=1))
            outside.append(np.stack([s(left_out[kept]) for s in statistics], axis=1))
    best = float(np.nanmin(naive))
    if not inside:
        return Reestimate(best, np.nan, np.nan, np.nan, np.zeros(len(statistics)), 0)
    chosen_by, judged = np.concatenate(inside), np.concatenate(outside)
    usable = np.isfinite(chosen_by).any(axis=1)
    winners = np.where(np.isfinite(chosen_by), chosen_by, np.inf)[usable].argmin(axis=1)
    values = judged[usable][np.arange(len(winners)), winners]
    won = np.bincount(winners, minlength=len(statistics)) / max(1, len(winners))
    values = values[np.isfinite(values)]
    if not len(values):
        return Reestimate(best, np.nan, np.nan, np.nan, won, 0)
    low, high = np.quantile(values, [0.025, 0.975])
    return Reestimate(best, float(values.mean()), float(low), float(high), won, len(values))
