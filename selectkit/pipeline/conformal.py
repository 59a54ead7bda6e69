"""Fine-tuning through the conformal step: what it starts from, and the rows that it is judged on.

val_select is dealt out by groups to two halves. Everything is chosen on the first: the epochs of
the head that is fine-tuned, and those of the fine-tuning. On the second, by which nothing was
chosen, the heads before and after are compared, each at the threshold that conformal risk control
takes there. val_calib is not touched, and no guarantee comes from any of this.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from selectkit import heads
from selectkit.arrays import Floats, Ints, log_softmax
from selectkit.config import FitConfig
from selectkit.errors import ConfigError, DataError
from selectkit.heads.training.conformal_thresholds import allowed_misses
from selectkit.pipeline.fitted import FittedHead, view_hash
from selectkit.pipeline.inputs import Inputs, folds_of
from selectkit.pipeline.recipes import loss_of
from selectkit.pipeline.run import RunDirectory

Conformal: TypeAlias = heads.ConformalRisk | heads.ConformalSets
Float64s: TypeAlias = npt.NDArray[np.float64]
Counted: TypeAlias = Callable[[Ints], float]
"""From how often each row counts, (N,), to a figure; lower is better."""


def halves(inputs: Inputs) -> tuple[Inputs, Inputs]:
    """Deal val_select out to two halves, by groups, in the order of a hash.

    Args:
        inputs: What is fitted on.

    Returns:
        The inputs with the half that things are chosen on, and with the half for comparing.

    Raises:
        DataError: If val_select has a single group.
    """
    try:
        fold = folds_of(inputs.select.groups, 2)
    except DataError:
        raise DataError(
            "val_select has one group; fine-tuning through the conformal step needs two, one to "
            "choose on and one to compare on. Split again, or label more groups."
        ) from None
    return inputs.selecting(fold == 0), inputs.selecting(fold == 1)


def counted(loss: Conformal, logits: Floats, labels: Ints) -> Counted:
    """Return what a loss is the soft form of, on given rows.

    Args:
        loss: What the head was trained by.
        logits: Shape (N, K).
        labels: Shape (N,).

    Returns:
        From counts of the rows to the share of negatives, or of rows, at or above the threshold, or
        to the mean size of the sets, the threshold being that of conformal risk control on the same
        rows. Where they are too few for its budget, no miss is allowed. NaN without the rows.
    """
    logp = log_softmax(logits)
    if isinstance(loss, heads.ConformalRisk):
        score = np.exp(logp[:, loss.positive])
        own, judged = labels == loss.positive, labels != loss.positive
        if loss.objective == "deferral":
            judged = np.ones_like(own)
    else:
        score = logp[np.arange(len(labels)), labels]
        own = judged = np.ones(len(labels), dtype=np.bool_)
    places = np.flatnonzero(own)[np.argsort(score[own], kind="stable")]

    def value(counts: Ints) -> float:
        below = np.cumsum(counts[places])
        total = counts[judged].sum()
        if not total or not len(below) or not below[-1]:
            return np.nan
        allowed = max(0, allowed_misses(int(below[-1]), loss.alpha))
        threshold = score[places[np.searchsorted(below, allowed, side="right")]]
        return float(_sizes(loss, logp, score, float(threshold))[judged] @ counts[judged] / total)

    return value


def _sizes(loss: Conformal, logp: Floats, score: Floats, threshold: float) -> Float64s:
    """What each row costs at a threshold: 1 where it is not settled, or the size of its set."""
    if isinstance(loss, heads.ConformalSets):
        size = (logp >= threshold).sum(axis=1)
        return np.asarray(np.maximum(size, 1), dtype=np.float64)
    above = score >= threshold
    if loss.objective == "deferral":
        above &= score <= 1 - threshold
    return above.astype(np.float64)


def objective(loss: Conformal) -> Callable[..., float]:
    """Return the criterion by which the epochs of a fine-tuning are judged; see `counted`.

    Args:
        loss: What is trained by.

    Returns:
        A function of logits (N, K), labels (N,) and gate logits, which it does not look at.
    """
    return lambda z, y, gate=None: counted(loss, z, y)(np.ones(len(y), dtype=np.int64))


def require_tunable(inputs: Inputs, config: FitConfig) -> Conformal:
    """Refuse rows and runs that a fine-tuning can make nothing of, before anything is trained.

    Args:
        inputs: What is fitted on.
        config: The settings.

    Returns:
        What is trained by.

    Raises:
        ArtifactError: If the run that `init` names is missing or damaged.
        ConfigError: If a setting makes no sense, or train has too few rows for the target.
        DataError: If a half of val_select lacks positives or negatives.
    """
    loss = conformal_loss(inputs, config)
    loss.require_feasible(inputs.train.y, config.batch_size)
    if config.init is not None:
        head_of_run(inputs, config)
    for half in halves(inputs):
        is_positive = half.select.y == getattr(loss, "positive", None)
        if isinstance(loss, heads.ConformalRisk) and not 0 < is_positive.sum() < len(is_positive):
            raise DataError(
                f"half of val_select has {int(is_positive.sum())} positives among "
                f"{len(is_positive)} rows; fine-tuning for a false negative rate needs both "
                "positives and negatives to choose by. Label more of val_select."
            )
    return loss


def head_of_run(inputs: Inputs, config: FitConfig) -> FittedHead:
    """Return the head that `init` names.

    Args:
        inputs: What is fitted on.
        config: The settings; `init` is a run directory.

    Returns:
        The head.

    Raises:
        ArtifactError: If there is no run, or it is damaged.
        ConfigError: If the head is of a kind that cannot be fine-tuned, or reads or says something
            else than this fit.
        DataError: If it was fitted on images that are now in val_calib or val_test.
    """
    run = Path(str(config.init))
    fitted = RunDirectory.open(run).head
    heads.starting_network(fitted.head)
    asked = {
        "classes": list(inputs.classes),
        "view": inputs.view,
        "view_hash": view_hash(inputs.store, inputs.view),
        "feature": inputs.feature,
    }
    for name, value in asked.items():
        if fitted.document[name] != value:
            raise ConfigError(
                f"--init {run}: its head has {name} = {fitted.document[name]!r}, this fit "
                f"{value!r}; fine-tuning needs the same."
            )
    seen = fitted.seen_elsewhere(inputs.store)
    if seen:
        raise DataError(
            f"--init {run}: its head was fitted on {seen:,} images that are now in val_calib or "
            "val_test, so nothing could be promised afterwards. Fit it again on this split."
        )
    return fitted


def conformal_loss(inputs: Inputs, config: FitConfig) -> Conformal:
    """Return the loss of a fine-tuning."""
    loss = loss_of(config, len(inputs.classes), inputs.positive)
    if not isinstance(loss, heads.ConformalRisk | heads.ConformalSets):
        raise ConfigError(f"{loss.kind} does not go through the conformal step.")
    return loss
