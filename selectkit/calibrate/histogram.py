"""Histogram binning: the share of hits in bins of equally many held-out samples.

Source: Zadrozny and Elkan (2001), "Obtaining calibrated probability estimates from decision trees
and naive Bayesian classifiers", ICML; for more than two classes one histogram per class against
the rest, and rows divided by their sums.

There are as many different probabilities as bins: **nearly all samples are tied**. A threshold
accepts or defers a whole bin, so coverage moves in large jumps, and a certificate can use few
thresholds only. Prefer another calibrator where samples are to be ranked.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from selectkit.arrays import ArrayLike
from selectkit.calibrate.curves import (
    Curve,
    curves_from,
    curves_to_lists,
    require_rows,
    rest_or_rows,
    versus_rest,
)
from selectkit.calibrate.door import Float64s, fitting_rows, log_odds, usable_logits

BINS = 15
FEWEST = 150
"""Rows: ten per bin."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """Constant within bins of the log-odds of a class.

    Attributes:
        curves: One per class, for two classes that of class 1: the lower edges of all bins but
            the first (ascending log-odds; an edge belongs to the bin above it), and the
            probability of every bin, (hits + 1) / (samples + 2).
    """

    method: ClassVar[str] = "histogram"
    curves: tuple[Curve, ...]

    @classmethod
    def fit(cls, logits: ArrayLike, labels: ArrayLike) -> Self:
        """Count hits in at most 15 bins of equally many samples; equal log-odds share a bin.

        Args:
            logits: Shape (N, K), finite, N >= 150.
            labels: Shape (N,), integers in [0, K), from the selection split.

        Returns:
            The calibrator.

        Raises:
            DataError: If a shape, a dtype or a value is wrong.
            CalibrationError: If there are fewer than 150 rows or all labels are equal.
        """
        z, y = fitting_rows(logits, labels)
        require_rows(len(y), FEWEST, "histogram binning")
        return cls(tuple(_curve(u, hit) for u, hit in versus_rest(log_odds(z), y)))

    def probabilities(self, logits: ArrayLike) -> Float64s:
        """Return the shares of the bins, rows divided by their sums.

        Args:
            logits: Shape (N, K), finite.

        Returns:
            Shape (N, K), float64, rows sum to one; no entry is 0 or 1.

        Raises:
            DataError: If the shape is wrong or an entry cannot be used.
        """
        odds = log_odds(usable_logits(logits))
        return rest_or_rows(self.curves, odds, _binned)

    def to_dict(self) -> dict[str, Any]:
        """Return method and parameters as JSON values."""
        return {"method": self.method, "parameters": curves_to_lists(self.curves)}

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Any]) -> Self:
        """Rebuild from `to_dict()["parameters"]`.

        Args:
            parameters: `knots` and `values`, a list of numbers per curve.

        Returns:
            The calibrator.

        Raises:
            ValueError: If they are no histograms.
            KeyError: If one is missing.
        """
        return cls(curves_from(parameters, extra=1))


def _binned(u: Float64s, edges: Float64s, shares: Float64s) -> Float64s:
    return np.asarray(shares[np.searchsorted(edges, u, side="right")])


def _curve(u: Float64s, hit: Float64s) -> Curve:
    n = len(u)
    ordered = np.sort(u)
    edges = np.unique(ordered[np.arange(1, BINS) * n // BINS])
    edges = edges[edges > ordered[0]]
    place = np.searchsorted(edges, u, side="right")
    count = np.bincount(place, minlength=len(edges) + 1)
    shares = (np.bincount(place, hit, len(edges) + 1) + 1) / (count + 2)
    return tuple(edges.tolist()), tuple(shares.tolist())
