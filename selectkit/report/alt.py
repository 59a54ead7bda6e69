"""Sentences that stand for the figures of a report, for those who do not see them."""

from math import isnan

import numpy as np

from selectkit.arrays import Bools, Ints
from selectkit.report.model import Curve, Reliability
from selectkit.report.wording import calibration_error, number, percent


def risk_coverage(curve: Curve) -> str:
    """Return the sentence that stands for the risk-coverage figure."""
    told = f"{curve.label} against coverage."
    if len(curve.risk) and not isnan(curve.risk[-1]):
        told += f" At full coverage it is {percent(float(curve.risk[-1]))}."
    if curve.point is not None:
        coverage, risk = curve.point
        told += f" The policy works at coverage {percent(coverage)}, risk {percent(risk)}."
    return told + (f" The target is {percent(curve.limit)}." if curve.limit is not None else "")


def generalized(curve: Curve, area: float) -> str:
    """Return the sentence that stands for the figure of the generalized risk."""
    told = "Share of all images that is wrong and decided, against coverage."
    if len(curve.risk) and not isnan(curve.risk[-1]):
        told += f" At full coverage it is {percent(float(curve.coverage[-1] * curve.risk[-1]))}."
    if curve.point is not None:
        coverage, risk = curve.point
        told += f" The policy works at coverage {percent(coverage)}: {percent(coverage * risk)}."
    return told + ("" if isnan(area) else f" The area below, AUGRC, is {number(area)}.")


def reliability(bins: Reliability) -> str:
    """Return the sentence that stands for the reliability diagram."""
    filled = np.flatnonzero(bins.count > 0)
    told = f"Reliability diagram with {len(filled)} filled bins. {calibration_error(bins)}"
    if not filled.size:
        return told
    gaps = bins.accuracy - bins.confidence
    worst = int(filled[np.argmax(abs(gaps[filled]))])
    return (
        f"{told} Largest gap: probability {percent(float(bins.confidence[worst]))}, "
        f"right {percent(float(bins.accuracy[worst]))} of {bins.count[worst]:,}."
    )


def scores(correct: Bools, accepted: Bools, threshold: float) -> str:
    """Return the sentence that stands for the score histograms."""
    at = "" if isnan(threshold) else f", threshold {number(threshold)}"
    return (
        f"Histograms of the score of right and of wrong predictions{at}. "
        f"Decided: {(accepted & correct).sum():,} right, "
        f"{(accepted & ~correct).sum():,} wrong. Deferred: {(~accepted & correct).sum():,} right, "
        f"{(~accepted & ~correct).sum():,} wrong."
    )


def confusion(matrix: Ints, classes: tuple[str, ...]) -> str:
    """Return the sentence that stands for the confusion matrix."""
    wrong = matrix * (1 - np.eye(len(matrix), dtype=np.int64))
    told = f"Confusion matrix: {np.trace(matrix):,} right and {wrong.sum():,} wrong."
    if not wrong.any():
        return told
    i, j = np.unravel_index(int(wrong.argmax()), wrong.shape)
    return f"{told} Most frequent mistake: {classes[i]} taken for {classes[j]}, {wrong[i, j]:,}."
