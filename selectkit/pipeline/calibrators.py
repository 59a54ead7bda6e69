"""The probability calibrator of a run: fitted on val_select, by name or by cross-validation."""

import warnings
from dataclasses import dataclass

import numpy as np

from selectkit.cache import Rows
from selectkit.calibrate import (
    CALIBRATORS,
    Calibrator,
    Candidate,
    Dirichlet,
    Histogram,
    Identity,
    Isotonic,
    MatrixScaling,
    choose,
)
from selectkit.errors import CalibrationError
from selectkit.pipeline.inputs import folds_of
from selectkit.policies import Outputs

_FOLDS = 5


@dataclass(frozen=True)
class FittedCalibrator:
    """A calibrator and how it came about.

    Attributes:
        calibrator: Fitted on val_select.
        warnings: What the user should know.
        candidates: What was tried, best first; empty unless the calibrator was to be chosen.
    """

    calibrator: Calibrator
    warnings: tuple[str, ...]
    candidates: tuple[Candidate, ...] = ()

    def table(self) -> list[str]:
        """Return the candidates as lines for people."""
        if not self.candidates:
            return []
        best = self.candidates[0].nll or 0.0
        lines = ["calibrators by cross-validated log loss on val_select (nats; lower is better):"]
        for candidate in self.candidates:
            if candidate.nll is None:
                lines.append(f"  {candidate.method:<12} not fitted: {candidate.reason}")
                continue
            behind = f"  +{candidate.nll - best:.4f} ± {candidate.standard_error:.4f}"
            first = candidate is self.candidates[0]
            lines.append(
                f"  {candidate.method:<12} {candidate.nll:.4f}{'  chosen' if first else behind}"
            )
        return lines


def fitted_calibrator(name: str, raw: Outputs, select: Rows) -> FittedCalibrator:
    """Fit a calibrator; logits that need none, or cannot use one, keep their probabilities.

    Args:
        name: A key of `CALIBRATORS`, or "auto": the one with the smallest cross-validated
            likelihood, where the images of a group lie in one fold.
        raw: What the head says about val_select.
        select: The rows of val_select.

    Returns:
        The calibrator, what the user should know, and what was tried.

    Raises:
        CalibrationError: If val_select does not identify it.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            found = _fit(name, raw, select)
        except CalibrationError as error:
            if name != "temperature":
                raise
            return FittedCalibrator(Identity(), (f"probabilities stay uncalibrated: {error}",))
    calibrator, candidates = found
    notes = (*(str(w.message) for w in caught), *_about_ties(calibrator, raw))
    return FittedCalibrator(calibrator, notes, candidates)


def _fit(name: str, raw: Outputs, select: Rows) -> tuple[Calibrator, tuple[Candidate, ...]]:
    if name == "auto":
        choice = choose(raw.logits, select.y, folds=_folds(select))
        return choice.calibrator, choice.candidates
    kind = CALIBRATORS[name]
    if kind is Dirichlet or kind is MatrixScaling:
        return kind.fit(raw.logits, select.y, folds=_folds(select)), ()
    return kind.fit(raw.logits, select.y), ()


def _folds(select: Rows) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    groups = len(set(select.groups))
    if groups < 2:
        raise CalibrationError(
            "val_select has one group: cross-validation by group has nothing to hold out. Use "
            "the calibrator 'temperature' or 'platt', or regroup."
        )
    return np.asarray(folds_of(np.asarray(select.groups, dtype=object), min(_FOLDS, groups)))


def _about_ties(calibrator: Calibrator, raw: Outputs) -> tuple[str, ...]:
    if not isinstance(calibrator, Isotonic | Histogram):
        return ()
    confidence = calibrator.probabilities(raw.logits).max(axis=1)
    return (
        f"{calibrator.method} makes ties: the {len(confidence):,} images of val_select have "
        f"{len(np.unique(confidence)):,} different confidences. A threshold accepts or defers "
        "tied images together, so that less may be accepted than with another calibrator",
    )
