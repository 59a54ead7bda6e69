"""Which calibrator? The one with the smallest cross-validated likelihood.

Every calibrator that fits the number of classes is fitted on all folds but one and judged on the
one left out. Calibrators that cannot be fitted are listed with the reason. The winner is fitted
again on all rows.
"""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from selectkit.arrays import ArrayLike, labelled_logits
from selectkit.calibrate.calibrator import CALIBRATORS, AnyCalibrator
from selectkit.calibrate.dirichlet import Dirichlet
from selectkit.calibrate.door import Float64s, Ints64
from selectkit.calibrate.folds import checked_folds
from selectkit.calibrate.matrix import MatrixScaling
from selectkit.errors import CalibrationError

TWO_CLASSES = ("none", "temperature", "platt", "beta", "isotonic", "histogram")
MORE_CLASSES = ("none", "temperature", "vector", "matrix", "dirichlet", "isotonic", "histogram")

MOST_CLASSES = 36
"""With more, matrix scaling and Dirichlet are not tried: they take minutes, on K^2 parameters."""

_FOLDS = 5


@dataclass(frozen=True, slots=True)
class Candidate:
    """What cross-validation says about one calibrator.

    Attributes:
        method: Its name.
        nll: Mean negative log-likelihood of rows it was not fitted on, nats; None: not fitted.
        standard_error: Of the mean over rows of the difference of `nll` from the smallest one;
            rows count as independent.
        reason: Why it was not fitted.
    """

    method: str
    nll: float | None = None
    standard_error: float | None = None
    reason: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "method": self.method,
            "nll": self.nll,
            "standard_error": self.standard_error,
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True)
class Choice:
    """The calibrator with the smallest cross-validated likelihood, and all that were tried.

    Attributes:
        calibrator: Fitted on all rows.
        candidates: From the smallest `nll` to the largest, then those that were not fitted.
    """

    calibrator: AnyCalibrator
    candidates: tuple[Candidate, ...]


def choose(logits: ArrayLike, labels: ArrayLike, *, folds: ArrayLike | None = None) -> Choice:
    """Choose a calibrator by cross-validation.

    Args:
        logits: Shape (N, K), finite.
        labels: Shape (N,), integers in [0, K), from the selection split.
        folds: Fold of each row, shape (N,); rows of one group belong into one fold. None deals
            rows out to 5 folds.

    Returns:
        The calibrator and the table of candidates.

    Raises:
        DataError: If a shape, a dtype or a value is wrong.
        CalibrationError: If there are fewer than two rows.
    """
    z, y = labelled_logits(logits, labels)
    if len(y) < 2:
        raise CalibrationError("one sample cannot choose a calibrator: nothing would be held out.")
    fold = checked_folds(folds, y, _FOLDS)
    losses: dict[str, Float64s] = {}
    refused = []
    fitted: dict[str, AnyCalibrator] = {}
    for method in TWO_CLASSES if z.shape[1] == 2 else MORE_CLASSES:
        try:
            loss = _held_out(method, z, y, fold)
            fitted[method] = _fitted(method, z, y, fold)
            losses[method] = loss
        except CalibrationError as error:
            refused.append(Candidate(method, reason=str(error)))
    ranked = sorted(losses, key=lambda method: float(losses[method].mean()))
    best = losses[ranked[0]]
    candidates = [
        Candidate(
            method,
            nll=float(losses[method].mean()),
            standard_error=float((losses[method] - best).std(ddof=1) / np.sqrt(len(y))),
        )
        for method in ranked
    ]
    return Choice(fitted[ranked[0]], (*candidates, *refused))


def _held_out(method: str, z: Float64s, y: Ints64, fold: Ints64) -> Float64s:
    """Negative log-likelihood of each row under a calibrator that has not seen its fold."""
    loss = np.empty(len(y))
    for number in np.unique(fold):
        out = np.flatnonzero(fold == number)
        kept = np.flatnonzero(fold != number)
        calibrator = _fitted(method, z[kept], y[kept], fold[kept])
        p = calibrator.probabilities(z[out])[np.arange(len(out)), y[out]]
        loss[out] = -np.log(np.maximum(p, np.finfo(np.float64).tiny))
    return loss


def _fitted(method: str, z: Float64s, y: Ints64, fold: Ints64) -> AnyCalibrator:
    kind = CALIBRATORS[method]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        if kind is not Dirichlet and kind is not MatrixScaling:
            return kind.fit(z, y)
        if z.shape[1] > MOST_CLASSES:
            raise CalibrationError(f"not tried with more than {MOST_CLASSES} classes.")
        inner = fold if len(np.unique(fold)) > 1 else None
        return kind.fit(z, y, folds=inner)
