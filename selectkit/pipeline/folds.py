"""Cross-fitting: logits for every row of train from a head that has not seen its group.

A head's logits on its own training rows are those of a student who knows the exam. With k folds, k
heads are fitted, each without one k-th of the groups of train; what each says about the groups it
did not see is out-of-fold. That is what label errors are looked for with, and what a second stage
(stacking, a gate on top) is trained on. It is no evidence for a certificate: every fold's head
chooses its epochs on val_select, and they are other heads than the one that is kept.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from selectkit import heads
from selectkit.arrays import Floats, log_softmax
from selectkit.config import FitConfig
from selectkit.errors import ConfigError, DataError
from selectkit.pipeline.fitted import FittedHead
from selectkit.pipeline.inputs import Inputs, folds_of
from selectkit.pipeline.logits import logits_by_blocks
from selectkit.pipeline.training import OnEpoch, fit_heads
from selectkit.pipeline.unfinished import Unfinished


@dataclass(frozen=True)
class OutOfFold:
    """What the heads of the folds say about the rows of train that they did not see.

    Attributes:
        folds: Their number.
        logits: Name of the logits in the store.
        accuracy: Share of right predictions on train.
        nll: Mean negative log-likelihood on train, nats.
        warnings: What the user should look at.
    """

    folds: int
    logits: str
    accuracy: float
    nll: float
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**vars(self)}


def require_foldable(inputs: Inputs, k: int) -> None:
    """Refuse folds that cannot be fitted, before anything is.

    Args:
        inputs: What is fitted on.
        k: Number of folds.

    Raises:
        DataError: If there are fewer groups than folds.
        ConfigError: If a fold would leave a single class to fit on.
    """
    fold = folds_of(inputs.train.groups, k)
    for i in range(k):
        if len(np.unique(inputs.train.y[fold != i])) < 2:
            raise ConfigError(
                f"without fold {i + 1} of {k}, train has one class left; use more --folds, or "
                "label more groups."
            )


def cross_fit(
    inputs: Inputs,
    config: FitConfig,
    head: FittedHead,
    unfinished: Unfinished,
    on_epoch: OnEpoch | None = None,
) -> OutOfFold:
    """Fit one head per fold, and write what they say to the store beside the head's own logits.

    A row of a group of train has the logits of the head that was fitted without its group. All
    other rows, which no fold's head was fitted on, have the mean over the heads.

    Args:
        inputs: What the kept head was fitted on.
        config: Its settings; `folds` is k.
        head: The kept head.
        unfinished: Where interrupted work lies, and is put.
        on_epoch: Called with the number of the fold and its finished epoch.

    Returns:
        What they say.

    Raises:
        DataError: If the head of a fold cannot be fitted.
    """
    k, store = config.folds or 0, inputs.store
    fold = folds_of(inputs.train.groups, k)
    everything = store.rows_of(inputs.view, None, labelled=False)
    of_group = dict(zip(inputs.train.groups, fold.tolist(), strict=True))
    in_train = store.splits.assign(everything.groups) == "train"
    own = np.array([of_group.get(g, -1) for g in everything.groups], dtype=np.int64)
    own[~in_train] = -1
    z = np.zeros((store.rows, len(inputs.classes)), dtype=np.float32)
    lacking: set[int] = set()
    for i in range(k):
        part = inputs.without(fold == i)
        lacking |= set(np.unique(inputs.train.y)) - set(np.unique(part.train.y))
        told = None if on_epoch is None else _of_fold(on_epoch, i)
        (fitted,) = fit_heads(part, [config], unfinished, told)
        _add(z, logits_of_fold(inputs, fitted), everything.rows, own, i, k)
    name = f"{head.name}-oof"
    store.write_logits(inputs.view, name, z, classes=inputs.classes, head_hash=head.hash)
    told_of = z[inputs.train.rows].astype(np.float64)
    y = inputs.train.y
    names = ", ".join(inputs.classes[c] for c in sorted(lacking))
    return OutOfFold(
        folds=k,
        logits=name,
        accuracy=float((told_of.argmax(axis=1) == y).mean()),
        nll=float(-log_softmax(told_of)[np.arange(len(y)), y].mean()),
        warnings=(f"some fold's head saw no image of: {names}",) if lacking else (),
    )


def logits_of_fold(inputs: Inputs, head: heads.Head | DataError) -> Floats:
    """Return the logits of one fold's head for every row of the store, float32 (N, K).

    Raises:
        DataError: If there is no head.
    """
    if isinstance(head, DataError):
        raise head
    return logits_by_blocks(
        inputs.store, inputs.view, inputs.feature, head.logits, len(inputs.classes)
    )


def _add(
    z: Floats,
    logits: Floats,
    rows: npt.NDArray[np.int64],
    own: npt.NDArray[np.int64],
    fold: int,
    k: int,
) -> None:
    """Take over the rows that are this fold's own, and one k-th of those that are nobody's."""
    mine, shared = rows[own == fold], rows[own == -1]
    z[mine] = logits[mine]
    z[shared] += logits[shared] / k


def _of_fold(on_epoch: OnEpoch, fold: int) -> OnEpoch:
    return lambda _, epoch: on_epoch(fold, epoch)
