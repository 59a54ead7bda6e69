"""How often each (label, prediction, accepted) occurs: all that metrics of labels look at."""

from dataclasses import dataclass

import numpy as np

from selectkit.arrays import ArrayLike, Bools, Ints, regular_array
from selectkit.errors import DataError
from selectkit.metrics.bins import pieces
from selectkit.metrics.resample import codes_of, require_weights


@dataclass(frozen=True, slots=True)
class Outcomes:
    """The distinct outcomes of a sample, sorted by label.

    Attributes:
        label: Shape (C,), codes from 0 to K - 1 in the order of the original values.
        prediction: Shape (C,), codes likewise.
        accepted: Shape (C,).
        positive: Code of the positive class, -1 when it never occurs.
        n_codes: K, the number of values that occur as a label or a prediction.
        order: Shape (N,), rows sorted by outcome.
        starts: Shape (C,), where each outcome starts in `order`.
    """

    label: Ints
    prediction: Ints
    accepted: Bools
    positive: int
    n_codes: int
    order: Ints
    starts: Ints

    @classmethod
    def of(
        cls, labels: ArrayLike, predictions: ArrayLike, accepted: ArrayLike | None, positive: int
    ) -> "Outcomes":
        """Check the arrays and find the distinct outcomes.

        Args:
            labels: Shape (N,), integers.
            predictions: Shape (N,), integers.
            accepted: Shape (N,), booleans, or None for all.
            positive: The label of the positive class.

        Returns:
            The table of outcomes.

        Raises:
            DataError: If a shape or a dtype is wrong.
        """
        y, guess = _integers(labels, "labels"), _integers(predictions, "predictions")
        taken = np.ones(y.shape, dtype=np.bool_)
        if accepted is not None:
            taken = regular_array(accepted, "accepted")
        if taken.dtype != np.bool_:
            raise DataError(f"accepted must be booleans, got dtype {taken.dtype}.")
        if not y.shape == guess.shape == taken.shape:
            raise DataError(
                "labels, predictions and accepted must have one shape, "
                f"got {y.shape}, {guess.shape} and {taken.shape}."
            )
        values = np.union1d(np.unique(y), np.unique(guess))
        k = len(values)
        cell = np.empty(len(y), dtype=np.min_scalar_type(2 * k * k))
        for rows in pieces(len(y)):
            pair = codes_of(y[rows], values) * k + codes_of(guess[rows], values)
            cell[rows] = 2 * pair + taken[rows]
        order = np.argsort(cell, kind="stable")  # of 16 bits or less by radix
        cells = cell[order].astype(np.int64)
        starts = np.flatnonzero(np.append(True, cells[1:] != cells[:-1]))
        cells = cells[starts]
        place = np.flatnonzero(values == positive)
        return cls(
            label=cells // (2 * k),
            prediction=cells // 2 % k,
            accepted=(cells % 2).astype(np.bool_),
            positive=int(place[0]) if place.size else -1,
            n_codes=k,
            order=order,
            starts=starts,
        )

    def counts(self, weights: Ints | None) -> Ints:
        """Return how often each outcome occurs: (C,), or (B, C) for weights of shape (B, N)."""
        if weights is None:
            return np.diff(self.starts, append=len(self.order))
        require_weights(weights, len(self.order))
        each = np.take(weights, self.order, axis=-1).astype(np.int64)
        return np.asarray(np.add.reduceat(each, self.starts, axis=-1))


def _integers(values: ArrayLike, name: str) -> Ints:
    array = regular_array(values, name)
    if array.ndim != 1 or array.size == 0 or array.dtype.kind not in "iub":
        raise DataError(
            f"{name} must be integers of shape (N,) with N >= 1, "
            f"got dtype {array.dtype} and shape {array.shape}."
        )
    return array.astype(np.int64, copy=False)
