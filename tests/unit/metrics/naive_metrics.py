"""Metrics in their plainest form, O(n^2) and slow, which the fast ones are held against."""

from itertools import pairwise
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Labels: TypeAlias = npt.NDArray[np.int64]


def curve(s: Floats, ell: Floats) -> list[tuple[float, float, float]]:
    """Coverage, selective risk and generalized risk at every distinct confidence, from the top."""
    points = []
    for threshold in sorted(set(s.tolist()), reverse=True):
        accepted = ell[s >= threshold]
        points.append((len(accepted) / len(s), float(accepted.mean()), accepted.sum() / len(s)))
    return points


def area(points: list[tuple[float, float]]) -> float:
    """Trapezoid rule."""
    return float(sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in pairwise(points)))


def aurc(s: Floats, ell: Floats) -> float:
    points = [(c, r) for c, r, _ in curve(s, ell)]
    return area([(0.0, points[0][1]), *points])


def augrc(s: Floats, ell: Floats) -> float:
    return area([(0.0, 0.0), *((c, g) for c, _, g in curve(s, ell))])


def aurc_mean(s: Floats, ell: Floats) -> float:
    """Sum of loss times the expected 1 / rank of all that follow, over random order in ties."""
    n = len(s)
    tail = np.cumsum((1 / np.arange(1, n + 1))[::-1])[::-1]  # sum of 1 / k for k >= rank
    total = 0.0
    for value, loss in zip(s, ell, strict=True):
        above, equal = int((s > value).sum()), int((s == value).sum())
        total += loss * tail[above : above + equal].mean()
    return total / n


def auroc(positive: Floats, negative: Floats) -> float:
    """P(positive > negative) + P(equal) / 2 over all pairs."""
    one, other = positive[:, None], negative[None, :]
    return float(((one > other) + 0.5 * (one == other)).mean())


def aurc_balanced(s: Floats, ell: Floats, y: Labels) -> float:
    """As published: mean over classes of the mean loss among their accepted, 0 where none is."""
    points = []
    for threshold in sorted(set(s.tolist()), reverse=True):
        parts = [ell[(s >= threshold) & (y == c)] for c in np.unique(y)]
        risk = np.mean([part.mean() if len(part) else 0.0 for part in parts])
        points.append((float((s >= threshold).mean()), float(risk)))
    return area([(0.0, points[0][1]), *points])


def augrc_balanced(s: Floats, ell: Floats, y: Labels) -> float:
    """As published: losses times N / (K N_c)."""
    classes = np.unique(y)
    weight = np.array([len(y) / (len(classes) * (y == c).sum()) for c in y])
    return augrc(s, ell * weight)


def ece(confidence: Floats, right: Floats, n_bins: int) -> float:
    """Right-closed bins, 0 in the first."""
    total = 0.0
    for k in range(n_bins):
        low, high = k / n_bins, (k + 1) / n_bins
        inside = (confidence > low) & (confidence <= high)
        if k == 0:
            inside |= confidence == 0
        total += abs((confidence[inside] - right[inside]).sum())
    return total / len(confidence)


def mass_bins(confidence: Floats, n_bins: int) -> list[npt.NDArray[np.bool_]]:
    """Ranks cut into bins of nearly equal count; equal values go where the first of them lies."""
    n = len(confidence)
    ends = np.cumsum([n // n_bins + (b < n % n_bins) for b in range(n_bins)])
    first = np.array([int((confidence < c).sum()) for c in confidence])
    bins = np.array([int(np.argmax(ends > rank)) for rank in first])
    return [bins == b for b in range(n_bins) if (bins == b).any()]


def ece_mass(confidence: Floats, right: Floats, n_bins: int) -> float:
    bins = mass_bins(confidence, n_bins)
    return float(sum(abs((confidence[b] - right[b]).sum()) for b in bins) / len(confidence))
