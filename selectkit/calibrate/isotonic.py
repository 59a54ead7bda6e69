"""Isotonic calibration: the non-decreasing curve that fits held-out labels best.

Source: Zadrozny and Elkan (2002), "Transforming classifier scores into accurate multiclass
probability estimates", KDD, https://doi.org/10.1145/775047.775151: pool adjacent violators; for
more than two classes one curve per class against the rest, and rows divided by their sums.

The curve is flat in places, so samples with different logits get the same probability: **it makes
ties in every confidence score computed from it**. A threshold accepts or defers all tied samples
together, so coverage moves in jumps, and the ranking (AUGRC, AUROC) loses what the ties hide.
"""

import warnings
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
from selectkit.errors import CalibrationError

FEWEST, RECOMMENDED = 100, 1000
"""Fewer rows are refused; fewer than recommended are fitted with a warning."""


@dataclass(frozen=True, slots=True)
class Isotonic:
    """Piecewise linear, non-decreasing in the log-odds of a class; ties are documented above.

    Attributes:
        curves: One per class, for two classes that of class 1: log-odds (ascending) and
            probabilities at them, within [1 / (N + 2), 1 - 1 / (N + 2)]; linear in between and
            constant beyond.
    """

    method: ClassVar[str] = "isotonic"
    curves: tuple[Curve, ...]

    @classmethod
    def fit(cls, logits: ArrayLike, labels: ArrayLike) -> Self:
        """Minimise the squared error (and the likelihood) over non-decreasing curves.

        Equal log-odds count as one sample with their mean label, so the order of rows is
        irrelevant.

        Args:
            logits: Shape (N, K), finite, N >= 100.
            labels: Shape (N,), integers in [0, K), from the selection split.

        Returns:
            The calibrator; below 1,000 rows after a warning.

        Raises:
            DataError: If a shape, a dtype or a value is wrong.
            CalibrationError: If there are fewer than 100 rows, all labels are equal, or the
                curves are constant: the logits are no better than chance.
        """
        z, y = fitting_rows(logits, labels)
        require_rows(len(y), FEWEST, "isotonic calibration")
        if len(y) < RECOMMENDED:
            warnings.warn(
                f"isotonic calibration on {len(y)} samples follows their noise; it wants "
                f"{RECOMMENDED:,} or more, 'temperature' or 'beta' do with less.",
                stacklevel=2,
            )
        curves = tuple(_curve(u, hit) for u, hit in versus_rest(log_odds(z), y))
        if all(len(set(values)) == 1 for _, values in curves):
            raise CalibrationError(
                f"the logits are no better than chance on these {len(y)} samples. Check that "
                "logits and labels share split and order."
            )
        return cls(curves)

    def probabilities(self, logits: ArrayLike) -> Float64s:
        """Return the curves' values, rows divided by their sums.

        Args:
            logits: Shape (N, K), finite.

        Returns:
            Shape (N, K), float64, rows sum to one; no entry is 0 or 1.

        Raises:
            DataError: If the shape is wrong or an entry cannot be used.
        """
        odds = log_odds(usable_logits(logits))
        return rest_or_rows(self.curves, odds, lambda u, knots, values: np.interp(u, knots, values))

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
            ValueError: If they are no curves.
            KeyError: If one is missing.
        """
        curves = curves_from(parameters, extra=0)
        if any(np.any(np.diff(values) < 0) for _, values in curves):
            raise ValueError("values must not decrease along a curve")
        return cls(curves)


def _curve(u: Float64s, hit: Float64s) -> Curve:
    from scipy.optimize import isotonic_regression

    n = len(u)
    unique, place, count = np.unique(u, return_inverse=True, return_counts=True)
    mean = np.bincount(place, hit) / count
    fitted = isotonic_regression(mean, weights=count.astype(np.float64)).x
    values = np.clip(fitted, 1 / (n + 2), 1 - 1 / (n + 2))
    edge = np.diff(values) != 0
    keep = np.r_[True, edge] | np.r_[edge, True]
    return tuple(unique[keep].tolist()), tuple(values[keep].tolist())
